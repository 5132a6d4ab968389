"""How the weights are cut: shares for threads, and rectangles that the mask leaves."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from atento.equation.request import Request
from atento.equation.schedule import blocks, pieces
from atento.masks import Mask

__all__ = ["CELLS", "Rectangle", "Share", "block_size", "rectangles", "shares"]

ROWS, COLS = 256, 512
"""Queries × keys in a block: half a MB in float32."""

CELLS = 2**18
"""Weights in a block: several heads fill it, so that little time goes into calling operations.
In float32 a MB, so that weights and their logarithms lie in a core's caches."""

TALL, WIDE = 512, 1024
"""The same where a kernel reads each block once: fewer calls, and products that are as fast."""

FINE = 128
"""Keys in the smallest block that is skipped when the mask empties it."""


@dataclass(frozen=True, eq=False)
class Share:
    """What one thread folds: some heads of one batch item, and some of their queries.

    Attributes:
        item: the number of the batch item, counted in row-major order.
        heads: its query heads.
        index: where each of those heads stands in the query's leading axes.
        mask: bound, without leading axes; the same for all these heads.
        rows: the blocks of queries.
    """

    item: int
    heads: range
    index: list[tuple[int, ...]]
    mask: Mask | None
    rows: list[range]


@dataclass(frozen=True, eq=False)
class Rectangle:
    """Queries × keys of one block, and where in it the mask hides some.

    Attributes:
        rows, cols: which queries and keys.
        masked: columns, counted within the block, and who attends there: (query, key) bools.
    """

    rows: range
    cols: range
    masked: list[tuple[slice, Any]]


def block_size(compiled: bool) -> tuple[int, int]:
    """Queries and keys in a block at most."""
    return (TALL, WIDE) if compiled else (ROWS, COLS)


def shares(request: Request, threads: int, tall: int) -> Iterator[Share]:
    """The work, cut so that no thread is idle: by batch item, by heads, and then by queries.

    Args:
        request: what is folded over.
        threads: that work on it.
        tall: queries in a block.
    """
    *batches, heads = request.query.shape[:-2] or (1,)
    mask, axes = request.mask, request.query.ndim - 2
    spans = list(blocks(request.query.shape[-2], tall))
    units = prod(batches) * heads
    by_head = mask is not None and bool(mask.leading) and mask.leading[-1] > 1
    per_item = -(-2 * threads // max(prod(batches), 1))
    size = 1 if by_head else max(1, -(-heads // per_item))
    ways = max(1, min(-(-threads // max(units, 1)), len(spans)))
    for item, batch in enumerate(np.ndindex(*batches)):
        for own in blocks(heads, size) if heads else [range(0)]:
            index = [(*batch, head)[:axes] for head in own]
            for way in range(ways):
                yield Share(
                    item=item,
                    heads=own,
                    index=index,
                    mask=None if mask is None or not index else mask.at(index[0]),
                    rows=spans[way::ways] if index else [],
                )


def rectangles(share: Share, rows: range, keys: int, widest: int) -> Iterator[Rectangle]:
    """What these queries look at, in blocks of at most so many keys.

    Neighbours become one block where they fit: fewer blocks, less time that goes into calls.
    """
    masked: list[tuple[slice, Any]] = []
    cols = range(0)
    for run in pieces(share.mask, rows, keys, FINE):
        for piece in run.cut(widest):
            if piece.cols.start != cols.stop or len(cols) + len(piece.cols) > widest:
                if cols:
                    yield Rectangle(rows, cols, masked)
                cols, masked = range(piece.cols.start, piece.cols.start), []
            cols = range(cols.start, piece.cols.stop)
            if piece.visible is not None:
                own = slice(piece.cols.start - cols.start, piece.cols.stop - cols.start)
                masked.append((own, piece.visible))
    if cols:
        yield Rectangle(rows, cols, masked)
