"""Match: its trace is the attention that made it, and what it says of itself."""

import numpy as np
import pytest

from atento import SoftDict, Trace
from atento.retrieval.match import MOST_TRACED, Matches
from retrieval.soft_dict_oracle import oracle

SIMILARITIES = ("dot", "cosine", "distance")


def dictionary(size, similarity=None, **options):
    rng = np.random.default_rng(size)
    keys = rng.standard_normal((size, 5))
    values = rng.standard_normal(size)
    pairs = dict(zip(map(tuple, keys.tolist()), values.tolist(), strict=True))
    return SoftDict(pairs, similarity=similarity, **options), pairs


QUERY = (0.3, -1.0, 0.5, 2.0, -0.2)


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("temperature", [0, 0.05, 1, 20])
@pytest.mark.parametrize("size", [1, 7, MOST_TRACED])
def test_the_trace_is_this_very_attention(similarity, temperature, size):
    lookup, pairs = dictionary(size, similarity)
    match = lookup.attend(QUERY, temperature=temperature)
    weights, value, _ = oracle(QUERY, pairs, similarity, temperature)
    trace = match.trace()
    assert isinstance(trace, Trace)
    assert match.traced_keys() == tuple(lookup)
    assert match.left_out() == 0
    np.testing.assert_allclose(
        trace["weights"].value[0], [weights[key] for key in pairs], rtol=1e-4, atol=1e-9
    )
    np.testing.assert_allclose(trace.output, [[value]], rtol=1e-4, atol=1e-6)
    assert match.value == pytest.approx(value, rel=1e-4, abs=1e-6)
    if similarity == "cosine":
        lengths = np.linalg.norm(trace["keys"].value, axis=1)
        np.testing.assert_allclose(lengths, 1, rtol=1e-12)


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("size", [MOST_TRACED + 1, 1500])
@pytest.mark.parametrize("top_k", [3, 400])
def test_what_a_trace_leaves_out_is_one_key_together(similarity, size, top_k):
    lookup, pairs = dictionary(size, similarity, temperature=2.0)
    match = lookup.attend(QUERY, top_k=top_k)
    weights, value, _ = oracle(QUERY, pairs, similarity, 2.0)
    trace = match.trace()
    shown = min(top_k, MOST_TRACED)
    assert len(match.traced_keys()) == shown
    assert match.left_out() == size - shown
    own = [weights[key] for key in match.traced_keys()]
    assert own == sorted(weights.values(), reverse=True)[:shown]
    np.testing.assert_allclose(trace["weights"].value[0], [*own, 1 - sum(own)], rtol=1e-5)
    np.testing.assert_allclose(trace.output, [[value]], rtol=1e-5, atol=1e-6)


def test_arrays_and_objects_in_a_trace():
    arrays = SoftDict({n: np.full((2, 3), n) for n in range(4)})
    assert arrays.attend(1).trace().output.shape == (1, 6)
    objects = SoftDict({n: str(n) for n in range(1200)}, temperature=1e4)
    match = objects.attend(600, top_k=3)
    trace = match.trace()
    assert trace["values"].value.shape == (4, 4)
    np.testing.assert_allclose(trace.output[0], trace["weights"].value[0])
    assert trace.output[0, 3] == pytest.approx(1 - match.mass)


def test_distances_far_from_zero_are_traced_with_the_query_as_origin():
    start = 1.7e9
    match = SoftDict({start: 1, start + 1: 2}).attend(start + 0.25)
    trace = match.trace()
    np.testing.assert_allclose(trace["weights"].value[0], list(match.weights.values()), rtol=1e-9)
    assert trace["queries"].value[0, 0] == 0


def test_weights_are_of_all_keys_up_to_1000_and_of_the_listed_ones_beyond():
    few, many = SoftDict({n: n for n in range(1000)}), SoftDict({n: n for n in range(1001)})
    match = few.attend(500.2, top_k=3)
    assert len(match.weights) == 1000
    assert sum(match.weights.values()) == pytest.approx(1, rel=1e-12)
    assert [item.key for item in match.items] == [500, 501, 499]
    match = many.attend(500.2, top_k=3)
    assert list(match.weights) == [500, 501, 499]
    assert match.mass == pytest.approx(sum(match.weights.values()))
    assert match.size == 1001


def test_the_least_weight_shortens_the_list_and_changes_nothing_else():
    lookup = SoftDict({1: 10, 2: 20, 4: 40})
    whole, cut = lookup.attend(2), lookup.attend(2, min_weight=0.3)
    assert [item.key for item in cut.items] == [2, 1]
    assert cut.value == whole.value
    assert cut.weights == whole.weights
    assert cut.mass == pytest.approx(whole.mass - whole.weights[4])
    half = SoftDict({1: 10, 2: 20}).attend(1.5, min_weight=0.5)  # that weight itself is enough
    assert len(half.items) == 2
    nothing = lookup.attend(2, min_weight=1)
    assert nothing.items == ()
    assert nothing.mass == 0
    assert repr(nothing) == "Match(2 → 18.07: nothing)"
    assert nothing.trace().output.item() == pytest.approx(nothing.value)


def test_equal_weights_are_listed_in_the_order_of_the_keys():
    lookup = SoftDict({n: n for n in (5, 3, 4, 1, 2)}, similarity="dot")
    assert [item.key for item in lookup.attend(0).items] == [5, 3, 4, 1, 2]
    assert [item.key for item in SoftDict({3: 1, 1: 2}).attend(2).items] == [3, 1]


def test_a_match_cannot_be_changed():
    match = SoftDict({1: 10}).attend(1)
    with pytest.raises(AttributeError):
        match.lse = 0
    with pytest.raises(TypeError):
        match.weights[1] = 0
    with pytest.raises(ValueError, match="read-only"):
        match.trace()["weights"].value[0] = 0


def test_matches_are_a_sequence():
    found = SoftDict({1.0: 10, 2.0: 20}).attend([1, 2, 3], temperature=0)
    assert isinstance(found, Matches)
    assert [match.query for match in found] == [1, 2, 3]
    assert found[-1].query == 3
    assert isinstance(found[1:], Matches)
    np.testing.assert_array_equal(found.value, [10, 20, 20])
    assert found[1:].value.shape == (2,)
    with pytest.raises(IndexError):
        found[3]
    arrays = SoftDict({1.0: [1, 2], 2.0: [3, 4]}).attend([1, 2], temperature=0)
    np.testing.assert_array_equal(arrays.value, [[1, 2], [3, 4]])


def test_what_it_says_of_itself():
    found = SoftDict({1.0: 10, 2.0: 20, 4.0: 40}).attend([2.0])
    assert repr(found) == "Matches(\n  Match(2.0 → 18.07: 2.0 57.4%, 1.0 34.8%, 4.0 7.8%),\n)"
    wide = SoftDict({tuple(range(9)): np.arange(9)}).attend(tuple(range(9)))
    assert repr(wide) == (
        "Match((0, 1, 2, … 9 numbers) → array of (9,): (0, 1, 2, … 9 numbers) 100.0%)"
    )
    assert repr(SoftDict({1: "one"}).attend(2)) == "Match(2: 1 100.0%)"
