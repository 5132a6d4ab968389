"""Distance: how far back a query looks, in the mean, and how much that varies."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from atento._arrays import is_numpy
from atento.statistics.block import Block
from atento.statistics.statistic import Statistic

__all__ = ["Distance"]

PIECE = 16
"""Keys whose moments are taken about their own middle, in the weights' precision."""

BAND = 1024
"""Queries whose moments are kept about one position, in float64."""

TABLES = 1024
"""Tables that are kept: a causal pass over 500,000 keys needs no more."""


class Distance(Statistic):
    """Mean and standard deviation of the distance looked back, ``position of i − j``.

    ``mean = Σ_j p_ij (first_query + i − j) / Σ_j p_ij``, and the standard deviation about it, of
    one query and head; positive behind the query, negative ahead of it. Weights are divided by
    their sum, which a sink makes less than 1. Both are 0 for a query that sees no key.

    Results: "distance_mean" and "distance_std", (head, query).

    Second moments cancel: at 100,000 tokens the squares reach 1e10, far beyond what float32 can
    subtract. So pieces of 16 keys give their moments about their own middle, where squares stay
    below 60, and these are joined in float64.
    """

    def __init__(self) -> None:
        self.results = {"distance_mean": ("head", "query"), "distance_std": ("head", "query")}

    def _begin(self) -> None:
        extent = self.extent
        # Σ p, Σ p x and Σ p x², with x = j − first_query − (query 0 of the band)
        self.moments = extent.sums((extent.heads, extent.queries, 3))
        self.tables: dict[tuple[int, int, int], Any] = {}
        self.powers: dict[int, Any] = {}

    def update(self, block: Block) -> None:
        """Add the moments of the block, which lies in one band or, seldom, in several."""
        heads = block.at_queries[0]
        for start, stop, first in _bands(block.rows):
            rows = slice(start - block.rows.start, stop - block.rows.start)
            for begin, end, width in split(len(block.cols), PIECE):
                weights = block.weights[:, rows, begin:end]
                ahead = block.cols.start + begin - self.extent.first_query - first
                moments = self.moments[heads, start:stop]
                moments += self._moments(weights, width, ahead)

    def merge(self, other: Any) -> None:
        """Add the other part's moments: they are about the same positions."""
        self.moments += other.moments

    def result(self) -> dict[str, Any]:
        """Mean and standard deviation, (head, query)."""
        extent, xp = self.extent, self.extent.xp
        total, first, second = (self.moments[..., power] for power in range(3))
        total = xp.where(total == 0, xp.ones_like(total), total)
        mean = first / total
        variance = xp.maximum(second / total - mean * mean, xp.zeros_like(mean))
        within = xp.arange(extent.queries, device=extent.device) % BAND
        looked_back = xp.where(self.moments[..., 0] == 0, xp.zeros_like(mean), within - mean)
        return {
            "distance_mean": extent.rounded(looked_back),
            "distance_std": extent.rounded(xp.sqrt(variance)),
        }

    def _moments(self, weights: Any, width: int, first: int) -> Any:
        """Σ p, Σ p x and Σ p x² of each row, where x is `first` at the first of these keys."""
        xp, (heads, rows, keys) = self.extent.xp, weights.shape
        count = keys // width
        if width not in self.powers:
            powers = _powers(width).T if is_numpy(weights) else _powers(width)
            self.powers[width] = self._array(powers, weights.dtype)
        if (width, count, first) not in self.tables:
            if len(self.tables) >= TABLES:
                self.tables.clear()
            table = _table(width, count, first)
            if is_numpy(weights):
                table = table.transpose(1, 0, 2).reshape(count * 3, 3)
            self.tables[width, count, first] = self._array(table, self.moments.dtype)
        # (head, query, key) -> moments about the middle of each piece, and these joined: (n, power)
        pieces = xp.reshape(weights, (heads * rows * count, width))
        own = self.powers[width], self.tables[width, count, first]
        return xp.reshape(_joined(xp, pieces, *own), (heads, rows, 3))

    def _array(self, array: Any, dtype: Any) -> Any:
        array = np.ascontiguousarray(array)
        return self.extent.xp.asarray(array, dtype=dtype, device=self.extent.device)


def _joined(xp: Any, pieces: Any, powers: Any, table: Any) -> Any:
    """Moments of the pieces, and of the rows that they make up: (row, power).

    Args:
        xp: the array namespace.
        pieces: (row and piece, key) weights.
        powers: as `_powers` makes them, (power, key), and for NumPy (key, power).
        table: as `_table` makes it, (power, piece, power), and for NumPy (piece and power, power);
            in the precision to join in.
    """
    if is_numpy(pieces):
        return xp.reshape(pieces @ powers, (-1, table.shape[0])) @ table
    # (power, row, piece): torch is faster this way round, NumPy that
    own = xp.reshape(powers @ pieces.T, (3, -1, table.shape[1]))
    return (xp.astype(own, table.dtype) @ table).sum(0)


def _bands(rows: range) -> Iterator[tuple[int, int, int]]:
    """(start, stop, first query of the band) of the parts of these rows."""
    for band in range(rows.start // BAND, (rows.stop - 1) // BAND + 1):
        first = band * BAND
        yield max(first, rows.start), min(first + BAND, rows.stop), first


def split(length: int, width: int) -> list[tuple[int, int, int]]:
    """(start, stop, width) of what pieces of this width fill, and of one narrower piece at the end.

    >>> split(10, 4)
    [(0, 8, 4), (8, 10, 2)]
    """
    whole = length // width * width
    spans = [(0, whole, width), (whole, length, length - whole)]
    return [span for span in spans if span[0] < span[1]]


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
