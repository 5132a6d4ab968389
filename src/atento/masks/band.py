"""Band: the keys within two diagonals; what `Causal` and `Window` become once lengths are known."""

from typing import Any

import numpy as np

from atento._alignment import Align, key_offset
from atento._errors import InputError
from atento.masks.mask import ALL, NONE, BoolArray, Coverage, Mask, Tile

__all__ = ["Band", "aligned_offset"]


def aligned_offset(rule: Mask, align: Align, shape: tuple[int, ...] | None) -> int:
    """The key position under query 0 on the aligned diagonal.

    Raises:
        InputError: when there are more or fewer queries than keys and no alignment is said.
    """
    if shape is None:
        if align == "end":
            raise InputError(
                f'{rule!r} with align="end" depends on the lengths: '
                "say them first, as in mask.bind((Tq, Tk)).tile(rows, cols)."
            )
        return 0
    return key_offset(rule, align, *shape[-2:])


class Band(Mask):
    """Query i attends to the keys j with ``i + first <= j <= i + last``; None: no limit there."""

    def __init__(self, first: int | None, last: int | None, rule: Mask) -> None:
        self.first, self.last, self.rule = first, last, rule

    def bind(self, shape: tuple[int, ...] | None) -> Mask:
        del shape
        return self

    def coverage(self, rows: range, cols: range) -> Coverage | None:
        if not rows or not cols:
            return NONE
        # Distances key − query run over [nearest, farthest] within this block.
        nearest, farthest = cols[0] - rows[-1], cols[-1] - rows[0]
        above = self.first is None or nearest >= self.first
        below = self.last is None or farthest <= self.last
        if above and below:
            return ALL
        outside = (self.first is not None and farthest < self.first) or (
            self.last is not None and nearest > self.last
        )
        return NONE if outside else None

    def _evaluate(self, rows: range, cols: range) -> Tile:
        covered = self.coverage(rows, cols)
        if covered is not None:
            return covered
        above = self.first is None or cols[0] - rows[-1] >= self.first
        below = self.last is None or cols[-1] - rows[0] <= self.last
        query = np.arange(rows.start, rows.stop)[:, None]
        key = np.arange(cols.start, cols.stop)
        inside: BoolArray | None = None
        if self.last is not None and not below:
            inside = key <= query + self.last
        if self.first is not None and not above:
            after = key >= query + self.first
            inside = after if inside is None else inside & after
        return ALL if inside is None else inside

    def pairs(self, lengths: tuple[int, int], xp: Any, device: Any) -> Any:
        Tq, Tk = lengths
        distance = xp.arange(Tk, device=device) - xp.arange(Tq, device=device)[:, None]
        if self.last is None:
            return distance >= (-Tq if self.first is None else self.first)
        below = distance <= self.last
        return below if self.first is None else below & (distance >= self.first)

    def __repr__(self) -> str:
        return repr(self.rule)
