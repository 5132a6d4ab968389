"""How telling a head is, against numbers worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from atento import ShapeError
from atento.explanation import how_telling

CAUSAL = np.tri(5, dtype=bool)


def test_one_sharp_row_among_even_ones():
    # rows 1 and 2 see only obvious places; row 3 gives all to key 1, which is not obvious;
    # row 4 is spread evenly over 5 keys, so its sharpness is 0
    weights = np.array(
        [
            [1, 0, 0, 0, 0],
            [0.5, 0.5, 0, 0, 0],
            [0, 1, 0, 0, 0],
            [0, 1, 0, 0, 0],
            [0.2, 0.2, 0.2, 0.2, 0.2],
        ]
    )
    told = how_telling(weights, CAUSAL, same_tokens=True)
    # four rows count (the first sees one key): (0 + 1·0 + 1·1 + 0·…) / 4
    assert told.score == pytest.approx(0.25)
    assert (told.query, told.key, told.weight) == (3, 1, 1.0)


def test_sharpness_is_one_minus_entropy_over_its_most():
    row = np.array([0.1, 0.7, 0.1, 0.1])
    weights = np.vstack([np.eye(4)[:3], row])
    entropy = -(0.7 * math.log(0.7) + 3 * 0.1 * math.log(0.1))
    told = how_telling(weights, np.tri(4, dtype=bool), same_tokens=True)
    # rows 1 and 2 look at themselves: sharp, and nothing elsewhere
    assert told.score == pytest.approx((1 - entropy / math.log(4)) * 0.7 / 3)
    assert (told.query, told.key, told.weight) == (3, 1, 0.7)


@pytest.mark.parametrize("shift", [0, 1])
def test_itself_and_the_token_before_are_obvious(shift):
    weights = np.eye(5, k=-shift)
    told = how_telling(weights, CAUSAL, same_tokens=True)
    assert told.score == 0
    assert told.query is None
    assert told.weight is None


def test_the_first_token_is_obvious_without_causality_too():
    weights = np.zeros((5, 5))
    weights[:, 0] = 1
    assert how_telling(weights, same_tokens=True).score == 0
    assert how_telling(weights, same_tokens=False).score == 1


def test_what_comes_after_is_not_obvious():
    weights = np.eye(5, k=1)
    weights[4, 0] = 1
    told = how_telling(weights, same_tokens=True)
    assert told.score == pytest.approx(4 / 5)
    assert (told.query, told.key) == (0, 1)


def test_cross_attention_is_sharpness_alone():
    weights = np.array([[1, 0, 0], [1 / 3, 1 / 3, 1 / 3]])
    told = how_telling(weights, same_tokens=False)
    assert told.score == pytest.approx(0.5)
    assert (told.query, told.key, told.weight) == (0, 0, 1.0)


def test_a_weight_of_zero_may_still_be_visible():
    # a softmax that underflowed: one-hot over five visible keys, not over one
    weights = np.zeros((5, 5))
    weights[4, 1] = 1
    weights[range(4), range(4)] = 1
    assert how_telling(weights, CAUSAL, same_tokens=True).score == pytest.approx(1 / 4)
    assert how_telling(weights, weights > 0, same_tokens=True).score == 0


def test_what_a_sink_took_is_not_elsewhere():
    weights = np.array([[0.0, 0.0, 0.25], [0.0, 0.0, 0.25]])
    told = how_telling(weights, same_tokens=False)
    assert told.score == pytest.approx(0.25)
    assert told.weight == 0.25


def test_rows_with_nan_are_left_out():
    weights = np.array([[np.nan, 0.5], [0.0, 1.0]])
    told = how_telling(weights, same_tokens=False)
    assert told.score == pytest.approx(1.0)
    assert told.query == 1


def test_equal_links_give_the_first():
    told = how_telling(np.full((7, 7), 1 / 7), same_tokens=True)
    assert told.score == pytest.approx(0)
    assert (told.query, told.key) == (0, 1)


def test_one_token_tells_nothing():
    told = how_telling(np.ones((1, 1)), same_tokens=True)
    assert (told.score, told.query) == (0.0, None)


def test_shapes_are_checked():
    with pytest.raises(ShapeError, match=r"weights must have the axes \(query, key\).*Got 3 axes"):
        how_telling(np.ones((2, 3, 3)), same_tokens=True)
    with pytest.raises(ShapeError, match=r"visible must have the shape of weights, \(3, 5\)"):
        how_telling(np.ones((3, 5)), np.ones((5, 3), dtype=bool), same_tokens=False)


@settings(deadline=None)
@given(
    hnp.arrays(
        np.float64, st.tuples(st.integers(1, 7), st.integers(1, 7)), elements=st.floats(0, 1)
    ),
    st.booleans(),
)
def test_the_score_is_a_share_and_the_link_its_largest(raw, same):
    total = raw.sum(axis=1, keepdims=True)
    weights = np.divide(raw, total, out=np.zeros_like(raw), where=total > 0)
    told = how_telling(weights, same_tokens=same)
    assert 0 <= told.score <= 1 + 1e-9
    if told.query is not None:
        assert told.weight == weights[told.query, told.key] > 0
        if same:
            assert told.key not in (0, told.query, told.query - 1)
