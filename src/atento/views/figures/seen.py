"""Which cells of a map hold a pair that may be seen at all."""

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["seen_cells"]

SMALL = 2**16
"""Pairs that are looked at one by one; more are asked for as a whole first."""


def seen_cells(
    mask: Any, corner: tuple[int, int], side: int, shape: tuple[int, int], lengths: tuple[int, int]
) -> npt.NDArray[np.bool_]:
    """True for each cell in which some query may see some key.

    The rule is asked for large blocks, which it often answers as a whole; those that it does not
    are halved. So the work grows with the edges of what is seen, not with T².

    Args:
        mask: a bound rule without leading axes, or None: everything is seen.
        corner: (query, key) of the first pair.
        side: queries and keys of a cell.
        shape: (row, column) cells.
        lengths: (Tq, Tk).
    """
    seen = np.ones(shape, bool)
    if mask is None:
        return seen
    left = [(0, shape[0], 0, shape[1])]
    while left:
        top, bottom, first, last = left.pop()
        rows, cols = (
            range(start + a * side, min(start + b * side, length))
            for start, a, b, length in zip(
                corner, (top, first), (bottom, last), lengths, strict=True
            )
        )
        known = mask.coverage(rows, cols)
        high, wide = bottom - top, last - first
        if known is not None:
            seen[top:bottom, first:last] = known.value
        elif len(rows) * len(cols) <= SMALL or high == wide == 1:
            seen[top:bottom, first:last] = _any(mask.block(rows, cols), side)
        elif high >= wide:
            middle = (top + bottom) // 2
            left += [(top, middle, first, last), (middle, bottom, first, last)]
        else:
            middle = (first + last) // 2
            left += [(top, bottom, first, middle), (top, bottom, middle, last)]
    return seen


def _any(block: Any, side: int) -> Any:
    """Whether any pair of each cell of side × side is True."""
    if not isinstance(block, np.ndarray):  # the same answer for all
        return block.value
    for axis in (0, 1):
        starts = np.arange(0, block.shape[axis], side)
        block = np.logical_or.reduceat(block, starts, axis=axis)
    return block
