"""The index on disk: what went in comes out, and what is damaged is refused in one line."""

import json
import math
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import atento
from atento import _locking as locking
from atento.retrieval.index import Index
from atento.retrieval.index_writing import AT_ONCE
from atento.retrieval.keys import HeldKeys
from atento.retrieval.stored_values import from_json, to_json

RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(11, 7)).astype(np.float32)
KEYS = [f"key {row} ñ" for row in range(11)]
VALUES = [{"page": row, "of": [1.5, None]} for row in range(11)]


def letters(texts):
    return np.array([[text.count("a") + 0.5, len(text), 1.0] for text in texts])


@pytest.fixture
def built(tmp_path):
    """Three segments of 5, 4 and 2 rows."""
    index = Index.build(tmp_path / "index", KEYS[:5], VALUES[:5], vectors=VECTORS[:5])
    index.add(KEYS[5:9], VALUES[5:9], vectors=VECTORS[5:9])
    index.add(KEYS[9:], VALUES[9:], vectors=VECTORS[9:])
    return index


def test_what_went_in_comes_out(built):
    for index in (built, Index.open(built.folder)):
        assert len(index) == index.keys.size == 11
        np.testing.assert_array_equal(index.keys.block(0, 11), VECTORS)
        np.testing.assert_array_equal(index.keys.rows(np.array([10, 0, 6])), VECTORS[[10, 0, 6]])
        assert list(index.texts) == KEYS
        assert [index.value(row) for row in range(11)] == VALUES
        assert index.texts[-1] == KEYS[-1]
        assert index.texts[3:10:3] == KEYS[3:10:3]
        assert list(index.values) == VALUES
        with pytest.raises(IndexError):
            index.texts[11]


@pytest.mark.parametrize(
    ("dtype", "bound"), [("float32", 0), ("float64", 0), ("float16", 2**-11), ("int8", None)]
)
def test_every_dtype(tmp_path, dtype, bound):
    vectors = VECTORS.astype(np.float64) if dtype == "float64" else VECTORS
    index = Index.build(tmp_path, KEYS, vectors=vectors, dtype=dtype)
    index.add(KEYS, vectors=2 * vectors)
    held = index.keys.block(0, 22).astype(np.float64)
    wanted = np.concatenate([vectors, 2 * vectors]).astype(np.float64)
    info = index.info(check=True)
    assert (info["dtype"], info["size"], info["dim"], info["segments"]) == (dtype, 22, 7, 2)
    if bound is None:
        off = np.linalg.norm(held - wanted, axis=1).max()
        assert 0 < off <= info["error"] * (1 + 1e-6)
        assert info["error"] < 0.05
    else:
        np.testing.assert_allclose(held, wanted, rtol=bound, atol=0)
        assert info["error"] == 0


def test_keys_that_are_the_vectors_and_no_values(tmp_path):
    index = Index.build(tmp_path, vectors=[[1, 2], [3, 4]], settings={"temperature": 0.5})
    assert index.texts is None
    assert index.values is None
    assert index.value(1) is None
    assert Index.open(tmp_path).settings == {"temperature": 0.5}
    np.testing.assert_array_equal(index.keys.block(0, 2), [[1, 2], [3, 4]])
    with pytest.raises(atento.InputError, match="nobody is known who made the vectors"):
        index.embedder  # noqa: B018


def test_keys_of_a_held_dictionary_are_taken(tmp_path):
    held = HeldKeys(VECTORS)
    index = Index.build(tmp_path, iter(KEYS), (value for value in VALUES), vectors=held)
    np.testing.assert_array_equal(index.keys.block(0, 11), VECTORS)
    assert list(index.texts) == KEYS


def test_nothing_in_it_yet(tmp_path):
    index = Index.build(tmp_path, [], [], embedder="mini")
    assert (len(index), index.keys.size, index.keys.dim, list(index.texts)) == (0, 0, 128, [])
    index.add([], [])
    index.add(["país"], [7])
    assert list(Index.open(tmp_path).texts) == ["país"]


