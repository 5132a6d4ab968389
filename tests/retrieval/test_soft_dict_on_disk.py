"""SoftDict.save and SoftDict.open: the same dictionary, without embedding again."""

import numpy as np
import pytest

import atento
from atento import SoftDict
from atento.retrieval.index import Index
from atento.retrieval.keys import HeldKeys

STORY = {"méxico": 7, "alemania": 10, "inglaterra": 8, "perro": 5}


class Counting:
    name = "counting"
    version = "1"

    def __init__(self):
        self.asked = 0

    def __call__(self, texts):
        self.asked += len(texts)
        return np.array([[len(text), 1.0, text.count("a")] for text in texts])


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
@pytest.mark.parametrize(
    "pairs",
    [
        STORY,
        {"a": np.arange(3.0), "b": np.ones(3)},
        {"a": "object", "b": None},
        {(1.0, 2.0): 3, (4.0, 5.5): 6},
        {1.5: 2, 3.0: 4, 7: 8},
    ],
)
def test_what_is_opened_is_what_was_saved(tmp_path, pairs, dtype):
    lookup = SoftDict(pairs, temperature=0.3, dtype=dtype)
    query = next(iter(pairs))
    if len(pairs) > 2:  # rows are in another order than keys
        lookup.attend(query)
        first = lookup.pop(query)
        lookup[query] = first
    lookup.save(tmp_path / "index")
    opened = SoftDict.open(tmp_path / "index")
    assert list(opened) == list(lookup)
    assert opened == lookup
    assert (opened.temperature, opened.similarity) == (0.3, lookup.similarity)
    one, other = lookup.attend(query), opened.attend(query)
    assert other.weights == pytest.approx(dict(one.weights), rel=1e-6)
    assert other.lse == pytest.approx(one.lse)
    if one.mean is not None:
        np.testing.assert_allclose(other.value, one.value, rtol=1e-6)


def test_vectors_stay_on_disk_until_something_changes_and_nothing_is_embedded(tmp_path):
    embed = Counting()
    SoftDict({"a": 1, "bb": 2, "ccc": 3}, embed=embed).save(tmp_path / "index")
    assert embed.asked == 3
    opened = SoftDict.open(tmp_path / "index", embed=embed)
    assert not isinstance(opened._held.keys, HeldKeys)
    assert opened.attend("a", temperature=0).value == 1
    assert embed.asked == 4
    opened["dddd"] = 4
    del opened["a"]
    assert opened.attend("dddd", temperature=0).value == 4
    assert isinstance(opened._held.keys, HeldKeys)
    assert embed.asked == 6
    assert SoftDict.open(tmp_path / "index", embed=embed) == {"a": 1, "bb": 2, "ccc": 3}
    assert opened.copy().attend("bb", temperature=0).value == 2


def test_what_cannot_be_saved_or_opened(tmp_path):
    with pytest.raises(atento.InputError, match="the dictionary is empty"):
        SoftDict().save(tmp_path / "index")
    with pytest.raises(atento.InputError):
        SoftDict({"a": object()}).save(tmp_path / "index")
    with pytest.raises(atento.InputError):
        SoftDict.open(tmp_path / "nowhere")
    SoftDict(STORY).save(tmp_path / "index")
    with pytest.raises(atento.InputError):
        SoftDict(STORY).save(tmp_path / "index")
    SoftDict({"a": 1}).save(tmp_path / "index", replace=True)
    assert SoftDict.open(tmp_path / "index") == {"a": 1}
    with pytest.raises(atento.InputError, match="was made by the embedder mini"):
        SoftDict.open(tmp_path / "index", embed=Counting())
    Index.build(tmp_path / "twice", ["a", "b", "a"], [1, 2, 3], embedder="mini")
    with pytest.raises(atento.InputError, match="holds the key 'a' more than once"):
        SoftDict.open(tmp_path / "twice")


def test_an_index_that_no_dictionary_wrote(tmp_path):
    Index.build(tmp_path / "texts", list(STORY), list(STORY.values()), embedder="mini")
    opened = SoftDict.open(tmp_path / "texts")
    assert opened == STORY
    assert opened.attend("país").value == pytest.approx(SoftDict(STORY).attend("país").value)
    Index.build(tmp_path / "vectors", vectors=np.eye(3), values=[1, 2, 3])
    assert SoftDict.open(tmp_path / "vectors")[0.0, 1.0, 0.0] == 2
    Index.build(tmp_path / "keys", ["a", "b"], embedder="mini")
    assert dict(SoftDict.open(tmp_path / "keys")) == {"a": None, "b": None}
