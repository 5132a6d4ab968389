"""`scan`: exact attention over keys that are read block by block."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import atento
from atento.retrieval import passing
from atento.retrieval import scan as scan_module
from atento.retrieval.keys import HeldKeys
from atento.retrieval.scan import scan
from retrieval.scan_oracle import best_rows, scan_oracle


def vectors(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def check(found, queries, keys, values, *, top_k, tolerance=2e-6, **options):
    scores, weights, lse, value = scan_oracle(queries, keys, values, **options)
    count = min(top_k, len(keys))
    rows = best_rows(scores, count)
    np.testing.assert_array_equal(found.rows[:, :count], rows)
    listed = np.take_along_axis(weights, rows, 1)
    np.testing.assert_allclose(found.weights[:, :count], listed, rtol=tolerance, atol=1e-30)
    np.testing.assert_allclose(
        found.scores[:, :count], np.take_along_axis(scores, rows, 1), rtol=tolerance, atol=tolerance
    )
    np.testing.assert_allclose(found.lse, lse, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(found.mass, listed.sum(1), rtol=tolerance)
    if values is not None:
        np.testing.assert_allclose(found.value, value, rtol=tolerance, atol=tolerance)
    assert (found.rows[:, count:] == -1).all()
    assert (found.weights[:, count:] == 0).all()
    assert (found.scores[:, count:] == -np.inf).all()


# --- the story by hand, FACTS 1 B


def test_weights_chosen_by_hand_give_eight():
    shares = np.log([0.30, 0.30, 0.30, 0.10])
    story = np.array([[7.0], [10.0], [8.0], [5.0]])
    found = scan(shares[None], HeldKeys(np.eye(4), dtype="float64"), story, scale=1.0, top_k=4)
    np.testing.assert_allclose(found.weights, [[0.3, 0.3, 0.3, 0.1]], rtol=1e-12)
    np.testing.assert_allclose(found.value, [[8.0]], rtol=1e-12)
    np.testing.assert_array_equal(found.rows[0, 3], 3)


def test_it_is_the_attention_of_the_package():
    queries, keys, values = vectors(3, 16), vectors(1000, 16, seed=1), vectors(1000, 5, seed=2)
    found = scan(queries, HeldKeys(keys), values, scale=0.25)
    output, lse = atento.attention(queries, keys, values, return_lse=True)
    np.testing.assert_allclose(found.value, output, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found.lse, lse, rtol=1e-6)


# --- against the oracle

SIZES = [1, 2, 63, 64, 257, 5000, 32768, 32769, 70001]  # around blocks, pieces and runs


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("count", [1, 5])
def test_every_size_of_keys(size, count):
    queries, keys, values = vectors(count, 12), vectors(size, 12, seed=1), vectors(size, 3, seed=2)
    found = scan(queries, HeldKeys(keys), values, scale=0.5, top_k=7)
    check(found, queries, keys, values, top_k=7, scale=0.5)


@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 600])
def test_every_number_of_queries(count):
    queries, keys, values = vectors(count, 8), vectors(900, 8, seed=1), vectors(900, 2, seed=2)
    found = scan(queries, HeldKeys(keys), values, scale=0.5, top_k=3)
    check(found, queries, keys, values, top_k=3, scale=0.5)


@pytest.mark.parametrize("temperature", [1e-3, 0.05, 1.0, 100.0])
def test_every_temperature(temperature):
    queries, keys, values = vectors(4, 24), vectors(3000, 24, seed=1), vectors(3000, 3, seed=2)
    found = scan(queries, HeldKeys(keys), values, scale=0.2, temperature=temperature)
    options = {"scale": 0.2, "temperature": temperature}
    # In float32 a score of 1000 is known to 6e-5; weights are as good as that.
    check(
        found, queries, keys, values, top_k=10, tolerance=max(2e-6, 1e-7 / temperature), **options
    )


def test_float64_is_computed_in_float64():
    queries, keys = vectors(3, 24, dtype=float), vectors(40000, 24, seed=1, dtype=float)
    values = vectors(40000, 2, seed=2, dtype=float)
    found = scan(queries, HeldKeys(keys, dtype="float64"), values, scale=0.3)
    assert {x.dtype for x in (found.lse, found.weights, found.value)} == {np.dtype(float)}
    check(found, queries, keys, values, top_k=10, tolerance=1e-12, scale=0.3)


@given(
    st.integers(1, 40), st.integers(1, 4), st.integers(1, 45), st.booleans(), st.integers(0, 10**6)
)
@settings(deadline=None, max_examples=60)
def test_weights_are_a_softmax(size, count, top_k, with_bias, seed):
    queries, keys = vectors(count, 5, seed=seed), vectors(size, 5, seed=seed + 1)
    bias = vectors(size, seed=seed + 2) if with_bias else None
    found = scan(queries, HeldKeys(keys), scale=1.0, bias=bias, top_k=top_k)
    check(found, queries, keys, None, top_k=top_k, scale=1.0, bias=bias, tolerance=5e-6)
    assert found.value is None
    if top_k >= size:
        np.testing.assert_allclose(found.mass, 1, rtol=1e-6)


# --- bias


def test_distance_is_a_product_with_a_bias():
    queries, keys = vectors(3, 6, dtype=float), vectors(500, 6, seed=1, dtype=float)
    bias = -(keys**2).sum(axis=1) / 2
    found = scan(queries, HeldKeys(keys, dtype="float64"), scale=1.0, bias=bias, temperature=0.3)
    distance = ((queries[:, None] - keys) ** 2).sum(axis=-1)
    kernel = np.exp(-distance / 2 / 0.3)
    rows = best_rows(-distance, 10)
    np.testing.assert_array_equal(found.rows, rows)
    expected = np.take_along_axis(kernel / kernel.sum(axis=1, keepdims=True), rows, 1)
    np.testing.assert_allclose(found.weights, expected, rtol=1e-10)


def test_distance_with_huge_norms_in_float64():
    keys = 1e6 + np.arange(50.0)[:, None] * [1.0, 0.0]
    bias = -(keys**2).sum(axis=1) / 2
    held = HeldKeys(keys, dtype="float64")
    found = scan(keys[[20]] + [0.25, 0.0], held, scale=1.0, bias=bias, top_k=3, temperature=0.1)
    assert found.rows.tolist() == [[20, 21, 19]]
    expected = np.exp(-(np.array([0.25, 0.75, 1.25]) ** 2) / 0.2)
    np.testing.assert_allclose(found.weights[0], expected / expected.sum(), rtol=1e-2)


def test_what_is_too_large_for_float32_is_not_hidden():
    keys = HeldKeys(np.full((3, 2), 1e20))
    with np.errstate(all="raise"):
        found = scan(np.full((1, 2), 1e20, np.float32), keys, scale=1.0)
    assert np.isnan(found.lse).all()
    assert np.isnan(found.weights).all()


def test_huge_scores_in_float64_are_as_good_as_small_ones():
    keys = HeldKeys(np.array([[1e20], [1e20], [-1e20]]), dtype="float64")
    found = scan(np.full((1, 1), 1e20), keys, scale=1.0, top_k=2)
    np.testing.assert_allclose(found.weights, 0.5)


def test_a_key_with_bias_minus_infinity_is_hidden():
    keys, values = vectors(40, 4), vectors(40, 2, seed=1)
    bias = np.zeros(40)
    bias[::2] = -np.inf
    found = scan(keys[:3], HeldKeys(keys), values, scale=1.0, bias=bias, top_k=30)
    seen = scan(keys[:3], HeldKeys(keys[1::2]), values[1::2], scale=1.0, top_k=30)
    np.testing.assert_array_equal(found.rows[:, :20], 2 * seen.rows[:, :20] + 1)
    assert (found.rows[:, 20:] == -1).all()
    np.testing.assert_allclose(found.weights, seen.weights, rtol=1e-6)
    np.testing.assert_allclose(found.value, seen.value, rtol=1e-5)


@pytest.mark.parametrize("temperature", [0, 1])
def test_where_all_are_hidden_nothing_is_seen(temperature):
    keys = HeldKeys(vectors(9, 4))
    bias = np.full(9, -np.inf)
    found = scan(
        vectors(2, 4), keys, vectors(9, 3), scale=1.0, bias=bias, temperature=temperature, top_k=2
    )
    assert (found.rows == -1).all()
    assert (found.lse == -np.inf).all()
    assert not found.weights.any()
    assert not found.value.any()


@pytest.mark.parametrize("temperature", [0, 1])
def test_no_keys(temperature):
    empty = np.empty((0, 3), np.float32)
    found = scan(vectors(2, 4), HeldKeys(dim=4), empty, scale=1.0, temperature=temperature, top_k=2)
    assert found.rows.tolist() == [[-1, -1], [-1, -1]]
    assert (found.lse == -np.inf).all()
    assert not found.weights.any()
    assert not found.mass.any()
    assert found.value.tolist() == [[0, 0, 0]] * 2


# --- ties, and what is nearly equal


@pytest.mark.parametrize("temperature", [0, 0.5])
def test_equal_keys_share_and_the_lower_rows_are_listed(temperature):
    """More equal keys than a pass keeps: a second pass finds them."""
    keys = np.tile(vectors(7, 33), (9000, 1))
    values = np.arange(63000, dtype=np.float32)[:, None] % 7
    queries = vectors(3, 33, seed=1)
    found = scan(queries, HeldKeys(keys), values, scale=0.5, temperature=temperature)
    rows = np.argmax(queries @ keys[:7].T, axis=1)[:, None] + 7 * np.arange(10)
    np.testing.assert_array_equal(found.rows, rows)
    if temperature == 0:
        np.testing.assert_allclose(found.weights, 1 / 9000, rtol=1e-6)
        np.testing.assert_allclose(found.value, rows[:, :1], rtol=1e-6)
        np.testing.assert_allclose(found.lse - found.scores[:, 0], np.log(9000), rtol=1e-5)
    else:
        weights = scan_oracle(queries, keys, scale=0.5, temperature=temperature)[1]
        np.testing.assert_allclose(found.weights, np.take_along_axis(weights, rows, 1), rtol=5e-6)


def test_all_keys_equal():
    found = scan(vectors(2, 5), HeldKeys(np.ones((40000, 5))), scale=1.0, temperature=0)
    assert found.rows.tolist() == [list(range(10))] * 2
    np.testing.assert_allclose(found.weights, 1 / 40000, rtol=1e-6)


def test_keys_that_float32_sums_cannot_tell_apart():
    """Their products differ by less than the rounding of a product in float32."""
    rng = np.random.default_rng(5)
    keys = np.tile(rng.standard_normal((1, 400)).astype(np.float32), (20000, 1))
    keys[:, 0] += rng.permutation(20000).astype(np.float32) * np.float32(2**-20)
    queries = np.abs(rng.standard_normal((2, 400))).astype(np.float32)
    found = scan(queries, HeldKeys(keys), scale=1.0, top_k=25)
    np.testing.assert_array_equal(found.rows, best_rows(queries.astype(float) @ keys.T, 25))


def test_temperature_0_is_the_limit():
    queries, keys, values = vectors(5, 16), vectors(3000, 16, seed=1), vectors(3000, 2, seed=2)
    hard = scan(queries, HeldKeys(keys), values, scale=1.0, temperature=0, top_k=4)
    check(hard, queries, keys, values, top_k=4, scale=1.0, temperature=0)
    cold = scan(queries, HeldKeys(keys), values, scale=1.0, temperature=1e-6, top_k=4)
    np.testing.assert_allclose(hard.value, cold.value, rtol=1e-6)
    np.testing.assert_array_equal(hard.rows, cold.rows)


@pytest.mark.parametrize("count", [1, 10, 30])
def test_two_equal_keys_share_at_temperature_0(count):
    keys = vectors(300, 8, dtype=float)
    keys[7] = keys[211] = 5.0
    values = np.arange(300.0)[:, None]
    held = HeldKeys(keys, dtype="float64")
    found = scan(np.ones((1, 8)), held, values, scale=1.0, temperature=0, top_k=count)
    assert found.rows[0, :2].tolist() == [7, 211][:count]
    np.testing.assert_allclose(found.weights[0, :2], 0.5)
    np.testing.assert_allclose(found.value, (7 + 211) / 2)
    np.testing.assert_allclose(found.mass, 0.5 if count == 1 else 1)


def test_equal_sums_in_another_order_share():
    keys = np.array([[0.1, 0.2, 0.3], [0.3, 0.2, 0.1], [0.2, 0.3, 0.1]])
    found = scan(
        np.ones((1, 3)), HeldKeys(keys, dtype="float64"), scale=1.0, temperature=0, top_k=3
    )
    np.testing.assert_allclose(found.weights, 1 / 3)


# --- blocks and threads change nothing


def test_threads_give_the_same_bits():
    queries, keys, values = vectors(9, 16), vectors(200000, 16, seed=1), vectors(200000, 3, seed=2)
    before = threading.active_count()
    one, *others = (
        scan(queries, HeldKeys(keys), values, scale=1.0, threads=threads)
        for threads in (1, 2, 3, 7)
    )
    assert threading.active_count() == before
    for other in others:
        for name, value in vars(one).items():
            np.testing.assert_array_equal(getattr(other, name), value, name)


def test_blocks_change_nothing_beyond_rounding(monkeypatch):
    queries, keys, values = vectors(9, 48), vectors(30000, 48, seed=1), vectors(30000, 3, seed=2)
    usual = scan(queries, HeldKeys(keys), values, scale=0.3)
    for run, scores, rows in ((1000, 4500, 4), (333, 100, 100), (7777, 10**6, 1)):
        monkeypatch.setattr(passing, "RUN", run)
        monkeypatch.setattr(passing, "SCORES", scores)
        monkeypatch.setattr(scan_module, "QUERIES", rows)
        other = scan(queries, HeldKeys(keys), values, scale=0.3)
        np.testing.assert_array_equal(other.rows, usual.rows)
        np.testing.assert_array_equal(other.scores, usual.scores)
        for name in ("weights", "lse", "value", "mass"):
            np.testing.assert_allclose(
                getattr(other, name), getattr(usual, name), rtol=1e-6, atol=1e-6
            )


def test_an_error_in_a_thread_arrives(monkeypatch):
    class Broken(HeldKeys):
        def block(self, start, stop, out=None):
            if start >= 70000:
                raise OSError("the disk is gone")
            return super().block(start, stop, out)

    before = threading.active_count()
    with pytest.raises(OSError, match="the disk is gone"):
        scan(vectors(1, 4), Broken(vectors(150000, 4)), scale=1.0, threads=3)
    assert threading.active_count() == before


def test_inputs_stay_as_they_were():
    queries, keys, values, bias = (
        vectors(3, 4),
        vectors(500, 4, seed=1),
        vectors(500, 2, seed=2),
        vectors(500, seed=3),
    )
    copies = [x.copy() for x in (queries, keys, values, bias)]
    for temperature in (0, 0.5):
        scan(queries, HeldKeys(keys), values, scale=2.0, bias=bias, temperature=temperature)
    for now, before in zip((queries, keys, values, bias), copies, strict=True):
        np.testing.assert_array_equal(now, before)


# --- NaN and infinity


@pytest.mark.parametrize("temperature", [0, 1])
def test_nan_in_a_query_is_passed_on(temperature):
    queries = vectors(3, 4)
    queries[1, 2] = np.nan
    found = scan(
        queries, HeldKeys(vectors(20, 4)), vectors(20, 2), scale=1.0, temperature=temperature
    )
    for field in (found.lse, found.weights, found.value, found.mass):
        assert np.isnan(field[1]).all()
        assert np.isfinite(field[[0, 2]]).all()


@pytest.mark.parametrize("temperature", [0, 1])
def test_nan_in_a_key_is_passed_on(temperature):
    keys = HeldKeys(vectors(50000, 4))
    keys._rows[33333, 1] = np.nan  # as a file may have it: `append` refuses it
    found = scan(vectors(2, 4), keys, vectors(50000, 2), scale=1.0, temperature=temperature)
    for field in (found.lse, found.weights, found.value, found.mass):
        assert np.isnan(field).all()


def test_nan_and_infinity_in_values_are_passed_on():
    queries, keys, values = vectors(2, 4), vectors(500, 4, seed=1), vectors(500, 3, seed=2)
    listed = scan(queries, HeldKeys(keys), scale=1.0).rows[0, 0]
    values[listed, 0], values[400, 1] = np.inf, np.nan
    found = scan(queries, HeldKeys(keys), values, scale=1.0).value
    assert (found[:, 0] == np.inf).all()
    assert np.isnan(found[:, 1]).all()
    assert np.isfinite(found[:, 2]).all()


# --- what is refused

KEYS = HeldKeys(np.eye(3, dtype=np.float32))
REFUSED = {
    "dim": ({"queries": np.ones((1, 4))}, r"queries must be \(n, 3\), .* got \(1, 4\)"),
    "axes": ({"queries": np.ones(3)}, r"queries must be \(n, 3\), .* got \(3,\)"),
    "integers": ({"queries": np.ones((1, 3), int)}, "queries must be a float16"),
    "values": ({"values": np.ones((2, 1))}, r"values must be \(3, features\), .* got \(2, 1\)"),
    "values axis": ({"values": np.ones(3)}, r"values must be \(3, features\)"),
    "bias": ({"bias": np.ones(4)}, r"bias must be \(3,\), one number for each key; got \(4,\)"),
    "top_k": ({"top_k": 0}, "top_k must be a whole number ≥ 1; got 0"),
    "top_k bool": ({"top_k": True}, "top_k must be a whole number ≥ 1; got True"),
    "cold": ({"temperature": -1}, "temperature must be ≥ 0 .* got -1"),
    "hot": ({"temperature": np.inf}, "temperature must be a finite number; got inf"),
    "temperature": ({"temperature": None}, "temperature must be a finite number; got None"),
    "scale": ({"scale": np.nan}, "scale must be a finite number; got nan"),
    "threads": ({"threads": 0}, "threads must be a whole number ≥ 1; got 0"),
    "proposals": ({"proposals": 0}, "proposals must be a whole number ≥ 1; got 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    changed, message = REFUSED[case]
    arguments = {"queries": np.ones((1, 3), np.float32), "scale": 1.0, **changed}
    with pytest.raises(atento.AtentoError, match=message):
        scan(arguments.pop("queries"), KEYS, **arguments)