def test_more_rows_than_are_written_at_a_time(tmp_path):
    many = AT_ONCE + 13
    index = Index.build(
        tmp_path, range(many), [-row for row in range(many)], vectors=np.ones((many, 1))
    )
    assert index.info()["segments"] == 1
    assert list(index.texts) == list(range(many))
    assert index.value(many - 1) == 1 - many


# --- values


VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(), inner, max_size=3)
        | st.dictionaries(st.just("atento") | st.integers(), inner, max_size=3)
    ),
    max_leaves=9,
)


def alike(one, other):
    if isinstance(one, float) and isinstance(other, float):
        return math.copysign(1, one) == math.copysign(1, other) and (
            one == other or (math.isnan(one) and math.isnan(other))
        )
    if type(one) is not type(other):
        return False
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(alike(one[key], other[key]) for key in one)
    return one == other


@given(VALUE)
def test_a_value_comes_back_as_it_was(value):
    line = to_json(value)
    assert b"\n" not in line
    json.loads(line, parse_constant=lambda name: pytest.fail(name))  # strict JSON
    back = from_json(line)
    assert math.isnan(back) if isinstance(value, float) and value != value else alike(back, value)


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<f2", "|i1", ">u4", "?", "<c8"])
def test_an_array_comes_back_as_it_was(dtype):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    back = from_json(to_json(array))
    np.testing.assert_array_equal(back, array)
    assert back.dtype == array.dtype.newbyteorder("=")
    back[0, 0] = 1  # its own memory
    scalar = from_json(to_json(array[1, 2]))
    assert (type(scalar), scalar) == (array.astype(back.dtype)[1, 2].__class__, array[1, 2])


def within_itself():
    value = []
    value.append(value)
    return value


@pytest.mark.parametrize("value", [object(), {1, 2}, np.array(["a"]), 1 + 2j, within_itself()])
def test_what_no_file_can_hold_is_refused_and_nothing_is_left(tmp_path, value):
    folder = tmp_path / "index"
    with pytest.raises(atento.InputError, match=r"of an index is nested|cannot be stored"):
        Index.build(folder, ["a", "b"], [1, value], vectors=[[1.0], [2.0]])
    assert [file.name for file in folder.iterdir()] == [locking.LOCK]
    Index.build(folder, ["a"], [1], vectors=[[1.0]])
    with pytest.raises(atento.InputError):
        Index.open(folder).add(["b"], [value], vectors=[[1.0]])
    assert len(list(folder.iterdir())) == 7
    assert len(Index.open(folder)) == 1


def test_a_key_of_ten_megabytes_and_marks_of_all_scripts(tmp_path):
    keys = ["x" * 10_000_000, "\ud800", "\0\n\u2028", "שלום", "n\u0303", "\u202e"]
    Index.build(tmp_path, keys, keys, vectors=np.eye(6))
    index = Index.open(tmp_path)
    assert list(index.texts) == list(index.values) == keys


# --- embedders


def test_the_embedder_is_found_by_its_name(tmp_path):
    Index.build(tmp_path, ["país", "perro"], [7, 5])
    index = Index.open(tmp_path)
    assert (index.info()["embedder"], index.embedder.name) == ("mini", "mini")
    index.add(["méxico"], [10])
    np.testing.assert_allclose(
        index.keys.block(0, 3), index.embedder(["país", "perro", "méxico"]), atol=1e-6
    )


def test_another_embedder_is_refused(tmp_path):
    Index.build(tmp_path, ["país"])
    with pytest.raises(atento.InputError, match=r"was made by the embedder mini \(sha256:"):
        Index.open(tmp_path, embedder=letters)
    Index.open(tmp_path, embedder="mini")


