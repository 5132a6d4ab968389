"""Neighbours pooled to cells: by their sum or by their maximum."""

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["pair_counts", "pool_axis"]

Array = npt.NDArray[Any]

GROUP = 16
"""So many numbers are added up in the weights' own precision, the sums of these in float64."""

SHORT = 32
"""Up to so many neighbouring columns are pooled in halves: faster than many short sums."""


def pool_axis(block: Array, axis: int, count: int, pool: str) -> Array:
    """Sums or maxima of ``count`` neighbours along an axis; the last may be of fewer.

    Args:
        block: (row, column).
        axis: 0 or 1.
        count: a power of two.
        pool: "max"; anything else adds up.

    Sums of more than GROUP numbers, and all along axis 1, are in float64.
    """
    n = block.shape[axis]
    if n % count:
        whole = n - n % count
        body, rest = np.split(block, [whole], axis=axis)
        parts = [pool_axis(body, axis, count, pool)] if whole else []
        return np.concatenate([*parts, _all(rest, axis, pool)], axis=axis)
    if axis == 1:
        return _columns(block, count, pool)
    if pool == "max":
        return _rows(block, count, np.maximum)
    group = min(count, GROUP)
    sums = _rows(block, group, np.add)
    return sums if count == group > 1 else _rows(sums, count // group, np.add, np.float64)


def _all(block: Array, axis: int, pool: str) -> Array:
    """The whole axis pooled to one."""
    if pool == "max":
        largest: Array = block.max(axis=axis, keepdims=True)
        return largest
    total: Array = block.sum(axis=axis, keepdims=True, dtype=np.float64)
    return total


def _rows(block: Array, count: int, fold: np.ufunc, dtype: Any = None) -> Array:
    dtype = block.dtype if dtype is None else dtype
    if count == 1:
        return block.astype(dtype, copy=False)
    # (row, column) -> (cell, row within it, column)
    folded: Array = fold.reduce(block.reshape(-1, count, block.shape[1]), axis=1, dtype=dtype)
    return folded


def _columns(block: Array, count: int, pool: str) -> Array:
    fold = np.maximum if pool == "max" else np.add
    dtype = block.dtype if pool == "max" else np.dtype(np.float64)
    if count > SHORT:
        # (row, column) -> (row, cell, column within it)
        folded: Array = fold.reduce(block.reshape(len(block), -1, count), axis=2, dtype=dtype)
        return folded
    block = block.astype(dtype, copy=False)
    while count > 1:
        block = fold(block[:, ::2], block[:, 1::2])
        count //= 2
    return block


def pair_counts(
    lengths: tuple[int, int], row0: int, col0: int, side: int, shape: tuple[int, int]
) -> Array:
    """How many real pairs each cell has: (row cell, column cell)."""
    sizes = []
    for start, length, cells in zip((row0, col0), lengths, shape, strict=True):
        firsts = start + side * np.arange(cells)
        sizes.append(np.minimum(firsts + side, length) - firsts)
    return np.multiply.outer(*sizes).astype(np.float64)
