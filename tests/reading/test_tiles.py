"""Weights and pooled tiles of a record: equal to dense weights in float64, for any slice."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atento import InputError, ShapeError
from atento.masks import Causal, Window
from atento.reading import layer as layer_module
from atento.reading import pooling, tiles
from reading_records import (
    KEY,
    MASKS,
    OPTIONS,
    QUERY,
    TK,
    TQ,
    B,
    D,
    H,
    dense_tile,
    normal,
    record,
)

EXACT = {np.float64: {"rtol": 1e-12, "atol": 1e-12}, np.float32: {"rtol": 1e-6, "atol": 1e-6}}


@pytest.fixture
def small_strips(monkeypatch):
    """Strips of a few weights, so that small records are cut as large ones are."""
    monkeypatch.setattr(tiles, "ROWS", 4)
    monkeypatch.setattr(tiles, "COLS", 8)
    monkeypatch.setattr(tiles, "BAND", 8)
    monkeypatch.setattr(tiles, "SPAN", 16)
    monkeypatch.setattr(pooling, "GROUP", 2)
    monkeypatch.setattr(pooling, "SHORT", 2)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("mask", MASKS)
def test_all_weights_are_the_dense_ones_under_every_mask(mask, dtype, small_strips):
    made, weights = record(mask, dtype=dtype)
    for batch in range(B):
        for head in range(H):
            mine = made.weights(head, batch=batch)
            assert mine.dtype == dtype
            np.testing.assert_allclose(mine, weights[batch, head], **EXACT[dtype])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("mask", ["causal, start", "array"])
def test_all_weights_are_the_dense_ones_with_every_option(option, mask, dtype, small_strips):
    made, weights = record(mask, option, dtype)
    for batch in range(B):
        for head in range(H):
            np.testing.assert_allclose(
                made.weights(head, batch=batch), weights[batch, head], **EXACT[dtype]
            )


def test_weights_of_queries_stored_in_half_precision_are_float32():
    made, _ = record("causal, start")
    half = QUERY.astype(np.float16), KEY.astype(np.float16)
    made.query, made.key = half
    made.lse = made.lse.astype(np.float32)
    mine = made.weights(1, batch=1)
    assert mine.dtype == np.float32
    scores = half[0][1, 1].astype(np.float64) @ half[1][1, 0].astype(np.float64).T * D**-0.5
    expected = np.exp(scores - made.lse[1, 1][:, None].astype(np.float64)) * np.tri(TQ, TK)
    np.testing.assert_allclose(mine, expected, rtol=1e-6, atol=1e-7)


spans = st.one_of(
    st.none(),
    st.integers(-TQ, TQ - 1),
    st.tuples(st.none() | st.integers(-20, 20), st.none() | st.integers(-20, 20)),
    st.slices(TQ),
    st.builds(
        slice,
        st.none() | st.integers(-20, 20),
        st.none() | st.integers(-20, 20),
        st.sampled_from([None, 1, 2, 5, -1, -3]),
    ),
    st.builds(range, st.integers(0, 20), st.integers(0, 20), st.sampled_from([1, 3])),
)


def meant(span, length):
    """The positions that a span stands for, by Python's own rules."""
    if span is None:
        return list(range(length))
    if isinstance(span, int):
        return [range(length)[span]]
    if isinstance(span, range):
        return [i for i in span if i < length]
    return list(range(length))[slice(*span) if isinstance(span, tuple) else span]


@given(rows=spans, cols=spans, head=st.integers(-H, H - 1), mask=st.sampled_from(sorted(MASKS)))
def test_any_slice_is_that_slice_of_the_dense_weights(rows, cols, head, mask):
    made, weights = record(mask)
    mine = made.weights(head, rows, cols, batch=1)
    expected = weights[1, head][np.ix_(meant(rows, TQ), meant(cols, TK))]
    assert mine.shape == expected.shape
    np.testing.assert_allclose(mine, expected, rtol=1e-12, atol=1e-12)


