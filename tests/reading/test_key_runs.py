"""Runs of keys, asked of masks by their rules, are those of the dense masks."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atento.masks import Causal, Explicit, KeyPadding, Mask, Prefix, Rule, Segments, Window
from atento.reading import key_runs
from atento.reading.growth import StackedMask
from atento.reading.key_runs import runs_of
from atento.reading.stored_masks import Intervals


def dense(mask: Mask, queries: int, keys: int) -> np.ndarray:
    return np.broadcast_to(mask.dense(queries, keys), (queries, keys))


def check(mask: Mask, queries: int, keys: int) -> None:
    """The runs of a bound mask cover what it shows, and are as few as they can be."""
    wanted = dense(mask, queries, keys)
    runs = runs_of(mask, queries, keys)
    again = np.zeros((queries, keys), int)
    for i in range(queries):
        for p in range(*runs["offsets"][i : i + 2]):
            again[i, runs["starts"][p] : runs["stops"][p]] += 1
    np.testing.assert_array_equal(again, wanted)
    rises = np.diff(wanted.astype(int), axis=1, prepend=0) == 1
    np.testing.assert_array_equal(np.diff(runs["offsets"]), rises.sum(axis=1))
    assert {array.dtype.str for array in runs.values()} == {"<i4"}


def some_rule(batch, head, query, key):
    return (query * 3 + key * key) % 5 < 3


@st.composite
def one_rule(draw, queries, keys):
    align = draw(st.sampled_from(["start", "end"]))
    side = st.none() | st.integers(0, max(queries, keys))
    bits = st.lists(st.booleans(), min_size=keys, max_size=keys)
    ids = (st.lists(st.integers(-1, 3), min_size=n, max_size=n) for n in (queries, keys))
    return draw(
        st.one_of(
            st.just(Causal(align)),
            st.builds(Window, side, side, st.just(align)),
            st.builds(Prefix, st.integers(0, keys + 2)),
            bits.map(lambda keep: KeyPadding(np.array(keep, bool))),
            st.builds(lambda *own: Segments(*(np.array(x, int) for x in own)), *ids),
            st.just(Rule(some_rule)),
            st.lists(bits, min_size=queries, max_size=queries).map(
                lambda pairs: Explicit(np.array(pairs, bool).reshape(queries, keys))
            ),
            st.just(Explicit(np.ones((queries, 1), bool))),
        )
    )


@st.composite
def any_mask(draw):
    queries, keys = draw(st.integers(1, 5)), draw(st.integers(1, 9))
    rules = st.recursive(
        one_rule(queries, keys),
        lambda some: st.one_of(
            st.builds(lambda a, b: a & b, some, some),
            st.builds(lambda a, b: a | b, some, some),
            st.builds(lambda a: ~a, some),
        ),
        max_leaves=4,
    )
    return draw(rules).bind((queries, keys)), queries, keys


@settings(max_examples=100)
@given(any_mask(), st.sampled_from([(1, 1), (2, 3), (4, 5), (256, 2048)]))
def test_any_rules_combined_are_what_they_are_pair_by_pair(drawn, pieces):
    kept = key_runs.ROWS, key_runs.COLS
    key_runs.ROWS, key_runs.COLS = pieces
    try:
        check(*drawn)
    finally:
        key_runs.ROWS, key_runs.COLS = kept


@settings(max_examples=60)
@given(any_mask())
def test_where_a_part_has_too_many_runs_blocks_are_asked(drawn):
    kept = key_runs.AT_ONCE
    key_runs.AT_ONCE = 2
    try:
        check(*drawn)
    finally:
        key_runs.AT_ONCE = kept


@given(st.data())
def test_intervals_and_masks_of_several_calls(data):
    keys = 11
    ends = st.lists(st.integers(-2, 13), min_size=7, max_size=7)
    starts, stops = (np.array(data.draw(ends)) for _ in range(2))
    intervals = Intervals(starts, stops)
    check(intervals, 7, keys)
    lengths = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    parts, first = [], 0
    for rows in lengths:
        seen = min(keys, first + rows)
        own = data.draw(
            st.sampled_from([None, Causal("end"), Window(1, 0, "end"), Rule(some_rule)])
        )
        parts.append((first, rows, seen, None if own is None else own.bind((rows, seen))))
        first += rows
    check(StackedMask(parts), first, keys)
    check(StackedMask(parts) & ~Prefix(2), first, keys)


@pytest.mark.parametrize("lengths", [(0, 5), (5, 0), (0, 0)])
def test_nobody_and_nothing_to_see(lengths):
    for mask in (Causal("end"), Prefix(3), Rule(some_rule), ~Window(1, 1, "start")):
        runs = runs_of(mask.bind(lengths), *lengths)
        assert runs["offsets"].tolist() == [0] * (lengths[0] + 1)
        assert not len(runs["starts"])
        assert not len(runs["stops"])


def test_numbers_by_hand():
    rule = (Causal() & ~Prefix(2) | Window(left=0, right=0)) & KeyPadding(
        np.array([1, 1, 1, 0, 1]) == 1
    )
    runs = runs_of(rule.bind((5, 5)), 5, 5)
    assert runs["offsets"].tolist() == [0, 1, 2, 3, 4, 6]
    assert runs["starts"].tolist() == [0, 1, 2, 2, 2, 4]
    assert runs["stops"].tolist() == [1, 2, 3, 3, 3, 5]


def test_too_many_runs_are_none_before_they_are_made():
    checkered = Rule(lambda batch, head, query, key: (query + key) % 2 == 0)
    assert runs_of(checkered.bind((30, 30)), 30, 30, most=449) is None
    assert len(runs_of(checkered.bind((30, 30)), 30, 30, most=450)["starts"]) == 450
    keep = np.arange(131_072) % 2 == 0
    start = time.process_time()
    assert runs_of(KeyPadding(keep).bind((131_072, 131_072)), 131_072, 131_072) is None
    assert time.process_time() - start < 20


def test_a_broken_part_costs_no_more_than_what_is_seen_of_it():
    """Every second key is hidden, and a window leaves four of them."""
    T = 20_000
    rule = Window(left=7, right=0) & KeyPadding(np.arange(T) % 2 == 0)
    runs = runs_of(rule.bind((T, T)), T, T)
    assert len(runs["starts"]) == 4 * T - 12


@pytest.mark.parametrize(
    "mask",
    [
        Causal(),
        Causal() & Window(left=255),
        Causal() & KeyPadding(np.arange(131_072) < 100_000),
        (Causal() | Prefix(1000)) & Segments(np.arange(131_072) // 4096),
        ~Causal(),
    ],
    ids=str,
)
def test_of_a_long_text_no_pair_is_asked(mask, monkeypatch):
    T = 131_072
    monkeypatch.setattr(key_runs, "_by_blocks", lambda *_: pytest.fail("pairs were asked"))
    bound = mask.bind((T, T))
    runs = runs_of(bound, T, T)
    for query in (0, 1, 999, 4097, T // 2, T - 1):
        seen = np.zeros(T, bool)
        for p in range(*runs["offsets"][query : query + 2]):
            seen[runs["starts"][p] : runs["stops"][p]] = True
        row = mask.bind((T, T)).block(range(query, query + 1), range(T))
        np.testing.assert_array_equal(seen, row[0] if isinstance(row, np.ndarray) else row.value)


def test_functions_are_asked_block_by_block():
    """A mask of a long text is not made whole."""
    sizes = []

    def rule(_batch, _head, query, key):
        sizes.append(np.broadcast_shapes(query.shape, key.shape))
        return (key <= query) & (key % 100 != 7)

    runs_of(Rule(rule).bind((1, 1, 3000, 3000)).at((0, 0)), 3000, 3000)
    assert max(rows * cols for rows, cols in sizes) <= key_runs.ROWS * key_runs.COLS
