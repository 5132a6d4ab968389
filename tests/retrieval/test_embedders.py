"""Embedders: the embedded model, functions of the user, and what is no text."""

import io
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import atento
from atento.embedded import load_mini
from atento.retrieval.embedders import UNVERSIONED, embedder, same
from atento.retrieval.embedding import Embedder, unit_rows

WORDS = ["méxico", "alemania", "inglaterra", "perro"]


@pytest.fixture(scope="module")
def mini():
    return embedder()


def test_the_embedded_model_gives_unit_vectors_of_meaning(mini):
    rows = mini(["país", *WORDS])
    assert (rows.shape, rows.dtype) == ((5, 128), np.float32)
    np.testing.assert_allclose(np.linalg.norm(rows.astype(np.float64), axis=1), 1, atol=1e-6)
    given_by_model = load_mini().vectors(["país", *WORDS]).astype(np.float64)
    np.testing.assert_allclose(rows, given_by_model * np.sqrt(0.1), atol=1e-6)
    assert WORDS[int((rows[1:] @ rows[0]).argmin())] == "perro"
    assert isinstance(mini, Embedder)
    assert (mini.name, mini.dim, mini.truncated) == ("mini", 128, 0)
    assert mini.version == embedder("mini").version
    assert mini.version.startswith("sha256:")


def test_order_repeats_and_batches_change_nothing(mini):
    rng = np.random.default_rng(0)
    words = ["the journey begins", "perro", "one step", "a", "país", "house and garden with dogs"]
    texts = [words[at % 6] + " x" * int(more) for at, more in rng.integers(0, 18, (211, 2))]
    assert 64 < len(set(texts)) < 211  # more than a batch, and some of them twice
    rows = mini(texts)
    one_by_one = {text: mini([text])[0] for text in set(texts)}
    np.testing.assert_allclose(rows, [one_by_one[text] for text in texts], atol=2e-6)
    assert mini([]).shape == (0, 128)


@pytest.mark.parametrize(
    "text",
    [
        "step " * 400,
        "internationalisation " * 90,
        "x" * 99 + " " + "y" * 3000,
        "word" + " " * 5000 + "step " * 127,
    ],
)
def test_of_a_long_text_the_beginning_is_read_and_it_is_counted(text):
    read = embedder()
    model = load_mini()
    encoding = model.tokenizer.encode(text)
    if len(encoding) <= 127:
        assert read([text, "short"]).shape == (2, 128)
        assert read.truncated == 0
        return
    beginning = text[: encoding.spans[126][1]]
    assert model.tokenizer.encode(beginning).ids == encoding.ids[:127]
    rows = read([text, "short"])
    np.testing.assert_allclose(rows[0], unit_rows(model.vectors([beginning]))[0], atol=1e-6)
    assert read.truncated == 1


def test_a_text_of_ten_megabytes_is_read_from_its_beginning(mini):
    before = mini.truncated
    rows = mini(["perro " * 1_700_000, "perro " * 127])
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-6)
    assert mini.truncated == before + 1


@pytest.mark.parametrize(
    "text", ["\0", "\ud800", "שלום עולם", "n\u0303andú", "\u202eabc", "😀", "\u200b", "a\0b"]
)
def test_any_visible_text_has_a_vector(mini, text):
    rows = mini([text])
    np.testing.assert_allclose(np.linalg.norm(rows.astype(np.float64)), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("país", "texts must be a sequence of strings; got one str. Write [text]."),
        (["a", 7], "text 2 of 2 must be a string; got int. Convert it with str()."),
        (["a", None, ""], "text 2 of 3 must be a string; got NoneType."),
        (["a", ""], "text 2 of 2 is empty: there is nothing to compare."),
        ([" \t\n"], "text 1 of 1 is empty"),
    ],
)
def test_what_is_no_text_is_refused(mini, texts, message):
    for read in (mini, embedder(lambda some: np.ones((len(some), 2)))):
        with pytest.raises(atento.InputError) as caught:
            read(texts)
        assert str(caught.value).startswith(message)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_long_work_shows_a_bar_where_somebody_looks(mini, monkeypatch):
    texts = [f"word {number}" for number in range(200)]
    seen = Terminal()
    monkeypatch.setattr(sys, "stderr", seen)
    mini(texts)
    assert "200/200" in seen.getvalue()
    for others, text in ((io.StringIO(), texts), (Terminal(), texts[:100])):
        monkeypatch.setattr(sys, "stderr", others)
        mini(text)
        assert others.getvalue() == ""


