"""Which blocks of the weights have to be computed at all: the mask, read block by block."""

from collections.abc import Iterator
from dataclasses import dataclass

from atento.masks import ALL, NONE, Coverage, Mask
from atento.masks.mask import BoolArray

__all__ = ["Piece", "blocks", "pieces"]

WIDEST = 4096
"""Keys in a masked piece at most: its mask is held as an array."""


@dataclass(frozen=True, eq=False)
class Piece:
    """A rectangle of the weights; ``visible`` is None where every pair attends.

    Or, where ``causal``, every query attends to the keys up to its own row of the rectangle.
    """

    rows: range
    cols: range
    visible: BoolArray | None
    causal: bool = False

    def cut(self, keys: int) -> Iterator["Piece"]:
        """The piece, as pieces of at most that many keys."""
        for inner in blocks(len(self.cols), keys):
            cols = range(self.cols.start + inner.start, self.cols.start + inner.stop)
            seen = None if self.visible is None else self.visible[:, inner.start : inner.stop]
            yield Piece(self.rows, cols, seen)


def blocks(length: int, size: int) -> Iterator[range]:
    """Consecutive ranges of at most ``size`` that cover ``length``."""
    for start in range(0, length, size):
        yield range(start, min(start + size, length))


def pieces(mask: Mask | None, rows: range, keys: int, size: int) -> Iterator[Piece]:
    """The rectangles that one block of queries looks at, from the first key on.

    Blocks of ``size`` keys that the mask empties are left out; neighbours of one kind (all pairs
    attend, or some do) become one piece.
    """
    if mask is None:
        yield Piece(rows, range(keys), None)
        return
    start, partial = None, False
    for cols in blocks(keys, size):
        tile = mask.block(rows, cols)
        kind = None if tile is NONE else not isinstance(tile, Coverage)
        full = start is not None and partial and cols.stop - start > WIDEST
        if start is not None and (kind is not partial or full):
            yield _piece(mask, rows, range(start, cols.start), partial)
            start = None
        if start is None and kind is not None:
            start, partial = cols.start, kind
    if start is not None:
        yield _piece(mask, rows, range(start, keys), partial)


def _piece(mask: Mask, rows: range, cols: range, partial: bool) -> Piece:
    tile = mask.block(rows, cols) if partial else ALL
    return Piece(rows, cols, None if isinstance(tile, Coverage) else tile)
