"""Conversions to float32, compiled by Numba: what NumPy does in several passes, in one.

Only `widening.py` imports this file; importing it compiles, or loads what was compiled before.
"""

from typing import Any

import numba
import numba.extending
from llvmlite import ir
from numba import types

__all__ = ["widen_bytes", "widen_halves"]

Array = Any
intrinsic: Any = numba.extending.intrinsic


def _half(_: Any, _bits: Any) -> Any:
    """The float32 that the bits of a float16 stand for; processors have an instruction for it."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        half = builder.bitcast(args[0], ir.HalfType())
        return builder.fpext(half, ir.FloatType())

    return types.float32(types.uint16), generate


_as_float = intrinsic(_half)


def _widen_halves(bits: Array, out: Array) -> None:
    for i in range(bits.shape[0]):
        for j in range(bits.shape[1]):
            out[i, j] = _as_float(bits[i, j])


def _widen_bytes(rows: Array, scales: Array, out: Array) -> None:
    for i in range(rows.shape[0]):
        scale = scales[i]
        for j in range(rows.shape[1]):
            out[i, j] = types.float32(rows[i, j]) * scale


def _compiled(signature: Any, function: Any) -> Any:
    return numba.njit(signature, nogil=True, cache=True)(function)


def _read(kind: Any, axes: int) -> Any:
    """The type of arrays that are only read, as those of a mapped file are."""
    return types.Array(kind, axes, "C", readonly=True)


_out = types.float32[:, ::1]

widen_halves = _compiled(types.void(_read(types.uint16, 2), _out), _widen_halves)
"""Write float16 rows, given by their bits (n, dim), into ``out`` as float32."""

widen_bytes = _compiled(
    types.void(_read(types.int8, 2), _read(types.float32, 1), _out), _widen_bytes
)
"""Write rows of bytes (n, dim), each times its scale, into ``out`` as float32."""
