"""The rows of the largest scores, of blocks that pass by once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atento.retrieval.best import Best, largest


def expected(scores, count):
    """Rows of the largest, largest first, of equals the lower; no NaN, no −∞; −1 for none."""
    rows = np.full((len(scores), count), -1)
    for own, line in zip(rows, scores, strict=True):
        order = sorted(np.flatnonzero(line > -np.inf), key=lambda j: (-line[j], j))[:count]
        own[: len(order)] = order
    return rows


def passed(scores, count, size, floor, turned=False):
    best = Best(np.asarray(floor, scores.dtype), count)
    for first in range(0, scores.shape[1], size):
        block = scores[:, first : first + size]
        best.add(np.asfortranarray(block) if turned else block.copy(), first)
    best.settle()
    return best


NUMBERS = st.sampled_from([-np.inf, -2.5, 0.0, 1.0, 1.5, 7.0, np.nan])


@given(st.data())
@settings(deadline=None, max_examples=150)
def test_blocks_with_ties_nan_and_infinity(data):
    queries, keys = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 60))
    numbers = data.draw(st.lists(NUMBERS, min_size=queries * keys, max_size=queries * keys))
    scores = np.array(numbers, np.float32).reshape(queries, keys)
    count, size = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 60))
    rows = expected(scores, count)
    best = passed(scores, count, size, np.full(queries, -np.inf), data.draw(st.booleans()))
    np.testing.assert_array_equal(best.rows, rows)
    listed = np.take_along_axis(scores, np.maximum(rows, 0), 1)
    np.testing.assert_array_equal(best.scores, np.where(rows >= 0, listed, -np.inf))


@pytest.mark.parametrize("turned", [False, True])
def test_a_floor_drops_what_is_below_and_keeps_what_equals_it(turned):
    scores = np.array([[1, 3, 2, 3, 2, 0], [1, 1, 1, 1, 1, 5]], np.float32)
    best = passed(scores, 4, 2, [2, 1], turned)
    assert best.rows.tolist() == [[1, 3, 2, 4], [5, 0, 1, 2]]
    best = passed(scores, 4, 2, [3, 6], turned)
    assert best.rows.tolist() == [[1, 3, -1, -1], [-1] * 4]


@pytest.mark.parametrize("turned", [False, True])
def test_long_blocks_in_random_order(turned):
    scores = np.random.default_rng(0).permutation(40000).reshape(4, 10000).astype(np.float32)
    best = passed(scores, 13, 777, np.full(4, -np.inf), turned)
    np.testing.assert_array_equal(best.rows, expected(scores, 13))


def test_the_largest_of_a_row_and_no_more():
    scores = np.array([[1, 5, 5, 5, 0], [-np.inf, 2, -np.inf, -np.inf, -np.inf]], np.float32)
    assert largest(scores, 2).tolist() == [
        [False, True, True, False, False],
        [False, True, False, False, False],
    ]
    assert largest(scores, 9).sum(axis=1).tolist() == [5, 1]
