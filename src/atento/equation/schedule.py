"""Which blocks of the weights have to be computed at all: the mask, read block by block."""

from collections.abc import Iterator
from dataclasses import dataclass

from atento.masks import ALL, NONE, Coverage, Mask
from atento.masks.mask import BoolArray

__all__ = ["Piece", "blocks", "blocks_of", "pieces", "tall_pieces"]

WIDEST = 2048
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
        first = self.cols.start
        for cols in blocks_of(self.cols, keys):
            own = slice(cols.start - first, cols.stop - first)
            yield Piece(self.rows, cols, None if self.visible is None else self.visible[:, own])


def blocks(length: int, size: int) -> Iterator[range]:
    """Consecutive ranges of at most ``size`` that cover ``length``."""
    return blocks_of(range(length), size)


def blocks_of(span: range, size: int) -> Iterator[range]:
    """Consecutive ranges of at most ``size`` that cover a range."""
    for start in range(span.start, span.stop, size):
        yield range(start, min(start + size, span.stop))


def pieces(mask: Mask | None, rows: range, keys: int, size: int) -> Iterator[Piece]:
    """The rectangles that one block of queries looks at, from the first key on.

    Blocks of ``size`` keys that the mask empties are left out; neighbours of one kind (all pairs
    attend, or some do) become one piece.
    """
    for cols, mixed in _runs(mask, rows, keys, size):
        tile = mask.block(rows, cols) if mask is not None and mixed else ALL
        if tile is not NONE:
            yield Piece(rows, cols, None if isinstance(tile, Coverage) else tile)


def tall_pieces(mask: Mask | None, tall: range, keys: int, low: int) -> Iterator[Piece]:
    """`pieces` of a tall block of queries, or of ``low`` queries at a time.

    Tall blocks are computed faster; where more than a third of one would be masked pieces, less is
    wasted on low ones.
    """
    runs = _runs(mask, tall, keys, low)
    mixed = sum(len(cols) for cols, mixed in runs if mixed)
    fine = 3 * mixed > sum(len(cols) for cols, _ in runs)
    for rows in blocks_of(tall, low) if fine else (tall,):
        yield from pieces(mask, rows, keys, low)


def _runs(mask: Mask | None, rows: range, keys: int, size: int) -> list[tuple[range, bool]]:
    """Runs of blocks that are all full, or all perhaps mixed, and which of the two."""
    if mask is None:
        return [(range(keys), False)]
    runs: list[tuple[range, bool]] = []
    for cols in blocks(keys, size):
        covered = mask.coverage(rows, cols)
        if covered is NONE:
            continue
        mixed = covered is None
        if runs:
            last, kind = runs[-1]
            wide = mixed and len(last) >= WIDEST
            if last.stop == cols.start and kind is mixed and not wide:
                runs[-1] = (range(last.start, cols.stop), mixed)
                continue
        runs.append((cols, mixed))
    return runs