def test_a_descending_range_leaves_out_what_is_past_the_end():
    made, weights = record()
    mine = made.weights(0, range(TQ + 4, 2, -3), range(TK - 1, -1, -1))
    kept = [i for i in range(TQ + 4, 2, -3) if i < TQ]
    np.testing.assert_allclose(mine, weights[0, 0][kept][:, ::-1], rtol=1e-12)


def test_a_nan_behind_the_mask_does_not_leak_and_a_visible_one_shows():
    made, weights = record("causal, start")
    made.key[:, :, 6] = np.nan
    mine = made.weights(2)
    assert (mine[:6, 6:] == 0).all()
    np.testing.assert_allclose(mine[:6, :6], weights[0, 2, :6, :6], rtol=1e-12)
    assert np.isnan(mine[6:, 6]).all()


def test_a_row_whose_log_sum_exp_says_that_it_sees_nothing_is_zero_whatever_the_mask_says():
    made, weights = record()
    made.lse = made.lse.copy()
    made.lse[1, 2, 4] = -np.inf
    mine = made.weights(2, batch=1)
    assert (mine[4] == 0).all()
    np.testing.assert_allclose(mine[5:], weights[1, 2, 5:], rtol=1e-12)


def test_scores_far_below_the_log_sum_exp_are_weights_of_zero():
    made, _ = record(dtype=np.float32)
    made.lse = made.lse + np.float32(500)
    assert (made.weights(0) == 0).all()


@pytest.mark.parametrize("pool", ["mean", "max"])
@pytest.mark.parametrize("option", ["plain", "all at once", "bias by distance"])
@given(
    mask=st.sampled_from(sorted(MASKS)),
    row0=st.integers(0, TQ - 1),
    col0=st.integers(0, TK - 1),
    zoom=st.integers(0, 6),
    size=st.integers(1, 9),
    head=st.integers(0, H - 1),
)
def test_any_tile_pools_the_dense_weights(pool, option, mask, row0, col0, zoom, size, head):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"ROWS": 4, "COLS": 8, "BAND": 8, "SPAN": 16}.items():
            patch.setattr(tiles, name, value)
        for name in ("GROUP", "SHORT"):
            patch.setattr(pooling, name, 2)
        made, weights = record(mask, option)
        mine = made.tile(head, row0, col0, zoom, size, pool, batch=1)
    expected = dense_tile(weights[1, head], row0, col0, zoom, size, pool)
    assert mine.shape == expected.shape
    np.testing.assert_allclose(mine, expected, rtol=1e-12, atol=1e-12)


def long_record(T=613, dtype=np.float64):
    """One head that is long enough for the strips as they are, with a window and padding rows."""
    query, key = normal(1, 1, T, D), normal(1, 1, T, D)
    i, j = np.indices((T, T))
    visible = (j <= i) & (j >= i - 300)
    scores = np.where(visible, (query @ key.swapaxes(-1, -2))[0, 0] * D**-0.5, -np.inf)
    top = scores.max(-1, keepdims=True)
    lse = (top + np.log(np.exp(scores - top).sum(-1, keepdims=True)))[..., 0]
    made = layer_module.LayerRecord(
        "long",
        "self",
        None,
        "sdpa",
        query.astype(dtype),
        key.astype(dtype),
        lse[None, None].astype(dtype),
        Causal() & Window(left=300),
        D**-0.5,
    )
    made.check()
    return made, np.exp(scores - lse[:, None])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("pool", ["mean", "max"])
@pytest.mark.parametrize("zoom", range(11))
def test_tiles_of_a_longer_text_pool_the_dense_weights(zoom, pool, dtype, monkeypatch):
    monkeypatch.setattr(tiles, "SHARED_FROM", 2**10)
    monkeypatch.setattr(tiles, "available_cores", lambda: 3)
    made, weights = long_record(dtype=dtype)
    mine = made.tile(0, 0, 0, zoom, pool=pool)
    expected = dense_tile(weights, 0, 0, zoom, 256, pool)
    bound = 1e-12 if dtype is np.float64 else 3e-6
    np.testing.assert_allclose(mine, expected, rtol=bound, atol=bound * expected.max())


