"""Keys in memory, in files, and joined."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atento import AtentoError
from atento.retrieval.keys import HeldKeys, JoinedKeys, as_vectors, quantized
from atento.retrieval.mapped_keys import MappedKeys
from atento.retrieval.scan import scan


def vectors(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def whole(keys):
    return keys.block(0, keys.size)


# --- in memory


@given(st.data())
@settings(deadline=None, max_examples=80)
def test_held_keys_are_a_list(data):
    """Against a list of rows: append, replace, and drop by the last one's move."""
    keys, model = HeldKeys(dim=2), []
    numbers = st.integers(-1000, 1000).map(float)
    for _ in range(data.draw(st.integers(0, 30))):
        step = data.draw(st.sampled_from(["append", "append", "replace", "drop"]))
        row = data.draw(st.integers(0, len(model) - 1)) if model else None
        if step == "append" or row is None:
            new = data.draw(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=70))
            assert keys.append(np.array(new)) == len(model)
            model += new
        elif step == "replace":
            model[row] = (data.draw(numbers), data.draw(numbers))
            keys.replace(row, np.array(model[row]))
        else:
            moved = keys.drop(row)
            assert moved == (None if row == len(model) - 1 else len(model) - 1)
            model[row] = model[-1]
            model.pop()
        assert keys.size == len(model)
        np.testing.assert_array_equal(whole(keys), np.array(model).reshape(-1, 2))


@pytest.mark.parametrize(
    ("held", "read"), [("float32", "float32"), ("float64", "float64"), ("float16", "float32")]
)
def test_dtypes(held, read):
    given_keys = vectors(100, 3)
    keys = HeldKeys(given_keys, dtype=held)
    for rows in (whole(keys), keys.rows(np.arange(100))):
        assert rows.dtype == read
        np.testing.assert_array_equal(rows, given_keys.astype(held))


def test_a_block_is_a_view_and_rows_are_a_copy():
    keys = HeldKeys(vectors(10, 3))
    assert np.shares_memory(keys.block(2, 5), whole(keys))
    assert not np.shares_memory(keys.rows(np.arange(10)), whole(keys))


def test_what_was_given_is_copied():
    mine = vectors(10, 3)
    keys = HeldKeys(mine)
    mine[:] = 7
    assert not (whole(keys) == 7).any()


def test_growth_takes_few_copies():
    keys = HeldKeys(dim=3)
    capacities = set()
    for _ in range(3000):
        keys.append(vectors(1, 3))
        capacities.add(len(keys._rows))
    assert len(capacities) <= 8


# --- joined


def test_joined_keys_are_one_after_the_other():
    parts = [vectors(n, 4, seed=n) for n in (3, 0, 5, 1)]
    keys, all_rows = JoinedKeys([HeldKeys(p, dim=4) for p in parts]), np.concatenate(parts)
    assert (keys.size, keys.dim) == (9, 4)
    for start in range(10):
        for stop in range(start, 10):
            np.testing.assert_array_equal(keys.block(start, stop), all_rows[start:stop])
            out = np.empty((9, 4), np.float32)
            np.testing.assert_array_equal(keys.block(start, stop, out), all_rows[start:stop])
    indices = np.array([8, 0, 3, 3, 7, 2])
    np.testing.assert_array_equal(keys.rows(indices), all_rows[indices])
    assert np.shares_memory(keys.block(3, 8), whole(keys.parts[2]))


def test_joined_keys_of_different_dtypes(tmp_path):
    rows = vectors(600, 8)
    parts = [
        HeldKeys(rows[:250]),
        written(tmp_path / "half", rows[250:400], "float16"),
        written(tmp_path / "bytes", rows[400:], "int8"),
    ]
    keys = JoinedKeys(parts)
    expected = np.concatenate([whole(part) for part in parts])
    np.testing.assert_array_equal(whole(keys), expected)
    np.testing.assert_array_equal(keys.rows(np.arange(600)[::-1]), expected[::-1])
    found, plain = (scan(vectors(3, 8, seed=1), k, scale=1.0) for k in (keys, HeldKeys(expected)))
    np.testing.assert_array_equal(found.rows, plain.rows)
    np.testing.assert_allclose(found.weights, plain.weights, rtol=1e-6)


# --- in a file