def test_a_model_that_changed_is_refused(tmp_path, monkeypatch):
    Index.build(tmp_path, ["país"])
    from atento.retrieval import embedders

    monkeypatch.setattr(embedders, "hash_of", lambda _files: "sha256:other")
    with pytest.raises(atento.InputError, match="their vectors cannot be compared"):
        Index.open(tmp_path).add(["perro"])
    assert len(Index.open(tmp_path)) == 1


def test_a_function_has_to_be_given_again(tmp_path):
    Index.build(tmp_path, ["banana"], embedder=letters)
    with pytest.raises(atento.InputError, match=r"the function .*letters, which cannot be found"):
        Index.open(tmp_path).add(["a"])
    with pytest.raises(atento.InputError, match=r"was made by the embedder .*letters"):
        Index.open(tmp_path, embedder="mini")
    index = Index.open(tmp_path, embedder=letters)
    index.add(["casa"])
    np.testing.assert_allclose(np.linalg.norm(index.keys.block(0, 2), axis=1), 1, rtol=1e-6)


# --- bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "an index needs keys or vectors"),
        ({"keys": ["a"], "vectors": VECTORS}, "there are 1 keys and 11 vectors: each needs one."),
        ({"keys": KEYS, "values": [1], "vectors": VECTORS}, "there are 1 values and 11 vectors"),
        ({"keys": ["a", "b"], "values": [1]}, "there are 1 values and 2 keys"),
        ({"keys": "abc", "vectors": VECTORS}, "keys must be a sequence with one for each row"),
        ({"vectors": [[1.0], [np.nan]]}, "vectors holds NaN or ∞ in row 1"),
        ({"vectors": [1.0]}, "vectors must have two axes"),
        ({"vectors": [["a"]]}, "vectors"),
        ({"vectors": [[1e6]], "dtype": "float16"}, "numbers that float16 cannot hold"),
        ({"vectors": [[1e300]], "dtype": "float32"}, "numbers that float32 cannot hold"),
        ({"vectors": VECTORS, "dtype": "int4"}, "dtype must be one of float32, float16, int8"),
        ({"vectors": VECTORS, "settings": {"a": object()}}, "settings must be plain JSON"),
        ({"keys": ["a", ""]}, "text 2 of 2 is empty"),
        ({"keys": [1, 2]}, "text 1 of 2 must be a string"),
    ],
)
def test_parts_that_do_not_fit(tmp_path, arguments, message):
    with pytest.raises(atento.AtentoError) as caught:
        Index.build(tmp_path / "index", **arguments)
    assert message in str(caught.value)
    with pytest.raises(atento.InputError, match="is no index"):
        Index.open(tmp_path / "index")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"keys": ["a"], "vectors": VECTORS[:1]}, "this index has values: give values=."),
        ({"values": [1], "vectors": VECTORS[:1]}, "this index has keys: give keys=."),
        ({"keys": ["a"], "values": [1], "vectors": VECTORS[:1, :5]}, "must be made"),
        ({"keys": ["a"], "values": [1]}, "nobody is known who made the vectors"),
    ],
)
def test_rows_that_do_not_fit(built, arguments, message):
    with pytest.raises(atento.InputError) as caught:
        built.add(**arguments)
    assert message in str(caught.value)
    assert len(Index.open(built.folder)) == 11


def test_rows_too_many_for_what_the_index_has(tmp_path):
    index = Index.build(tmp_path, vectors=VECTORS)
    with pytest.raises(atento.InputError, match=r"this index has no keys: leave out keys=\."):
        index.add(["a"], vectors=VECTORS[:1])