def test_a_tile_is_the_same_to_the_bit_with_any_number_of_threads(monkeypatch):
    made, _ = long_record(dtype=np.float32)
    monkeypatch.setattr(tiles, "SHARED_FROM", 0)
    found = []
    for cores in (1, 2, 5, 9):
        monkeypatch.setattr(tiles, "available_cores", lambda cores=cores: cores)
        found.append(made.tile(0, 0, 0, 3))
    assert all(np.array_equal(found[0], other) for other in found[1:])


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"head": H}, rf"there are {H} heads in layer 'layers.0.attn', 0 to {H - 1}; got head {H}"),
        ({"head": -H - 1}, r"got head -7"),
        ({"head": 1.0}, r"head must be a whole number; got 1.0"),
        ({"head": True}, r"head must be a whole number"),
        ({"batch": B}, r"there are 2 batch items .* got batch 2"),
        ({"rows": TQ}, r"there are 11 queries, 0 to 10; got rows 11"),
        ({"cols": -TK - 1}, r"there are 13 keys, 0 to 12; got cols -14"),
        ({"rows": "all"}, r"rows must be a slice, a range, \(start, stop\), one index or None"),
        ({"rows": (1, 2, 3)}, r"rows must be a slice"),
        ({"rows": ("a", 2)}, r"rows must be a slice"),
        ({"rows": True}, r"rows must be positions, not True"),
        ({"cols": range(-3, 2)}, r"cols is a range of positions, from 0 on"),
        ({"cols": slice(0, 4, 0)}, r"cols must be a slice"),
    ],
)
def test_what_is_not_there_is_refused_by_text(asked, message):
    made, _ = record()
    with pytest.raises(InputError, match=message):
        made.weights(**{"head": 0, **asked})


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"pool": "median"}, r'pool must be "mean" or "max"; got \'median\''),
        ({"zoom": -1}, r"zoom must be a whole number from 0 on; got -1"),
        ({"zoom": 63}, r"at most 62; got 63"),
        ({"size": 0}, r"size must be a whole number from 1 on"),
        ({"row0": TQ}, r"row0 is the tile's first of 11 queries: from 0 to 10; got 11"),
        ({"col0": TK}, r"col0 is the tile's first of 13 keys: from 0 to 12; got 13"),
        ({"row0": -1}, r"row0 must be a whole number from 0 on"),
        ({"head": H}, r"there are 6 heads"),
    ],
)
def test_a_tile_that_cannot_be_is_refused_by_text(asked, message):
    made, _ = record()
    with pytest.raises(InputError, match=message):
        made.tile(**{"head": 0, "row0": 0, "col0": 0, "zoom": 0, **asked})


@given(rows=st.integers(1, 60), cols=st.integers(1, 60), zoom=st.integers(0, 6))
def test_tasks_are_whole_cells_that_cover_the_tile_once(rows, cols, zoom):
    side = 2**zoom
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"ROWS": 4, "COLS": 8, "BAND": 16, "SPAN": 32}.items():
            patch.setattr(tiles, name, value)
        tasks = list(tiles._tasks(range(5, 5 + rows), range(3, 3 + cols), side))
    covered = np.zeros((rows, cols), int)
    for own, wide in tasks:
        covered[own.start - 5 : own.stop - 5, wide.start - 3 : wide.stop - 3] += 1
        assert (own.start - 5) % max(side, 4) == 0
        assert (wide.start - 3) % max(side, 8) == 0
        assert len(own) <= max(side, 16)
        assert len(wide) <= max(side, 32)
    assert (covered == 1).all()


