"""The exponential for kernels of Numba, and whole numbers of 32 bits.

It is our own, so that LLVM turns the loop around it into vector instructions: a call per element
would cost ten times as much. Numba's cache on disk does not notice a change here: the files that
import it must be touched, too.
"""
# mypy: disallow_untyped_decorators=False
# Numba's have no types.

from typing import Any

import numba
import numba.extending
import numpy as np
from llvmlite import ir
from numba import types

__all__ = [
    "FUSED",
    "LOWEST",
    "NONE",
    "NOWHERE",
    "SUMS",
    "ZERO",
    "bits",
    "exp",
    "exponentials",
    "held",
    "larger",
    "smaller",
    "where",
]

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
def bits(_: Any, _number: Any) -> Any:
    """The bits of a float32: for numbers ≥ 0 and NaN, in the order of the numbers, NaN last."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], BITS)

    return types.int32(types.float32), generate


@intrinsic
def without_sign(_: Any, _number: Any) -> Any:
    """The magnitude, of NaN too."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        bits = builder.and_(builder.bitcast(args[0], BITS), BITS(0x7FFFFFFF))
        return builder.bitcast(bits, ir.FloatType())

    return types.float32(types.float32), generate


@intrinsic
def power_of_2(_: Any, _rounded: Any) -> Any:
    """2^n, of a number to which ROUND was added: n moves from the lowest bits to the exponent."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        exponent = builder.shl(builder.bitcast(args[0], BITS), BITS(23))
        return builder.bitcast(builder.add(exponent, BITS(0x3F800000)), ir.FloatType())

    return types.float32(types.float32), generate


@intrinsic
def larger(_: Any, _a: Any, _b: Any) -> Any:
    """The larger of two whole numbers of 32 bits."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.select(builder.icmp_signed(">", *args), *args)

    return types.int32(types.int32, types.int32), generate


@intrinsic
def smaller(_: Any, _a: Any, _b: Any) -> Any:
    """The smaller of two whole numbers of 32 bits."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.select(builder.icmp_signed("<", *args), *args)

    return types.int32(types.int32, types.int32), generate


@intrinsic
def where(_: Any, _number: Any, _same: Any, _place: Any) -> Any:
    """The place if the number has these bits, otherwise NOWHERE; Numba would widen it all."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        same = builder.icmp_signed("==", builder.bitcast(args[0], BITS), args[1])
        return builder.select(same, builder.trunc(args[2], BITS), BITS(0x7FFFFFFF))

    return types.int32(types.float32, types.int32, types.int64), generate


@njit(fastmath=FUSED)
def exp(x: Any) -> Any:
    """e^x for x in [−87, 88], within 1 unit in the last place; of NaN, NaN without a sign."""
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
    return without_sign(y * power_of_2(rounded))


@njit(fastmath=FUSED)
def held(log: Any) -> Any:
    """The logarithm between LOWEST and HIGHEST, or NaN."""
    log = LOWEST if log < LOWEST else log
    return HIGHEST if log > HIGHEST else log


@njit
def exponentials(numbers: Array) -> None:
    """Turn numbers (n,) into their exponentials, in place: for the tests."""
    for j in range(numbers.shape[0]):
        numbers[j] = exp(held(numbers[j]))