def written(path, rows, dtype, before=b""):
    """A file as `MappedKeys` reads it."""
    if dtype == "int8":
        rows, scales, _ = quantized(rows)
        path.with_suffix(".scales").write_bytes(scales.astype("<f4").tobytes())
    stored = {"float32": "<f4", "float64": "<f8", "float16": "<f2", "int8": "i1"}[dtype]
    path.write_bytes(before + rows.astype(stored).tobytes())
    return MappedKeys(path, dtype, *rows.shape, offset=len(before))


@pytest.mark.parametrize("before", [b"", b"x" * 64, b"odd"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_a_map_holds_what_was_written(tmp_path, dtype, before):
    rows = vectors(700, 6)
    keys = written(tmp_path / "keys.vectors", rows, dtype, before)
    assert (keys.size, keys.dim) == (700, 6)
    np.testing.assert_array_equal(whole(keys), rows.astype(dtype))
    np.testing.assert_array_equal(keys.rows(np.array([5, 1])), rows.astype(dtype)[[5, 1]])
    found = scan(vectors(2, 6, seed=1), keys, scale=1.0)
    held = scan(
        vectors(2, 6, seed=1),
        HeldKeys(rows.astype(dtype).astype(whole(keys).dtype), dtype=str(whole(keys).dtype)),
        scale=1.0,
    )
    np.testing.assert_array_equal(found.rows, held.rows)
    np.testing.assert_allclose(found.weights, held.weights, rtol=1e-6)


def test_a_map_of_float32_is_not_copied(tmp_path):
    keys = written(tmp_path / "keys.vectors", vectors(50, 4), "float32")
    assert np.shares_memory(keys.block(10, 20), keys.block(0, 50))
    assert not keys.block(0, 50).flags.writeable


def test_a_map_of_no_keys(tmp_path):
    keys = written(tmp_path / "keys.vectors", vectors(0, 4), "float32")
    assert keys.size == 0
    assert scan(vectors(1, 4), keys, scale=1.0, top_k=1).rows.tolist() == [[-1]]


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
@pytest.mark.parametrize("missing", [1, 17, 10**6])
def test_a_file_that_was_cut_is_refused(tmp_path, dtype, missing):
    path = tmp_path / "keys.vectors"
    written(path, vectors(50, 4), dtype)
    path.write_bytes(path.read_bytes()[:-missing])
    with pytest.raises(AtentoError, match=r"bytes, and .* are needed .* the file was cut"):
        MappedKeys(path, dtype, 50, 4)


def test_scales_that_were_cut_are_refused(tmp_path):
    path = tmp_path / "keys.vectors"
    written(path, vectors(50, 4), "int8")
    scales = path.with_suffix(".scales")
    scales.write_bytes(scales.read_bytes()[:-1])
    with pytest.raises(AtentoError, match=r"scales has 199 bytes, and 200 are needed"):
        MappedKeys(path, "int8", 50, 4)


def test_a_size_beyond_all_memory_is_refused(tmp_path):
    path = tmp_path / "keys.vectors"
    path.write_bytes(b"1234")
    with pytest.raises(AtentoError, match="the file was cut"):
        MappedKeys(path, "float32", 2**62, 2**62)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("int4", 1, 1), "dtype must be one of float32, float16, int8, float64; got 'int4'"),
        (("int8", -1, 1), "size must be a whole number ≥ 1; got -1"),
        (("int8", 1, 0), "dim must be a whole number ≥ 1; got 0"),
        (("int8", 1, 1.5), "dim must be a whole number ≥ 1; got 1.5"),
    ],
)
def test_a_map_refuses(tmp_path, arguments, message):
    path = tmp_path / "keys.vectors"
    path.write_bytes(b"1234")
    with pytest.raises(AtentoError, match=message):
        MappedKeys(path, *arguments)


# --- bytes


@given(st.integers(1, 30), st.integers(1, 20), st.integers(-40, 36), st.integers(0, 10**6))
@settings(deadline=None, max_examples=80)
def test_the_error_of_bytes_is_the_largest_there_is(count, dim, power, seed):
    rows = (vectors(count, dim, seed=seed).astype(float) * 10.0**power).astype(np.float32)
    whole_numbers, scales, error = quantized(rows)
    assert whole_numbers.dtype == np.int8
    assert scales.dtype == np.float32
    off = rows.astype(float) - whole_numbers.astype(float) * scales.astype(float)[:, None]
    lengths = np.linalg.norm(off, axis=1)
    np.testing.assert_allclose(error, lengths.max(), rtol=1e-12)
    worst = off[lengths.argmax()]
    if error:  # a query of length 1 in that direction is off by just that much
        assert np.abs(off @ (worst / error)).max() == pytest.approx(error)
    if power > -35:  # numbers whose scale is a normal float32
        assert error <= np.abs(rows.astype(float)).max() / 254 * dim**0.5 * 1.0001


