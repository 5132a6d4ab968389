"""Distance: how far back a query looks, in the mean, and how much that varies."""

from collections.abc import Hashable, Iterator
from typing import Any

from atento.statistics.block import Block
from atento.statistics.statistic import Statistic

__all__ = ["Distance"]

BAND = 1024
"""Queries whose moments are kept about one position, in float64."""


class Distance(Statistic):
    """Mean and standard deviation of the distance looked back, ``position of i − j``.

    ``mean = Σ_j p_ij (first_query + i − j) / Σ_j p_ij``, and the standard deviation about it, of
    one query and head; positive behind the query, negative ahead of it. Weights are divided by
    their sum, which a sink makes less than 1. Both are 0 for a query that sees no key.

    Results: "distance_mean" and "distance_std", (head, query).

    Second moments cancel: at 100,000 tokens the squares reach 1e10, far beyond what float32 can
    subtract. So pieces of 16 keys give their moments about their own middle, where squares stay
    below 60, and these are joined in float64. What rounding can leave of a variance counts as 0:
    in float32 up to 4e-6, a deviation of 0.002 keys, and 2e-15 of the square of the distance.

    >>> import numpy as np
    >>> from atento.statistics import survey
    >>> x = np.array([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0]])
    >>> survey(x, x, x, statistics=[Distance()])["distance_mean"].round(4)
    array([-1.,  0.,  1.])
    """

    by_head = True

    def __init__(self) -> None:
        self.results = {"distance_mean": ("head", "query"), "distance_std": ("head", "query")}

    def asks(self) -> tuple[Hashable, ...]:
        """The moments of each row."""
        return ("moments",)

    def _begin(self) -> None:
        extent = self.extent
        # Σ p, Σ p x and Σ p x², with x = j − first_query − (query 0 of the band)
        self.moments = extent.sums((extent.heads, extent.queries, 3))

    def update(self, block: Block) -> None:
        """Add the moments of the block, which lies in one band or, seldom, in several."""
        heads = block.at_queries[0]
        for start, stop, first in _bands(block.rows):
            own = block.moments[:, start - block.rows.start : stop - block.rows.start]
            moments = self.moments[heads, start:stop]
            moments += own @ self._shift(block.rows.start - first)

    def merge(self, other: Any) -> None:
        """Add the other part's moments: they are about the same positions."""
        self._check_mergeable(other)
        self.moments += other.moments

    def result(self) -> dict[str, Any]:
        """Mean and standard deviation, (head, query)."""
        extent, xp = self.extent, self.extent.xp
        total, first, second = (self.moments[..., power] for power in range(3))
        total = xp.where(total == 0, xp.ones_like(total), total)
        mean = first / total
        square = second / total
        variance = square - mean * mean
        least = ROUNDING * xp.abs(square) + (WITHIN if _is_single(extent.dtype) else 0.0)
        # NaN is not below anything, and stays
        variance = xp.where(variance <= least, xp.zeros_like(variance), variance)
        within = xp.arange(extent.queries, device=extent.device) % BAND
        looked_back = xp.where(self.moments[..., 0] == 0, xp.zeros_like(mean), within - mean)
        return {
            "distance_mean": extent.rounded(looked_back),
            "distance_std": extent.rounded(xp.sqrt(variance)),
        }

    def _shift(self, ahead: int) -> Any:
        """What turns moments about 0 into those of x + ahead: (power, power)."""
        rows = [[1.0, ahead, ahead * ahead], [0.0, 1.0, 2.0 * ahead], [0.0, 0.0, 1.0]]
        extent = self.extent
        return extent.xp.asarray(rows, dtype=extent.sums_dtype, device=extent.device)


ROUNDING = 2e-15
"""Of a mean square: what adding it up in float64 may leave of the variance."""

WITHIN = 4e-6
"""What float32 may leave of the variance within a piece: 64 · 2⁻²⁴."""


def _is_single(dtype: Any) -> bool:
    return "float32" in str(dtype)


def _bands(rows: range) -> Iterator[tuple[int, int, int]]:
    """(start, stop, first query of the band) of the parts of these rows."""
    for band in range(rows.start // BAND, (rows.stop - 1) // BAND + 1):
        first = band * BAND
        yield max(first, rows.start), min(first + BAND, rows.stop), first