# --- functions


def lengths(texts):
    return [[len(text), 1.0] for text in texts]


def test_a_function_gives_unit_rows_under_its_own_name():
    read = embedder(lengths)
    np.testing.assert_allclose(read(["aaa", "a"]), unit_rows(np.array([[3.0, 1], [1, 1]])))
    assert read.name.endswith("test_embedders.lengths")
    assert (read.version, read.dim) == (UNVERSIONED, 2)
    assert read([]).shape == (0, 2)


def test_a_function_may_say_name_and_version_and_give_tensors():
    class Own:
        name, version = "own", 3

        def __call__(self, texts):
            return torch.ones(len(texts), 5, dtype=torch.float16, requires_grad=False)

    read = embedder(Own())
    assert (read.name, read.version, read.dim) == ("own", "3", 5)
    np.testing.assert_allclose(read(["x"]), np.full((1, 5), 5**-0.5), rtol=1e-6)


def test_an_embedder_is_taken_as_it_is(mini):
    assert embedder(mini) is mini


def test_a_row_of_zeros_stays_and_large_numbers_do_not_overflow():
    rows = unit_rows(np.array([[0.0, 0], [1e200, 1e200], [1e-200, 0]]))
    np.testing.assert_allclose(rows, [[0, 0], [0.5**0.5, 0.5**0.5], [1, 0]], rtol=1e-6)
    large = np.array([[3e38, 3e38]], np.float32)
    np.testing.assert_allclose(unit_rows(large), [[0.5**0.5] * 2], rtol=1e-6)


@given(st.lists(st.lists(st.floats(-1e30, 1e30), min_size=3, max_size=3), min_size=1))
def test_unit_rows_have_length_one(rows):
    units = unit_rows(np.array(rows)).astype(np.float64)
    lengths = np.linalg.norm(units, axis=1)
    nothing = ~np.array(rows).any(axis=1)
    np.testing.assert_allclose(lengths[~nothing], 1, atol=1e-6)
    assert not units[nothing].any()


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda texts: np.ones(len(texts)), "one row of numbers per text, shape (2, dim)"),
        (lambda texts: np.ones((len(texts) + 1, 3)), "of shape (3, 3) and float64."),
        (lambda _texts: [[1.0], [1.0, 2.0]], "got list of shape (0,)"),
        (lambda _texts: [["a"], ["b"]], "one row of numbers"),
        (lambda texts: np.ones((len(texts), 0)), "one row of numbers"),
        (lambda _texts: None, "got NoneType of shape ()"),
        (lambda _texts: np.array([[1.0], [np.nan]]), "NaN or infinity for text 2 of 2"),
        (lambda _texts: np.array([[np.inf], [1]]), "NaN or infinity for text 1 of 2"),
    ],
)
def test_a_function_is_held_to_its_word(function, message):
    with pytest.raises(atento.InputError) as caught:
        embedder(function)(["a", "b"])
    assert message in str(caught.value)


def test_a_function_must_give_rows_of_the_same_length_each_time():
    read = embedder(lambda texts: np.ones((len(texts), len(texts))))
    read(["a", "b"])
    with pytest.raises(atento.ShapeError, match="returned rows of 3 numbers and before of 2"):
        read(["a", "b", "c"])


@pytest.mark.parametrize("given", [7, b"mini", ["mini"], int])
def test_what_is_no_embedder_is_refused(given):
    with pytest.raises(atento.InputError, match="embed must be None"):
        embedder(given)


def test_the_same_embedder_is_known_by_its_version():
    one, other = embedder(lengths), embedder("mini")
    assert same(one.name, UNVERSIONED, one)
    assert not same("another", UNVERSIONED, one)
    assert same("moved", other.version, other)
    assert not same("mini", "sha256:0", other)
