"""What streaming keeps of blocks that have passed, and the threads that share them."""

import threading
from itertools import pairwise

import numpy as np
import pytest

from atento.equation.running import Running, joined
from atento.equation.workers import share_out


def scores(rows, keys, spread, seed=0):
    return (spread * np.random.default_rng(seed).standard_normal((rows, keys))).astype(np.float32)


def run(blocks, values):
    """What is kept of some blocks of scores, and of their values."""
    state = Running(len(blocks[0]), values[0].shape[1], np.float32)
    for block, value in zip(blocks, values, strict=True):
        weights = np.exp(state.shifted(block.copy(), None))
        state.total += weights.sum(axis=1, keepdims=True)
        state.summed += weights @ value
    return state


@pytest.mark.parametrize("spread", [1.0, 60.0, 3000.0])
def test_joined_parts_are_one_run_over_all(spread):
    all_scores, values = scores(4, 90, spread), scores(90, 3, 1.0, seed=1)
    bounds = [0, 20, 50, 60, 90]
    cuts = [slice(*pair) for pair in pairwise(bounds)]
    parts = [run([all_scores[:, cut]], [values[cut]]) for cut in cuts]
    shift, total, summed = joined(parts)
    wide = all_scores.astype(float)
    top = wide.max(axis=1, keepdims=True)
    exact = np.exp(wide - top)
    np.testing.assert_allclose(
        shift + np.log(total), top + np.log(exact.sum(1, keepdims=True)), rtol=1e-6
    )
    np.testing.assert_allclose(
        summed / total,
        exact @ values / exact.sum(1, keepdims=True),
        rtol=2e-3 * spread / 1000 + 2e-5,
    )
    assert {x.dtype for x in (shift, total, summed)} == {np.dtype(float)}


@pytest.mark.parametrize("far", [-1e4, -1e9, np.finfo(np.float32).min])
@pytest.mark.parametrize("turned", [False, True])
def test_keys_far_below_leave_the_later_ones_exact(far, turned):
    """As behind the padding of a batch whose mask is written as large negative numbers."""
    first, values = np.full((4, 20), far, np.float32), scores(40, 3, 1.0, seed=1)
    then = scores(4, 20, 1.0)
    blocks = [np.asfortranarray(block) if turned else block for block in (first, then)]
    shift, total, summed = joined([run(blocks, [values[:20], values[20:]])])
    weights = np.exp(then.astype(float))
    np.testing.assert_allclose(
        shift + np.log(total), np.log(weights.sum(1, keepdims=True)), rtol=2e-6
    )
    np.testing.assert_allclose(
        summed / total, weights @ values[20:] / weights.sum(1, keepdims=True), rtol=2e-6, atol=2e-6
    )


def test_keys_far_below_that_are_all_there_is_keep_their_differences():
    apart = np.array([[-1e6, -1e6 - 1, -1e6 + 30, -1e6 + 1]], np.float32)
    state = run([apart[:, :2], apart[:, 2:]], [np.eye(4)[:2], np.eye(4)[2:]])
    exact = np.exp(apart.astype(float) - apart.max())
    np.testing.assert_allclose(state.summed / state.total, exact / exact.sum(), rtol=2e-6)


def test_a_part_that_saw_nothing_adds_nothing():
    nothing = Running(2, 3, np.float32)
    hidden = run([np.full((2, 5), -np.inf, np.float32)], [np.ones((5, 3), np.float32)])
    some = run([scores(2, 5, 1.0)], [scores(5, 3, 1.0, seed=1)])
    alone = joined([some])
    for parts in ([nothing, some], [some, hidden], [hidden, nothing, some, nothing]):
        for one, other in zip(joined(parts), alone, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12)
    with np.errstate(all="raise"):
        shift, total, summed = joined([nothing, hidden])
    assert (shift == -np.inf).all()
    assert not total.any()
    assert not summed.any()


def test_nan_stays():
    broken = run([np.array([[np.nan], [1.0]], np.float32)], [np.ones((1, 1), np.float32)])
    some = run([scores(2, 5, 1.0)], [scores(5, 1, 1.0)])
    for parts in ([broken, some], [some, broken]):
        total = joined(parts)[1]
        assert np.isnan(total[0]).all()
        assert np.isfinite(total[1]).all()


# --- threads


@pytest.mark.parametrize("threads", [0, 1, 2, 5])
def test_every_task_is_done_once(threads):
    done, before = [], threading.active_count()
    share_out(iter(range(100)), lambda tasks: done.extend(tasks), threads=threads)
    assert sorted(done) == list(range(100))
    assert threading.active_count() == before


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_ends_the_others_and_is_raised(threads):
    done = []

    def work(tasks):
        for task in tasks:
            if task == 5:
                raise ValueError("five")
            done.append(task)

    before = threading.active_count()
    with pytest.raises(ValueError, match="five"):
        share_out(iter(range(10**9)), work, threads=threads)
    assert threading.active_count() == before


def test_an_error_in_making_tasks_is_raised():
    def tasks():
        yield 1
        raise KeyError("no more")

    with pytest.raises(KeyError, match="no more"):
        share_out(tasks(), list, threads=2)
