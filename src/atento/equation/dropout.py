"""Which weights dropout keeps: a function of the seed and the pair, and of nothing else.

So blocking, threads and the engine chosen cannot change it.
"""

import numpy as np
import numpy.typing as npt

__all__ = ["kept"]

MASK = 2**64 - 1


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
    number = row + np.arange(cols.start, cols.stop, dtype=np.uint64) + start
    number *= np.uint64(0x9E3779B97F4A7C15)
    number ^= number >> np.uint64(30)
    number *= np.uint64(0xBF58476D1CE4E5B9)
    number ^= number >> np.uint64(27)
    number *= np.uint64(0x94D049BB133111EB)
    number ^= number >> np.uint64(31)
    return (number >> np.uint64(11)) * 2.0**-53 >= rate


def _mix_int(seed: int) -> int:
    """Spread near seeds far apart, so that their pairs do not overlap."""
    z = (seed + 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)