def test_a_folder_with_something_else_is_left_alone(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(atento.InputError, match=r"holds 'letter\.txt', which is not part of"):
        Index.build(tmp_path, KEYS, vectors=VECTORS, replace=True)
    with pytest.raises(atento.InputError, match="is no index"):
        Index.open(tmp_path)


def test_an_index_is_replaced_only_where_that_is_allowed(built):
    with pytest.raises(atento.InputError, match="holds an index already"):
        Index.build(built.folder, ["a"], vectors=[[1.0]])
    again = Index.build(built.folder, ["a"], vectors=[[1.0]], replace=True)
    assert list(again.texts) == ["a"]
    assert len(list(built.folder.iterdir())) == 5  # of the old one nothing is left
    np.testing.assert_array_equal(built.keys.block(0, 11), VECTORS)  # whoever had it open reads on
    assert list(built.texts) == KEYS


def test_a_damaged_index_can_be_replaced(built):
    (built.folder / "index.json").write_text("{")
    again = Index.build(built.folder, ["a"], vectors=[[1.0]], replace=True)
    assert list(Index.open(built.folder).texts) == list(again.texts) == ["a"]


def test_truncation_anywhere_is_refused_in_one_line(built, tmp_path):
    rng = np.random.default_rng(2)
    files = sorted(file for file in built.folder.iterdir() if file.name != locking.LOCK)
    assert len(files) == 16
    for file in files:
        content = file.read_bytes()
        offsets = set(rng.integers(0, len(content), 40).tolist()) | {0, 1, len(content) - 1}
        if file.name == "index.json":
            offsets = range(len(content))
        for offset in offsets:
            file.write_bytes(content[:offset])
            with pytest.raises(atento.InputError) as caught:
                Index.open(built.folder)
            message = str(caught.value)
            assert file.name in message or "is no index" in message
            assert "\n" not in message
        file.write_bytes(content + b"\0")
        with pytest.raises(atento.InputError):
            Index.open(built.folder)
        file.unlink()
        with pytest.raises(atento.InputError, match=r"is missing|is no index"):
            Index.open(built.folder)
        file.write_bytes(content)
    assert len(Index.open(built.folder)) == 11


def test_a_changed_byte_is_found(built):
    rng = np.random.default_rng(3)
    for file in sorted(built.folder.iterdir()):
        content = file.read_bytes()
        for at in rng.integers(0, len(content), 12) if file.name != locking.LOCK else ():
            harmed = bytearray(content)
            harmed[at] ^= int(rng.integers(1, 256))
            file.write_bytes(harmed)
            with pytest.raises(atento.InputError, match=r"damaged|does not hold|version|is no"):
                Index.open(built.folder).info(check=True)
        file.write_bytes(content)
    assert built.info(check=True)["size"] == 11


def test_a_damaged_line_is_told_when_it_is_read(built):
    file = min(built.folder.glob("*.values.jsonl"))
    content = file.read_bytes()
    file.write_bytes(content.replace(b'"page": 3', b'"page": }'))
    index = Index.open(built.folder)
    with pytest.raises(atento.InputError, match=r"values\.jsonl is damaged at row 3"):
        list(index.values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "is an index of version 2, and this atento reads version 1."),
        ({"format": "other"}, "index.json is damaged"),
        ({"checksum": "0"}, "index.json is damaged"),
        ({"index": {}}, "index.json is damaged"),
        ({"index": None}, "index.json is damaged"),
    ],
)
def test_another_version_or_kind(built, change, message):
    file = built.folder / "index.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(atento.InputError) as caught:
        Index.open(built.folder)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "content", ["", "[]", "null", "7", "[" * 100_000, '{"format": 1}', "\ufeff{}"]
)
def test_a_manifest_that_is_none(built, content):
    (built.folder / "index.json").write_text(content)
    with pytest.raises(atento.InputError, match=r"index\.json is damaged"):
        Index.open(built.folder)


def test_no_folder_or_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "none", tmp_path / "file"):
        with pytest.raises(atento.InputError, match="is no index: it has no index"):
            Index.open(path)


def test_a_copy_elsewhere_opens(built, tmp_path):
    shutil.copytree(built.folder, tmp_path / "copy")
    np.testing.assert_array_equal(Index.open(tmp_path / "copy").keys.block(0, 11), VECTORS)
