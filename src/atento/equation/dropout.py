"""Which weights dropout keeps: a function of the seed and the pair, and of nothing else.

So blocking, threads and the engine chosen cannot change it.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["kept"]

MASK = 2**64 - 1
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
ROUNDS = (
    (np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)),
    (np.uint64(27), np.uint64(0x94D049BB133111EB)),
)


def kept(
    seed: int,
    rate: float,
    unit: int,
    rows: range,
    cols: range,
    lengths: tuple[int, int],
) -> npt.NDArray[np.bool_]:
    """The pairs of one block that dropout keeps, each with probability ``1 − rate``.

    Every pair has a number: its place in the weights (unit, query, key), unit counting batch and
    head in row-major order. The number is hashed with the seed (the finaliser of SplitMix64,
    Steele, Lea & Flood 2014) to a uniform in [0, 1).
    """
    Tq, Tk = lengths
    start = np.uint64(((unit * Tq * Tk) + _mix_int(seed)) & MASK)
    row = np.arange(rows.start, rows.stop, dtype=np.uint64)[:, None] * np.uint64(Tk)
    number: Any = row + np.arange(cols.start, cols.stop, dtype=np.uint64) + start
    np.multiply(number, GOLDEN, out=number)
    for shift, factor in ROUNDS:
        np.bitwise_xor(number, np.right_shift(number, shift), out=number)
        np.multiply(number, factor, out=number)
    np.bitwise_xor(number, np.right_shift(number, np.uint64(31)), out=number)
    uniform: npt.NDArray[np.float64] = np.right_shift(number, np.uint64(11)) * 2.0**-53
    return uniform >= rate


def _mix_int(seed: int) -> int:
    """Spread near seeds far apart, so that their pairs do not overlap."""
    z = (seed + int(GOLDEN)) & MASK
    for shift, factor in ROUNDS:
        z = ((z ^ (z >> int(shift))) * int(factor)) & MASK
    return z ^ (z >> 31)
