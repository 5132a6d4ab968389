"""Arrays inside a page: in the smallest exact type, masks as bits, each once, deflated."""

import base64
import sys
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["ArrayPool", "as_numpy", "smallest_exact"]

LARGE = 2**20
"""Bytes from which on time matters more than the last percent."""


def as_numpy(value: Any) -> npt.NDArray[Any]:
    """Turn an array of any library into NumPy's, without importing that library."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        if value.dtype == torch.bfloat16:  # NumPy has no such type; float32 holds it exactly
            value = value.float()
    return np.asarray(value)


def smallest_exact(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the array as float16 or float32 where that loses nothing, else as float64."""
    wide = array.astype("<f8")
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        for dtype in ("<f2", "<f4"):
            small = wide.astype(dtype)
            if np.array_equal(small.astype("<f8"), wide, equal_nan=True):
                return small
    return wide


class ArrayPool:
    """The arrays of one page; an array that occurs twice is written once.

    Layers share masks and often more, and a causal mask is the same for each head.
    """

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []
        self._seen: dict[tuple[str, tuple[int, ...], bytes], int] = {}

    def floats(self, array: npt.NDArray[Any]) -> int:
        """Add numbers and return their place in the pool."""
        small = np.ascontiguousarray(smallest_exact(array))
        return self._add(small.dtype.str[1:], small.shape, small.tobytes())

    def typed(self, array: npt.NDArray[Any]) -> int:
        """Add numbers in the type that they have (u1, i4, f2, f4 or f8), return their place."""
        little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        return self._add(little.dtype.str[1:], little.shape, little.tobytes())

    def bits(self, array: npt.NDArray[Any]) -> int:
        """Add truth values, eight to a byte, and return their place in the pool."""
        flags = array.astype(bool)
        for axis in range(flags.ndim - 2):  # batch and head axes along which nothing changes
            first = flags.take([0], axis=axis)
            if np.array_equal(np.broadcast_to(first, flags.shape), flags):
                flags = first
        packed = np.packbits(flags.ravel(), bitorder="little")
        return self._add("bits", flags.shape, packed.tobytes())

    def _add(self, dtype: str, shape: tuple[int, ...], data: bytes) -> int:
        identity = (dtype, shape, data)
        if identity not in self._seen:
            self._seen[identity] = len(self.entries)
            # All first bytes, then all second bytes, …: learned weights have few exponents, and
            # these deflate only when they stand together.
            width = 1 if dtype == "bits" else int(dtype[1:])
            planes = np.frombuffer(data, np.uint8).reshape(-1, width).T.tobytes()
            level = 9 if len(planes) < LARGE else 6  # learned numbers hardly deflate any further
            text = base64.b64encode(zlib.compress(planes, level)).decode("ascii")
            self.entries.append({"dtype": dtype, "shape": list(shape), "data": text})
        return self._seen[identity]
