"""Weights of a block and all that statistics ask of them, in one pass, compiled by Numba.

Row by row, so that a row of scores stays in the first-level cache from its first sum to its last.
Only `compiled.py` imports this file; importing it compiles, or loads what was compiled before.

The exponential is our own, so that LLVM turns the loop around it into vector instructions: a call
per element would cost ten times as much.
"""

from typing import Any

import numba
import numba.extending
import numpy as np
from llvmlite import ir
from numba import types

__all__ = ["exponentials", "reduce_block"]

Array = Any
njit: Any = numba.njit  # their types know nothing of calls from one compiled function to another
intrinsic: Any = numba.extending.intrinsic

BITS = ir.IntType(32)
LOWEST, HIGHEST = np.float32(-87.0), np.float32(88.0)
"""Between these exp is a normal number."""

ZERO, ONE, NONE = np.float32(0), np.float32(1), np.int32(0)
NOWHERE = np.int32(2**31 - 1)

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
def _bits(_: Any, _number: Any) -> Any:
    """The bits of a float32: for numbers ≥ 0 and NaN, in the order of the numbers, NaN last."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], BITS)

    return types.int32(types.float32), generate


@intrinsic
def _without_sign(_: Any, _number: Any) -> Any:
    """The magnitude, of NaN too."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        bits = builder.and_(builder.bitcast(args[0], BITS), BITS(0x7FFFFFFF))
        return builder.bitcast(bits, ir.FloatType())

    return types.float32(types.float32), generate


@intrinsic
def _power_of_2(_: Any, _rounded: Any) -> Any:
    """2^n, of a number to which ROUND was added: n moves from the lowest bits to the exponent."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        exponent = builder.shl(builder.bitcast(args[0], BITS), BITS(23))
        return builder.bitcast(builder.add(exponent, BITS(0x3F800000)), ir.FloatType())

    return types.float32(types.float32), generate


@intrinsic
def _larger(_: Any, _a: Any, _b: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.select(builder.icmp_signed(">", *args), *args)

    return types.int32(types.int32, types.int32), generate


@intrinsic
def _smaller(_: Any, _a: Any, _b: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.select(builder.icmp_signed("<", *args), *args)

    return types.int32(types.int32, types.int32), generate


@intrinsic
def _where(_: Any, _number: Any, _bits: Any, _place: Any) -> Any:
    """The place if the number has these bits, otherwise NOWHERE; Numba would widen it all."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        same = builder.icmp_signed("==", builder.bitcast(args[0], BITS), args[1])
        return builder.select(same, builder.trunc(args[2], BITS), BITS(0x7FFFFFFF))

    return types.int32(types.float32, types.int32, types.int64), generate


@njit(fastmath=FUSED)
def _exp(x: Any) -> Any:
    """exp(x) for x in [−87, 88], within 1 unit in the last place; of NaN, NaN without a sign."""
    rounded = x * LOG2_E + ROUND
    n = rounded - ROUND
    r = x - n * LN2_HIGH
    r = r - n * LN2_LOW
    y = C6
    y = y * r + C5
    y = y * r + C4
    y = y * r + C3
    y = y * r + C2
    y = y * r + ONE
    y = y * r + ONE
    return _without_sign(y * _power_of_2(rounded))


@njit(fastmath=FUSED)
def _held(log: Any) -> Any:
    """The logarithm between LOWEST and HIGHEST, or NaN."""
    log = LOWEST if log < LOWEST else log
    return HIGHEST if log > HIGHEST else log


@njit
def exponentials(numbers: Array) -> None:
    """Turn numbers (n,) into their exponentials, in place: for the tests."""
    for j in range(numbers.shape[0]):
        numbers[j] = _exp(_held(numbers[j]))


@njit(fastmath=SUMS)
def _weigh(row: Array, lse: Any) -> Any:
    """Turn scores into weights; Σ p log p, and the bits of the largest."""
    total, most = ZERO, NONE
    for j in range(row.shape[0]):
        log = _held(row[j] - lse)
        weight = _exp(log)
        row[j] = weight
        total += weight * log
        most = _larger(most, _bits(weight))
    return total, most


@njit(fastmath=SUMS)
def _weigh_visible(row: Array, lse: Any, visible: Array) -> Any:
    """`_weigh`, where only some keys are seen. What is hidden may be NaN."""
    total, most = ZERO, NONE
    for j in range(row.shape[0]):
        log = _held(row[j] - lse)
        log = log if visible[j] else LOWEST
        weight = _exp(log) if visible[j] else ZERO
        row[j] = weight
        total += weight * log
        most = _larger(most, _bits(weight))
    return total, most


@njit
def _first(row: Array, most: Any) -> Any:
    """Where the first number with these bits stands."""
    place = NOWHERE
    for j in range(row.shape[0]):
        place = _smaller(place, _where(row[j], most, j))
    return place


@njit(fastmath=SUMS)
def _moments(row: Array, places: Array, into: Array) -> None:
    """Add Σ p, Σ p x and Σ p x² of one row, in float64."""
    zeroth, first, second = 0.0, 0.0, 0.0
    for j in range(row.shape[0]):
        weight, x = np.float64(row[j]), places[j]
        product = weight * x
        zeroth += weight
        first += product
        second += product * x
    into[0] += zeroth
    into[1] += first
    into[2] += second


