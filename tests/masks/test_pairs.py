"""What engines ask of a mask: all pairs at once, what a block is known to be, its alignment."""

import array_api_compat.torch
import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from atento import ShapeError
from atento.masks import (
    ALL,
    NONE,
    Causal,
    Explicit,
    KeyPadding,
    Prefix,
    Rule,
    Segments,
    Window,
)

B, H = 2, 3
LIBRARIES = {"numpy": (np, None), "torch": (array_api_compat.torch, torch.device("cpu"))}


@st.composite
def cases(draw):
    """A random combination of rules, and lengths (Tq, Tk) that it fits."""
    Tq, Tk = draw(st.integers(1, 13)), draw(st.integers(1, 11))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    align, side = st.sampled_from(["start", "end"]), st.none() | st.integers(0, 5)
    arrays = [
        KeyPadding(rng.random(Tk) < 0.6),
        KeyPadding(rng.random((B, Tk)) < 0.6),
        Segments(rng.integers(0, 3, Tq), rng.integers(0, 3, Tk)),
        Segments(rng.integers(0, 3, (B, Tq)), rng.integers(0, 3, (B, Tk))),
        Explicit(rng.random((Tq, Tk)) < 0.5),
        Explicit(rng.random((Tq, 1)) < 0.5),
        Explicit(rng.random((B, H, 1, Tk)) < 0.5),
        Explicit(torch.from_numpy(rng.random((B, 1, Tq, Tk)) < 0.5)),
        KeyPadding(torch.from_numpy(rng.random((B, Tk)) < 0.6)),
        Segments(
            torch.from_numpy(rng.integers(0, 3, Tq)), torch.from_numpy(rng.integers(0, 3, Tk))
        ),
        Rule(lambda b, h, q, k: (q * 3 + k + h * b) % 4 < 2),
    ]
    rule = st.one_of(
        st.builds(Causal, align),
        st.builds(Window, side, side, align),
        st.builds(Prefix, st.integers(0, 14)),
        st.sampled_from(arrays),
    )
    combined = st.recursive(
        rule,
        lambda inner: st.one_of(
            st.builds(lambda a, b: a & b, inner, inner),
            st.builds(lambda a, b: a | b, inner, inner),
            st.builds(lambda a: ~a, inner),
        ),
        max_leaves=4,
    )
    return draw(combined), Tq, Tk


def by_units(bound, Tq, Tk):
    """The bound mask, asked for one batch item, head and pair after the other."""
    made = np.zeros((B, H, Tq, Tk), bool)
    for index in np.ndindex(B, H):
        own = bound.at(index)
        for i, j in np.ndindex(Tq, Tk):
            tile = own.block(range(i, i + 1), range(j, j + 1))
            assert tile in (ALL, NONE)
            made[(*index, i, j)] = tile is ALL
    return made


@pytest.mark.parametrize("library", LIBRARIES)
@given(case=cases())
def test_all_pairs_at_once_are_those_of_the_blocks(library, case):
    mask, Tq, Tk = case
    if library == "numpy":  # tensors are asked for in their own library
        assume(not any(isinstance(array, torch.Tensor) for array in arrays_of(mask)))
    xp, device = LIBRARIES[library]
    bound = mask.bind((B, H, Tq, Tk))
    pairs = bound.pairs((Tq, Tk), xp, device)
    assert isinstance(pairs, xp.empty(0).__class__)
    assert pairs.dtype == xp.bool
    np.testing.assert_array_equal(
        np.broadcast_to(np.asarray(pairs), (B, H, Tq, Tk)), by_units(bound, Tq, Tk)
    )


def arrays_of(mask):
    """The arrays that a rule holds, those of its parts among them."""
    for value in vars(mask).values():
        if hasattr(value, "bind"):
            yield from arrays_of(value)
        elif hasattr(value, "shape"):
            yield value


@given(cases(), st.data())
def test_coverage_is_never_wrong(case, data):
    mask, Tq, Tk = case
    bound = mask.bind((B, H, Tq, Tk))
    i, j = data.draw(st.integers(0, Tq - 1)), data.draw(st.integers(0, Tk - 1))
    rows = range(i, data.draw(st.integers(i + 1, Tq)))
    cols = range(j, data.draw(st.integers(j + 1, Tk)))
    for rule in (bound, *(bound.at(index) for index in np.ndindex(B, H))):
        told = rule.coverage(rows, cols)
        if told is not None:
            assert rule.block(rows, cols) is told


@given(st.integers(0, 9), st.integers(0, 9), st.integers(1, 9), st.integers(1, 9), st.data())
def test_a_band_always_knows(left, right, Tq, Tk, data):
    """Coverage of rules by distance says ALL and NONE whenever it is so, not just sometimes."""
    i, j = data.draw(st.integers(0, Tq - 1)), data.draw(st.integers(0, Tk - 1))
    rows, cols = range(i, Tq), range(j, Tk)
    for rule in (Window(left, right, "end"), Window(left, None, "start"), Causal("end")):
        bound = rule.bind((Tq, Tk))
        seen = rule.dense(Tq, Tk)[i:, j:]
        known = ALL if seen.all() else NONE if not seen.any() else None
        assert bound.coverage(rows, cols) is known


def test_coverage_of_combinations_needs_no_array():
    million = range(10**6, 10**6 + 10**5)
    bound = (Causal() & Window(left=255)).bind((2 * 10**6, 2 * 10**6))
    assert bound.coverage(million, range(10**5)) is NONE
    assert (~bound).coverage(million, range(10**5)) is ALL
    assert bound.coverage(million, million) is None
    assert (bound | ~bound).coverage(million, range(10**5)) is ALL


OPEN = {
    "Causal(align='end')": lambda: Causal(),
    "Window(left=2, right=1, align='end')": lambda: Window(2, 1),
    "(Causal(align='end') & Window(left=2, align='end'))": lambda: Causal() & Window(left=2),
    "(Causal(align='end') | Prefix(3))": lambda: Causal() | Prefix(3),
    "~Causal(align='end')": lambda: ~Causal(),
    "(Causal(align='start') & Window(left=2, align='end'))": lambda: (
        Causal("start") & Window(left=2)
    ),
    "(KeyPadding(shape=(5,)) & Causal(align='end'))": lambda: KeyPadding([True] * 5) & Causal(),
}


@pytest.mark.parametrize("told", OPEN)
def test_an_alignment_left_open_is_fixed_and_no_other(told):
    mask = OPEN[told]()
    before = repr(mask)
    fixed = mask.aligned("end")
    assert repr(fixed) == told
    assert repr(mask) == before  # rules are values
    with pytest.raises(ShapeError, match="needs align="):
        mask.dense(3, 5)
    assert fixed.dense(3, 5).shape == (3, 5)
    np.testing.assert_array_equal(mask.aligned(None).dense(5, 5), mask.dense(5, 5))
    if "start" not in told:
        np.testing.assert_array_equal(mask.aligned("start").dense(5, 5), fixed.dense(5, 5))


def test_rules_without_an_alignment_stay_as_they_are():
    rules = [
        Prefix(2),
        KeyPadding([True]),
        Segments([0, 1]),
        Explicit([[True]]),
        Rule(lambda b, h, q, k: q > k),
    ]
    for rule in rules:
        assert rule.aligned("end") is rule