def test_bytes_of_zero_and_of_the_extremes():
    rows, scales, error = quantized([[0.0, 0.0], [127.0, -127.0]])
    assert rows.tolist() == [[0, 0], [127, -127]]
    assert scales.tolist() == [0.0, 1.0]
    assert error == 0


def test_pieces_change_nothing(monkeypatch):
    rows = vectors(100, 5)
    once = quantized(rows)
    monkeypatch.setattr("atento.retrieval.keys.PIECE", 7)
    for one, other in zip(once, quantized(rows), strict=True):
        np.testing.assert_array_equal(one, other)


def test_scores_of_bytes_are_off_by_the_error_at_most(tmp_path):
    rows = vectors(2000, 32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    error = quantized(rows)[2]
    assert error < 0.01
    keys = written(tmp_path / "keys.vectors", rows, "int8")
    queries = rows[:5]
    found = scan(queries, keys, scale=1.0, top_k=2000)
    exact = np.take_along_axis(queries @ rows.T, found.rows, 1)
    assert np.abs(found.scores - exact).max() <= error + 1e-6
    assert np.abs(found.scores - exact).max() > error / 20


# --- what is refused

REFUSED = {
    "axes": (np.ones(3), r"vectors must have two axes, \(n, dim\); got \(3,\)"),
    "dim": (np.ones((2, 4)), "vectors has 4 numbers in a row and the keys 3"),
    "NaN": ([[1.0, 2, 3], [1, np.nan, 2]], "vectors holds NaN or ∞ in row 1"),
    "infinity": ([[np.inf, 2.0, 3]], "vectors holds NaN or ∞ in row 0"),
    "integers": (np.ones((1, 3), int), "vectors must be a float16, float32 or float64"),
    "ragged": ([[1.0, 2.0, 3.0], [1.0]], "vectors is a ragged list"),
    "text": (["one"], "vectors must be a float16"),
    "too large": ([[1e300, 0.0, 0.0]], "beyond 3.4e.38, which float32 cannot hold"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_vectors_that_are_refused(case):
    given_vectors, message = REFUSED[case]
    keys = HeldKeys(np.eye(3))
    with pytest.raises(AtentoError, match=message):
        keys.append(given_vectors)
    np.testing.assert_array_equal(whole(keys), np.eye(3))


def test_rows_and_vectors_that_do_not_fit():
    keys = HeldKeys(np.eye(3))
    for row in (-1, 3):
        with pytest.raises(AtentoError, match=f"row {row} does not exist: there are 3"):
            keys.drop(row)
    with pytest.raises(AtentoError, match=r"vector must have one axis, \(dim,\) = \(3,\)"):
        keys.replace(0, np.ones((1, 3)))
    with pytest.raises(AtentoError, match="vector holds NaN or ∞"):
        keys.replace(0, np.array([np.nan, 0, 0]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give vectors=, or dim="),
        ({"dim": 0}, "dim, the numbers in a vector, must be a whole number ≥ 1; got 0"),
        ({"dim": 3, "dtype": "int8"}, "dtype must be one of float32, float64, float16; got 'int8'"),
        ({"vectors": np.ones((2, 4)), "dim": 3}, "4 numbers in a row and the keys 3"),
    ],
)
def test_held_keys_refuse(arguments, message):
    with pytest.raises(AtentoError, match=message):
        HeldKeys(**arguments)


def test_joined_keys_refuse():
    with pytest.raises(AtentoError, match="at least one part"):
        JoinedKeys([])
    with pytest.raises(AtentoError, match=r"as many numbers in a row; got \[2, 3\]"):
        JoinedKeys([HeldKeys(dim=3), HeldKeys(dim=2)])


def test_as_vectors_without_a_number_in_a_row():
    with pytest.raises(AtentoError, match="at least one number in a row"):
        as_vectors("vectors", np.ones((2, 0)))