@njit(fastmath=SUMS)
def _moments_of_four(rows: Array, places: Array, into: Array) -> None:
    """The same of four rows: places are read once for all."""
    a0, a1, a2, b0, b1, b2 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    c0, c1, c2, d0, d1, d2 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for j in range(rows.shape[1]):
        x = places[j]
        a, b = np.float64(rows[0, j]), np.float64(rows[1, j])
        c, d = np.float64(rows[2, j]), np.float64(rows[3, j])
        ax, bx, cx, dx = a * x, b * x, c * x, d * x
        a0, b0, c0, d0 = a0 + a, b0 + b, c0 + c, d0 + d
        a1, b1, c1, d1 = a1 + ax, b1 + bx, c1 + cx, d1 + dx
        a2, b2, c2, d2 = a2 + ax * x, b2 + bx * x, c2 + cx * x, d2 + dx * x
    into[0, 0] += a0
    into[0, 1] += a1
    into[0, 2] += a2
    into[1, 0] += b0
    into[1, 1] += b1
    into[1, 2] += b2
    into[2, 0] += c0
    into[2, 1] += c1
    into[2, 2] += c2
    into[3, 0] += d0
    into[3, 1] += d1
    into[3, 2] += d2


@njit
def _add(row: Array, sums: Array) -> None:
    for j in range(row.shape[0]):
        sums[j] += row[j]


@njit
def _raise(row: Array, maxima: Array) -> None:
    for j in range(row.shape[0]):
        maxima[j] = _larger(maxima[j], _bits(row[j]))


# Sums and maxima in loops of their own: LLVM checks at run time that arrays do not overlap before
# it uses vector instructions, and gives up where there are more than eight pairs to compare.


@njit
def _add_four(rows: Array, sums: Array) -> None:
    for j in range(rows.shape[1]):
        sums[j] += (rows[0, j] + rows[1, j]) + (rows[2, j] + rows[3, j])


@njit
def _raise_four(rows: Array, maxima: Array) -> None:
    for j in range(rows.shape[1]):
        some = _larger(_bits(rows[0, j]), _bits(rows[1, j]))
        others = _larger(_bits(rows[2, j]), _bits(rows[3, j]))
        maxima[j] = _larger(maxima[j], _larger(some, others))


@njit
def _weigh_row(row: Array, lse: Any, visible: Array, masked: bool) -> Any:
    """Turn the scores of a row into weights; Σ p log p, and the bits of the largest."""
    if lse == -np.inf:  # it sees no key
        row[:] = ZERO
        return ZERO, NONE
    if masked:
        return _weigh_visible(row, lse, visible)
    return _weigh(row, lse)


@njit(
    types.void(
        types.float32[:, :, ::1],
        types.float32[:, :],
        types.boolean[:, :, ::1],
        types.boolean,
        types.int64,
        types.int64,
        types.int64,
        types.float64[:, ::1],
        types.float32[:, ::1],
        types.int64[:, ::1],
        types.float64[::1],
        types.float64[:, :, ::1],
        types.float32[:, :, ::1],
        types.float32[:, :, ::1],
    ),
    nogil=True,
    cache=True,
)
def reduce_block(
    scores: Array,
    lse: Array,
    visible: Array,
    masked: bool,
    column: int,
    before: int,
    height: int,
    entropy: Array,
    largest: Array,
    keys: Array,
    places: Array,
    moments: Array,
    sums: Array,
    maxima: Array,
) -> None:
    """Turn a block of scores into weights, in place, and add it to the reductions of a run.

    A run is some blocks of the same queries, from the first key on. An array without elements
    stands for what nobody asks for.

    Args:
        scores: (head, query, key).
        lse: (head, query), −∞ for a query that sees no key.
        visible: (1 or head, query, key), read where `masked`.
        masked: whether some are hidden.
        column: where in the run the block's first key stands.
        before: how many queries of the first bin stand before the block.
        height: queries in a bin.
        entropy: (head, query), Σ p log p.
        largest: (head, query), the largest weight.
        keys: (head, query), where in the run it stands first.
        places: (key of the run,), what moments are taken of.
        moments: (head, query, power).
        sums: (head, bin, key of the run), of the queries of each bin.
        maxima: the same, the largest weights.
    """
    heads, queries, length = scores.shape
    most, tops = largest.view(np.int32), maxima.view(np.int32)
    until = column + length
    for head in range(heads):
        seen = visible[min(head, visible.shape[0] - 1)]
        start = 0
        while start < queries:
            own = (before + start) // height
            stop = min(start + 4, queries, (own + 1) * height - before)
            rows, all_four = scores[head, start:stop], stop - start == 4
            for i in range(start, stop):
                row = scores[head, i]
                total, bits = _weigh_row(row, lse[head, i], seen[i if masked else 0], masked)
                entropy[head, i] += total
                if bits > most[head, i]:
                    most[head, i] = bits
                    if keys.size:
                        keys[head, i] = column + _first(row, bits)
            if moments.size:
                span = places[column:until]
                if all_four:
                    _moments_of_four(rows, span, moments[head, start:stop])
                else:
                    for i in range(start, stop):
                        _moments(scores[head, i], span, moments[head, i])
            if sums.size:
                total_of, top_of = sums[head, own, column:until], tops[head, own, column:until]
                if all_four:
                    _add_four(rows, total_of)
                    _raise_four(rows, top_of)
                else:
                    for i in range(start, stop):
                        _add(scores[head, i], total_of)
                        _raise(scores[head, i], top_of)
            start = stop
