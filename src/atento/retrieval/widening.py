"""Numbers of fewer bits, as float32: float16, and bytes with a scale for each row.

By NumPy, and once that has converted so many numbers that loading Numba would have paid, by a
kernel that Numba compiles (extra ``fast``). Both give the same bits.
"""

from functools import cache
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["widened"]

Array = npt.NDArray[Any]

WORTH = 2**28
"""Numbers after which the kernel is loaded, which takes about as long as NumPy took for them."""

SIGN_AND_NUMBER = np.int32(-0x7000_2000)
"""After the shift: the sign, and exponent and fraction, without the sign's copies between them."""

POWER = np.float32(2.0**112)
"""What the exponents of float32 and float16 count from differs by 112."""


def widened(rows: Array, out: Array | None, scales: Array | None = None) -> Array:
    """The rows in float32, times their scales (n,) where given; in the memory given if it fits."""
    if out is None or out.dtype != np.float32 or len(out) < len(rows):
        out = np.empty(rows.shape, np.float32)
    held = out[: len(rows)]
    kernels = _kernels() if _converted.passed(rows.size) else None
    if rows.dtype == np.float16:
        if kernels and rows.flags.c_contiguous and rows.flags.aligned:
            kernels.widen_halves(rows.view(np.uint16), held)
        else:
            _widen_halves(rows, held)
    elif scales is None:
        np.copyto(held, rows)
    elif kernels and rows.flags.c_contiguous and scales.flags.aligned:
        kernels.widen_bytes(rows, scales, held)
    else:
        np.multiply(rows, scales[:, None], out=held, dtype=np.float32)
    return held


class _Counter:
    """How many numbers NumPy has converted in this process."""

    def __init__(self) -> None:
        self.count = 0

    def passed(self, more: int) -> bool:
        """Whether it is worth loading the kernel, once these are counted too."""
        if self.count <= WORTH:
            self.count += more
        return self.count > WORTH


_converted = _Counter()
_loading = Lock()


def _kernels() -> Any:
    """The kernels, or None: whatever is wrong with Numba, NumPy can do without."""
    with _loading:
        return _loaded()


@cache
def _loaded() -> Any:
    try:
        from atento.retrieval import kernels
    except Exception:  # no Numba, no folder for what it compiles, a system it does not know
        return None
    return kernels


def _widen_halves(rows: Array, out: Array) -> None:
    """Float16 by whole-number operations: twice as fast as NumPy's own conversion.

    Sign, exponent and fraction move to their places in a float32, and a product with 2^112 sets
    the exponent right, also of subnormal numbers. It cannot serve ∞ and NaN.
    """
    bits = out.view(np.int32)
    np.left_shift(rows.view(np.int16), 13, out=bits, dtype=np.int32)
    np.bitwise_and(bits, SIGN_AND_NUMBER, out=bits)
    np.multiply(out, POWER, out=out)
    if out.size and not (out.max() < 65536 and out.min() > -65536):
        np.copyto(out, rows)
