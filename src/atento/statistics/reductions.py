"""What statistics ask of a block, each computed once: sums, maxima and moments of its weights.

Written for NumPy and torch alike. `compiled.py` makes the same numbers while it makes the weights.
"""

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from atento._arrays import is_numpy
from atento.statistics.argmax import argmax
from atento.statistics.bins import bins_of
from atento.statistics.finite import LOWEST

if TYPE_CHECKING:
    from atento.statistics.block import Block

__all__ = [
    "PIECE",
    "RowBins",
    "columns",
    "diagonal",
    "largest",
    "logarithms",
    "moments",
    "negative_entropy",
    "on_key",
    "row_bins",
]

PIECE = 16
"""Keys whose moments are taken about their own middle, in the weights' precision."""


class RowBins(NamedTuple):
    """Weights of some bins of queries: which bins, and over their queries sums and maxima.

    Sums and maxima are (head, row bin, key), of the queries that the block has of each bin.
    """

    where: slice
    sums: Any
    maxima: Any


def logarithms(block: "Block") -> Any:
    """The logarithm of each weight, and that of the least one where it is 0."""
    xp, weights = block.extent.xp, block.weights
    lowest = LOWEST[str(weights.dtype).rpartition(".")[2]]
    with np.errstate(divide="ignore"):
        return xp.maximum(xp.log(weights), xp.full_like(weights[..., :1], lowest))


def negative_entropy(block: "Block") -> Any:
    """NumPy's vecdot makes no array of products; torch's is far slower than the product."""
    if is_numpy(block.weights):
        return np.vecdot(block.weights, block.log_weights)
    return (block.weights * block.log_weights).sum(-1)


def largest(block: "Block") -> tuple[Any, Any]:
    """One pass: the first largest, and the weight that stands there."""
    xp = block.extent.xp
    key = argmax(xp, block.weights)
    found = xp.take_along_axis(block.weights, key[..., None], axis=-1)[..., 0]
    return found, block.cols.start + key


def row_bins(block: "Block", height: int, first_row: int = 0) -> list[RowBins]:
    """The cut bin at the block's start, whole ones, and the cut one at its end."""
    xp, found = block.extent.xp, []
    span = range(block.rows.start + first_row, block.rows.stop + first_row)
    for rows in bins_of(span, height):
        part = block.weights[:, rows.start : rows.stop]
        # (head, query, key) -> (head, row bin, query within it, key)
        part = xp.reshape(part, (part.shape[0], rows.bins, -1, part.shape[-1]))
        found.append(RowBins(rows.where, part.sum(-2), xp.max(part, axis=-2)))
    return found


def columns(block: "Block") -> tuple[Any, Any]:
    """Over all queries, from what there is of `row_bins`."""
    xp = block.extent.xp
    binned = [made for name, made in block.cache.items() if _is_row_bins(name)]
    if not binned:
        return block.weights.sum(-2), xp.max(block.weights, axis=-2)
    first, *others = ((own.sums.sum(-2), xp.max(own.maxima, axis=-2)) for own in binned[0])
    total, most = first
    for more, other in others:
        total, most = total + more, xp.maximum(most, other)
    return total, most


def _is_row_bins(name: Any) -> bool:
    return isinstance(name, tuple) and name[0] == "row_bins"


def on_key(block: "Block", key: int) -> Any:
    """One column, or nothing."""
    if key in block.cols:
        return block.weights[..., key - block.cols.start]
    return block.extent.xp.zeros_like(block.weights[..., 0])


def diagonal(block: "Block", ahead: int) -> Any:
    """The part of the diagonal that the block has."""
    rows, cols = block.rows, block.cols
    offset = block.extent.first_query + ahead  # query i looks at key i + offset
    found = block.extent.xp.zeros_like(block.weights[..., 0])
    start, stop = max(rows.start, cols.start - offset), min(rows.stop, cols.stop - offset)
    if start < stop:
        square = block.weights[
            :,
            start - rows.start : stop - rows.start,
            start + offset - cols.start : stop + offset - cols.start,
        ]
        found[:, start - rows.start : stop - rows.start] = square.diagonal(0, -2, -1)
    return found


def moments(block: "Block") -> Any:
    """Moments of pieces about their own middles, joined in the dtype of the sums."""
    xp, extent = block.extent.xp, block.extent
    heads, rows, keys = block.weights.shape
    total = None
    for start, stop, width in split(keys, PIECE):
        first = block.cols.start + start - extent.first_query - block.rows.start
        table = (xp, extent.device, (stop - start) // width, width, first)
        powers, joining = _tables(*table, block.weights.dtype, extent.sums_dtype)
        # (head, query, key) -> moments about the middle of each piece: (n, power)
        pieces = xp.reshape(block.weights[..., start:stop], (-1, width))
        own = xp.reshape(_joined(xp, pieces, powers, joining), (heads, rows, 3))
        total = own if total is None else total + own
    return total


def split(length: int, width: int) -> list[tuple[int, int, int]]:
    """(start, stop, width) of what pieces of this width fill, and of one narrower piece at the end.

    >>> split(10, 4)
    [(0, 8, 4), (8, 10, 2)]
    """
    whole = length // width * width
    spans = [(0, whole, width), (whole, length, length - whole)]
    return [span for span in spans if span[0] < span[1]]


def _joined(xp: Any, pieces: Any, powers: Any, table: Any) -> Any:
    """Moments of the pieces, and of the rows that they make up: (row, power)."""
    if is_numpy(pieces):
        return xp.reshape(pieces @ powers, (-1, table.shape[0])) @ table
    # (power, row, piece): torch is faster this way round, NumPy that
    own = xp.reshape(powers @ pieces.T, (3, -1, table.shape[1]))
    return (xp.astype(own, table.dtype) @ table).sum(0)


@lru_cache(maxsize=1024)
def _tables(
    xp: Any, device: Any, count: int, width: int, first: int, dtype: Any, sums_dtype: Any
) -> tuple[Any, Any]:
    """Powers of each key of a piece (power, key), and what joins pieces (power, piece, power).

    For NumPy (key, power), and (piece and power, power).
    """
    powers, table = _powers(width), _table(width, count, first)
    if xp is np:
        powers, table = powers.T, table.transpose(1, 0, 2).reshape(count * 3, 3)
    powers, table = np.ascontiguousarray(powers), np.ascontiguousarray(table)
    return (
        xp.asarray(powers, dtype=dtype, device=device),
        xp.asarray(table, dtype=sums_dtype, device=device),
    )


def _powers(width: int) -> Any:
    """1, y and y² for each key of a piece, y counted from its middle: (power, key)."""
    y = np.arange(width) - (width - 1) / 2
    return np.stack([np.ones(width), y, y * y])


def _table(width: int, count: int, first: int) -> Any:
    """What turns moments about the pieces' middles m into moments about 0 and adds them up.

    With x = m + y: ``Σ p x = m Σ p + Σ p y`` and ``Σ p x² = m² Σ p + 2 m Σ p y + Σ p y²``.
    Its axes are (power, piece, power).
    """
    middle = first + width * np.arange(count) + (width - 1) / 2
    table = np.zeros((3, count, 3))
    table[0] = np.stack([np.ones(count), middle, middle * middle], axis=1)
    table[1, :, 1], table[1, :, 2] = 1, 2 * middle
    table[2, :, 2] = 1
    return table
