"""What happens to a block between its products, in one pass, compiled by Numba.

Row by row, so that a row of scores stays in the first-level cache from the bias to its sum. Only
`compiled.py` imports this file; importing it compiles, or loads what was compiled before. The
exponential is written out, so that LLVM turns the loop around it into vector instructions.
"""

from typing import Any

import numba
import numba.extending
import numpy as np
from llvmlite import ir
from numba import types

__all__ = ["exponentials", "weigh_block", "weigh_block_back"]

Array = Any
njit: Any = numba.njit  # their types know nothing of calls from one compiled function to another
intrinsic: Any = numba.extending.intrinsic

BITS = ir.IntType(32)
LOWEST, HIGHEST = np.float32(-87.0), np.float32(88.0)
"""Between these exp is a normal number; below it is taken as 0."""

ZERO, ONE, HIDDEN = np.float32(0), np.float32(1), np.float32(-np.inf)

LOG2_E = np.float32(1.4426950408889634)
ROUND = np.float32(1.5 * 2**23)
"""Added to a float32, it leaves the nearest whole number in the lowest bits."""

LN2_HIGH, LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
"""ln 2 in two parts: the product of a whole number with the first is exact."""

C2, C3, C4, C5, C6 = (
    np.float32(c)
    for c in (
        0.4999999403953552,
        0.1666652113199234,
        0.04166838899254799,
        0.00836874544620514,
        0.0013814540579915047,
    )
)
"""``exp(r) ≈ 1 + r + Σ c_n r^n`` for \\|r\\| ≤ ln 2 / 2 with a relative error of 3e-9 at most."""

SUMS = {"reassoc", "contract"}
"""Sums may be taken in any order, so that several numbers are added at once; NaN stays NaN."""

FUSED = {"contract"}


@intrinsic
def _power_of_2(_: Any, _rounded: Any) -> Any:
    """2^n, of a number to which ROUND was added: n moves from the lowest bits to the exponent."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        exponent = builder.shl(builder.bitcast(args[0], BITS), BITS(23))
        return builder.bitcast(builder.add(exponent, BITS(0x3F800000)), ir.FloatType())

    return types.float32(types.float32), generate


@intrinsic
def _in_order(_: Any, _number: Any) -> Any:
    """A whole number for each float32, in the same order; of NaN the largest or smallest."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        bits = builder.bitcast(args[0], BITS)
        below = builder.and_(builder.ashr(bits, BITS(31)), BITS(0x7FFFFFFF))
        return builder.xor(bits, below)

    return types.int32(types.float32), generate


@intrinsic
def _from_order(_: Any, _order: Any) -> Any:
    """The float32 of `_in_order`'s number."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        below = builder.and_(builder.ashr(args[0], BITS(31)), BITS(0x7FFFFFFF))
        return builder.bitcast(builder.xor(args[0], below), ir.FloatType())

    return types.float32(types.int32), generate


@intrinsic
def _larger(_: Any, _a: Any, _b: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.select(builder.icmp_signed(">", *args), *args)

    return types.int32(types.int32, types.int32), generate


@intrinsic
def _mixed(_: Any, _row: Any, _column: Any) -> Any:
    """`atento.equation.dropout.mixed` of a query's word and a key's, in 32 bits."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        word = builder.mul(builder.xor(*args), BITS(0x7FEB352D))
        word = builder.xor(word, builder.ashr(word, BITS(15)))
        return builder.mul(word, BITS(0x846CA68B))

    return types.int32(types.int32, types.int32), generate


@njit(fastmath=FUSED)
def _exp(x: Any) -> Any:
    """exp(x) within 1 unit in the last place for x in [−87, 88]; below 0, above exp(88)."""
    inside = LOWEST if x < LOWEST else x
    inside = HIGHEST if inside > HIGHEST else inside
    rounded = inside * LOG2_E + ROUND
    n = rounded - ROUND
    r = inside - n * LN2_HIGH
    r = r - n * LN2_LOW
    y = C6
    y = y * r + C5
    y = y * r + C4
    y = y * r + C3
    y = y * r + C2
    y = y * r + ONE
    y = y * r + ONE
    return ZERO if x < LOWEST else y * _power_of_2(rounded)


@njit
def exponentials(numbers: Array) -> None:
    """Turn numbers (n,) into their exponentials, in place: for the tests."""
    for j in range(numbers.shape[0]):
        numbers[j] = _exp(numbers[j])


@njit
def _add(row: Array, more: Array) -> None:
    for j in range(row.shape[0]):
        row[j] += more[j]


@njit
def _hide(row: Array, visible: Array) -> None:
    """−∞ where a key may not be seen, which may be NaN."""
    for j in range(row.shape[0]):
        row[j] = row[j] if visible[j] else HIDDEN


@njit
def _largest(row: Array) -> Any:
    most = _in_order(HIDDEN)
    for j in range(row.shape[0]):
        most = _larger(most, _in_order(row[j]))
    return _from_order(most)


