"""Masks: each rule from its definition, tiles equal to the dense form, and the algebra."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from atento import DTypeError, InputError, ShapeError, attention
from atento.masks import (
    ALL,
    NONE,
    Causal,
    Coverage,
    Explicit,
    KeyPadding,
    Prefix,
    Rule,
    Segments,
    Window,
)

BATCH = 2


@st.composite
def masks_with_lengths(draw, depth=2):
    """A random combination of rules, and lengths (Tq, Tk) that it fits."""
    Tq, Tk = draw(st.integers(1, 13)), draw(st.integers(1, 11))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    align = st.sampled_from(["start", "end"])
    side = st.none() | st.integers(0, 5)
    simple = st.one_of(
        st.builds(Causal, align),
        st.builds(Window, side, side, align),
        st.builds(Prefix, st.integers(0, 14)),
        st.sampled_from(
            [
                KeyPadding(rng.random(Tk) < 0.6),
                KeyPadding(rng.random((BATCH, Tk)) < 0.6),
                Segments(rng.integers(0, 3, Tq), rng.integers(0, 3, Tk)),
                Segments(rng.integers(0, 3, (BATCH, Tq)), rng.integers(0, 3, (BATCH, Tk))),
                Explicit(rng.random((Tq, Tk)) < 0.5),
                Explicit(rng.random((BATCH, 1, 1, Tk)) < 0.5),
                Rule(lambda b, h, q, k: (q * 3 + k) % 4 < 2),
            ]
        ),
    )
    combined = st.recursive(
        simple,
        lambda inner: st.one_of(
            st.builds(lambda a, b: a & b, inner, inner),
            st.builds(lambda a, b: a | b, inner, inner),
            st.builds(lambda a: ~a, inner),
        ),
        max_leaves=4,
    )
    return draw(combined), Tq, Tk


@given(masks_with_lengths(), st.data())
def test_every_tile_equals_its_part_of_the_dense_form(case, data):
    mask, Tq, Tk = case
    dense = mask.dense(Tq, Tk)
    bound = mask.bind((BATCH, 3, Tq, Tk))
    start = data.draw(st.integers(0, Tq - 1)), data.draw(st.integers(0, Tk - 1))
    rows = range(start[0], data.draw(st.integers(start[0] + 1, Tq)))
    cols = range(start[1], data.draw(st.integers(start[1] + 1, Tk)))
    wanted = np.broadcast_to(dense, (BATCH, 3, Tq, Tk))[..., rows.start : rows.stop, :][
        ..., cols.start : cols.stop
    ]
    tile = bound.tile(rows, cols)
    if isinstance(tile, Coverage):
        assert (wanted == tile.value).all()
    else:
        np.testing.assert_array_equal(np.broadcast_to(tile, wanted.shape), wanted)
        assert wanted.any()
        assert not wanted.all()  # otherwise it should have said ALL or NONE
    for index in np.ndindex(BATCH, 3):
        one = bound.at(index).tile(rows, cols)
        one = one.value if isinstance(one, Coverage) else one
        np.testing.assert_array_equal(np.broadcast_to(one, wanted[index].shape), wanted[index])


@given(masks_with_lengths())
def test_a_mask_and_its_complement(case):
    mask, Tq, Tk = case
    np.testing.assert_array_equal((~mask).dense(Tq, Tk), ~mask.dense(Tq, Tk))
    assert (mask | ~mask).dense(Tq, Tk).all()
    assert not (mask & ~mask).dense(Tq, Tk).any()


@given(masks_with_lengths(), st.integers(0, 2**32 - 1))
def test_the_streaming_engine_skips_nothing_that_counts(case, seed):
    mask, Tq, Tk = case
    rng = np.random.default_rng(seed)
    query, key, value = (rng.standard_normal((BATCH, 3, T, 5)) for T in (Tq, Tk, Tk))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("atento.equation.streaming.ROWS", 4)
        patch.setattr("atento.equation.streaming.COLS", 3)
        streamed = attention(query, key, value, mask=mask, engine="streaming")
    dense = attention(query, key, value, mask=mask, engine="dense")
    np.testing.assert_allclose(streamed, dense, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("align", "offset"), [("start", 0), ("end", 4)])
def test_causal_and_window_from_their_definition(align, offset):
    i, j = np.indices((7, 11))
    np.testing.assert_array_equal(Causal(align).dense(7, 11), j <= i + offset)
    np.testing.assert_array_equal(
        Window(2, 3, align).dense(7, 11), (j >= i + offset - 2) & (j <= i + offset + 3)
    )
    np.testing.assert_array_equal(Window(left=2, align=align).dense(7, 11), j >= i + offset - 2)
    np.testing.assert_array_equal(Window(right=2, align=align).dense(7, 11), j <= i + offset + 2)
    assert Window(align=align).dense(7, 11).all()


def test_more_queries_than_keys_aligned_at_the_end():
    np.testing.assert_array_equal(Causal(align="end").dense(4, 2), [[0, 0], [0, 0], [1, 0], [1, 1]])


def test_tiles_far_from_the_diagonal_are_settled_without_an_array():
    mask = Causal() & Window(left=255)
    million = 10**6
    assert mask.tile((million, million + 256), (0, 512)) is NONE
    assert mask.tile((million, million + 100), (million - 100, million)) is ALL
    assert mask.tile(slice(0, 256), range(256, 512)) is NONE
    assert isinstance(mask.tile((256, 512), (0, 512)), np.ndarray)


def test_rule_sees_batch_head_query_and_key():
    mask = Rule(lambda b, h, q, k: (100 * b + 10 * h + q) % 7 != k % 5)
    b, h, q, k = np.indices((2, 3, 5, 7))
    bound = mask.bind((2, 3, 5, 7))
    np.testing.assert_array_equal(bound.tile((0, 5), (0, 7)), (100 * b + 10 * h + q) % 7 != k % 5)
    np.testing.assert_array_equal(
        bound.at((1, 2)).tile((1, 4), (2, 6)),
        ((100 * b + 10 * h + q) % 7 != k % 5)[1, 2, 1:4, 2:6],
    )


def test_rule_is_called_per_tile_never_for_everything():
    sizes = []

    def near(batch, head, query, key):
        sizes.append(np.broadcast(query, key).size)
        return abs(query - key) < 50

    x = np.ones((1, 1500, 4), np.float32)
    attention(x, x, x, mask=Rule(near), engine="streaming")
    assert max(sizes) <= 512 * 512
    assert sum(sizes) == 1500**2


def test_a_bool_array_is_explicit_on_either_side_and_of_any_library():
    array = np.tri(5, dtype=bool)
    for mask in (Prefix(2) | array, array | Prefix(2)):
        np.testing.assert_array_equal(mask.dense(5, 5), array | (np.arange(5) < 2))
    np.testing.assert_array_equal((array & Causal()).dense(5, 5), array)
    np.testing.assert_array_equal(Explicit(torch.from_numpy(array)).dense(5, 5), array)
    np.testing.assert_array_equal(KeyPadding(torch.tensor([True, False])).dense(3, 2)[1], [1, 0])


def test_masks_are_read_like_they_are_written():
    mask = Causal(align="end") & ~Window(left=3) | Prefix(2)
    assert repr(mask) == "((Causal(align='end') & ~Window(left=3)) | Prefix(2))"
    assert repr(KeyPadding([True])) == "KeyPadding(shape=(1,))"
    assert repr((ALL, NONE)) == "(ALL, NONE)"


def test_a_rule_that_knows_its_sizes_is_read_like_the_rule():
    def near(batch, head, query, key):
        return abs(query - key) < 2

    bound = (Rule(near) & Causal()).bind((2, 3, 5, 5))
    assert "Rule(near)" in repr(bound)
    assert repr(Rule(near).bind((2, 3, 5, 7)).at((0, 1))) == "Rule(near)"


REFUSED = {
    "causal without align": (
        lambda: Causal().bind((3, 5)),
        ShapeError,
        "Causal() needs align= when the lengths differ: there are 3 queries and 5 keys. "
        'align="start": query i stands at key i',
    ),
    "window without align": (
        lambda: Window(2).dense(3, 5),
        ShapeError,
        "Window(left=2) needs align=",
    ),
    "end of unknown lengths": (
        lambda: Causal(align="end").tile((0, 1), (0, 1)),
        InputError,
        "depends on the lengths",
    ),
    "unknown align": (lambda: Causal("middle"), InputError, 'align must be "start" or "end"'),
    "negative window": (lambda: Window(left=-1), InputError, "left must be a whole number from 0"),
    "fractional window": (lambda: Window(right=1.5), InputError, "right must be a whole number"),
    "negative prefix": (
        lambda: Prefix(-1),
        InputError,
        "n must be a whole number from 0 on; got -1",
    ),
    "float mask": (
        lambda: Explicit(np.ones((2, 2))),
        DTypeError,
        "mask must be a bool array; got float64. If it holds 0 and 1, write (mask == 1): "
        "True = attends.",
    ),
    "integer padding": (
        lambda: KeyPadding([1, 1, 0]),
        DTypeError,
        "KeyPadding: keep must be a bool array; got int64. If 1 means a real token, write "
        "(mask != 0)",
    ),
    "flat mask": (lambda: Explicit([True, False]), ShapeError, "(..., query, key); got shape (2,)"),
    "wrong keys": (
        lambda: Explicit(np.ones((3, 4), bool)).bind((3, 5)),
        ShapeError,
        "its key axis has size 4 where 5 (or 1) was expected",
    ),
    "wrong queries": (
        lambda: Explicit(np.ones((2, 5), bool)).bind((3, 5)),
        ShapeError,
        "its query axis has size 2 where 3",
    ),
    "batch in place of head": (
        lambda: Explicit(np.ones((2, 3, 5), bool)).bind((2, 7, 3, 5)),
        ShapeError,
        "A mask per batch item needs a head axis: (batch, 1, query, key).",
    ),
    "padding for other keys": (
        lambda: KeyPadding([True, False]).bind((3, 5)),
        ShapeError,
        "for 2 keys, and there are 5 keys",
    ),
    "padding for other batch": (
        lambda: KeyPadding(np.ones((2, 5), bool)).bind((3, 7, 4, 5)),
        ShapeError,
        "keep (batch, key) goes with queries (batch, head, query, feature)",
    ),
    "segments for other tokens": (
        lambda: Segments([0, 1]).bind((3, 3)),
        ShapeError,
        "there are 2 ids for 3 queries. Pass Segments(query_ids, key_ids).",
    ),
    "float segments": (lambda: Segments([0.5, 1.0]), DTypeError, "must be whole numbers"),
    "ragged": (lambda: Explicit([[True], [True, False]]), ShapeError, "row 1 with 2"),
    "rule that returns numbers": (
        lambda: Rule(lambda b, h, q, k: q - k).dense(2, 2),
        DTypeError,
        "f must return bools (True = attends); it returned int64",
    ),
    "rule of another shape": (
        lambda: Rule(lambda b, h, q, k: np.ones((3, 3), bool)).dense(2, 2),
        ShapeError,
        "broadcasts to its query and key indices, (2, 2); it returned shape (3, 3)",
    ),
    "rule that is no function": (lambda: Rule(3), DTypeError, "Rule needs a function"),
    "rule of two arguments": (
        lambda: Rule(lambda query, key: query >= key),
        DTypeError,
        "four arguments, f(batch, head, query, key); this one is f(query, key)",
    ),
    "a block beyond an array": (
        lambda: KeyPadding([True, False, True]).tile((0, 2), (0, 5)),
        ShapeError,
        "which ends before row 1, column 4",
    ),
    "function as mask": (lambda: Causal() & (lambda b, h, q, k: True), DTypeError, "Rule(f)"),
    "class as mask": (lambda: Prefix(1) & Causal, DTypeError, "make one, as in Causal(...)"),
    "text as mask": (lambda: Prefix(1) & "causal", DTypeError, "one of Causal, Window"),
    "masks for different batches": (
        lambda: (KeyPadding(np.ones((2, 5), bool)) & KeyPadding(np.ones((3, 5), bool))).dense(5, 5),
        ShapeError,
        "these masks do not fit together",
    ),
    "negative rows": (
        lambda: Causal().tile((-1, 2), (0, 2)),
        ShapeError,
        "rows must be consecutive",
    ),
    "and in place of &": (
        lambda: Causal() and Window(left=3),
        InputError,
        "Causal() is neither true nor false: combine masks with &, | and ~",
    ),
    "or": (lambda: Causal() or None, InputError, "`mask is None`"),
    "not": (lambda: not Causal(), InputError, "in place of and, or and not"),
    "open slice": (lambda: Causal().tile(slice(None), (0, 2)), ShapeError, "start and stop"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_in_words(name):
    make, kind, words = REFUSED[name]
    with pytest.raises(kind) as caught:
        make()
    assert words in str(caught.value)