def test_a_thread_that_is_held_up_holds_up_its_own_task_alone(monkeypatch):
    for name, value in {"ROWS": 4, "COLS": 8, "BAND": 4, "SPAN": 8, "SHARED_FROM": 0}.items():
        monkeypatch.setattr(tiles, name, value)
    monkeypatch.setattr(tiles, "available_cores", lambda: 2)
    rows, cols, taken, others_are_done = range(16), range(24), [], threading.Event()
    count = len(list(tiles._tasks(rows, cols, 1)))

    def work(tasks):
        for task in tasks:
            taken.append(task)
            if task == (range(4), range(8)):  # the first
                assert others_are_done.wait(timeout=60)
            elif len(taken) == count:
                others_are_done.set()

    tiles._share(work, rows, cols, 1)
    assert sorted(map(str, taken)) == sorted(map(str, tiles._tasks(rows, cols, 1)))


def test_the_largest_weights_need_one_exponential_a_cell(monkeypatch):
    made, weights = record("causal, start")
    sizes, original = [], tiles._exp
    monkeypatch.setattr(tiles, "_exp", lambda scores: (sizes.append(scores.size), original(scores)))
    mine = made.tile(2, 0, 0, 2, pool="max")
    np.testing.assert_allclose(mine, dense_tile(weights[0, 2], 0, 0, 2, 256, "max"), rtol=1e-12)
    assert sum(sizes) == mine.size


@pytest.mark.parametrize("pool", ["mean", "max"])
def test_cells_of_nothing_that_is_seen_are_zero_and_nan_shows(pool):
    made, _ = record("causal, start", dtype=np.float32)
    made.lse = made.lse.copy()
    made.lse[0, 1, 8:] = -np.inf
    made.lse[0, 1, :2] = 500  # far above all scores
    made.key[:, :, 5] = np.nan
    tile = made.tile(1, 0, 0, 1, pool=pool)
    assert (tile[4:] == 0).all()
    assert (tile[0] == 0).all()
    assert np.isnan(tile[2:4, 2]).all()  # queries 5 to 7 see key 5
    assert (tile[:2, 2:] == 0).all()


def test_blas_runs_on_one_thread_for_any_rectangle(monkeypatch):
    entered = []
    original = tiles.one_blas_thread

    def noted():
        entered.append(True)
        return original()

    monkeypatch.setattr(tiles, "one_blas_thread", noted)
    made, _ = record()
    made.weights(0, 3)
    made.tile(0, 0, 0, 1)
    assert len(entered) == 2


def test_weights_of_statistics_alone_are_refused_with_what_to_do():
    made, _ = record()
    made.query = made.key = None
    with pytest.raises(InputError, match=r'were not kept, only statistics: record with keep="qk"'):
        made.weights(0)
    with pytest.raises(InputError, match=r'keep="qk"'):
        made.tile(0, 0, 0, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key": KEY[..., :3]}, r"key must be \(batch, key head, key, feature\) that fits"),
        ({"key": KEY[:1]}, r"key must be"),
        ({"key": np.zeros((B, 4, TK, D))}, r"query heads a multiple of key heads"),
        ({"query": QUERY[:, :, 1:]}, r"query must be \(batch, head, query, feature\) with lse"),
        ({"query": None}, r"kept both or neither"),
        ({"lse": np.zeros((B, H))}, r"lse must have the axes \(batch, head, query\)"),
        ({"statistics": {"a": np.zeros((B, H, TQ))}, "axes": {}}, r"axes of the statistic 'a'"),
        (
            {"statistics": {"a": np.zeros((B, H, TK))}, "axes": {"a": ("head", "query")}},
            r"the statistic 'a' has size 13 on its axis query, where 11 was expected",
        ),
        (
            {"statistics": {"a": np.zeros((B, H))}, "axes": {"a": ("head", "query")}},
            r"must have the axes \(batch, head, query\) for 2 batch items; got shape \(2, 6\)",
        ),
        ({"mask": MASKS["array"][0], "key": KEY[:, :, 1:], "statistics": {}}, r"mask has shape"),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(change, message):
    made, _ = record()
    for name, value in change.items():
        setattr(made, name, value)
    with pytest.raises(ShapeError, match=message):
        made.check()