@njit(fastmath=SUMS)
def _exponentials_of(row: Array, top: Any) -> Any:
    """Turn scores into exp(score − top); their sum."""
    total = ZERO
    for j in range(row.shape[0]):
        weight = _exp(row[j] - top)
        row[j] = weight
        total += weight
    return total


@njit
def _drop(row: Array, word: Any, columns: Array, threshold: Any) -> None:
    for j in range(row.shape[0]):
        row[j] = row[j] if _mixed(word, columns[j]) >= threshold else ZERO


@njit
def _slopes(row: Array, grad: Array, lse: Any, delta: Any) -> None:
    """Scores become weights p, and the gradients g of the weights p (g − delta)."""
    for j in range(row.shape[0]):
        weight = _exp(row[j] - lse)
        row[j] = weight
        grad[j] = weight * (grad[j] - delta)


BLOCK = types.float32[:, ::1]


def _given(dtype: Any, axes: int) -> Any:
    """An array that is only read: the caller's own may refuse to be written to."""
    return types.Array(dtype, axes, "C", readonly=True)


MATRIX, COLUMN = _given(types.float32, 2), _given(types.float32, 1)
SEEN, WORDS = _given(types.boolean, 2), _given(types.int32, 1)


@njit(
    types.void(
        BLOCK,
        BLOCK,
        BLOCK,
        BLOCK,
        MATRIX,
        types.int64,
        types.int64,
        SEEN,
        WORDS,
        WORDS,
        types.int64,
    ),
    nogil=True,
    cache=True,
)
def weigh_block(
    scores: Array,
    top: Array,
    total: Array,
    summed: Array,
    bias: Array,
    first_row: Any,
    first_column: Any,
    visible: Array,
    words: Array,
    columns: Array,
    threshold: Any,
) -> None:
    """Scores become exp(score − m), where m is the largest so far of their row.

    An array without elements stands for what a request does not have.

    Args:
        scores: (query, key).
        top: (query, 1), the largest score before and after.
        total: (query, 1), Σ exp(score − m) before and after.
        summed: (query, feature), Σ exp(score − m) value before, relative to the new m after.
        bias: (Tq, Tk), added to the scores.
        first_row: where in it the block stands.
        first_column: the same of keys.
        visible: (query, key), who may look at whom.
        words: (query,), what dropout's hash makes of them.
        columns: (key,), the same of keys.
        threshold: a pair whose word is below is dropped.
    """
    queries, keys = scores.shape
    limit = np.int32(threshold)
    for i in range(queries):
        row = scores[i]
        if bias.size:
            _add(row, bias[first_row + i, first_column : first_column + keys])
        if visible.size:
            _hide(row, visible[i])
        highest = _from_order(_larger(_in_order(top[i, 0]), _in_order(_largest(row))))
        shift = ZERO if highest == HIDDEN else highest
        shrink = _exp(top[i, 0] - shift)
        total[i, 0] = total[i, 0] * shrink + _exponentials_of(row, shift)
        top[i, 0] = highest
        if shrink != ONE:
            for f in range(summed.shape[1]):
                summed[i, f] *= shrink
        if words.size:
            _drop(row, words[i], columns, limit)


@njit(
    types.void(
        BLOCK,
        BLOCK,
        COLUMN,
        COLUMN,
        MATRIX,
        BLOCK,
        types.int64,
        types.int64,
        SEEN,
        WORDS,
        WORDS,
        types.int64,
    ),
    nogil=True,
    cache=True,
)
def weigh_block_back(
    scores: Array,
    grad: Array,
    lse: Array,
    delta: Array,
    bias: Array,
    of_bias: Array,
    first_row: Any,
    first_column: Any,
    visible: Array,
    words: Array,
    columns: Array,
    threshold: Any,
) -> None:
    """Scores become weights, and the gradients of weights those of scores.

    An array without elements stands for what a request does not have.

    Args:
        scores: (query, key); afterwards the weights that dropout keeps.
        grad: (query, key), output gradient · value; afterwards the gradient of the scores.
        lse: (query,), finite.
        delta: (query,), what is subtracted from ``grad``.
        bias: (Tq, Tk), added to the scores.
        of_bias: (Tq, Tk), to which the gradients of the scores are added.
        first_row: where in both the block stands.
        first_column: the same of keys.
        visible: (query, key), who may look at whom.
        words: (query,), what dropout's hash makes of them.
        columns: (key,), the same of keys.
        threshold: a pair whose word is below is dropped.
    """
    queries, keys = scores.shape
    limit = np.int32(threshold)
    last_column = first_column + keys
    for i in range(queries):
        row, own = scores[i], grad[i]
        if bias.size:
            _add(row, bias[first_row + i, first_column:last_column])
        if visible.size:
            _hide(row, visible[i])
        if words.size:
            _drop(own, words[i], columns, limit)
        _slopes(row, own, lse[i], delta[i])
        if words.size:
            _drop(row, words[i], columns, limit)
        if of_bias.size:
            _add(of_bias[first_row + i, first_column:last_column], own)
