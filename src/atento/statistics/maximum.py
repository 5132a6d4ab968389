"""Maximum: the largest weight of a query, and the key that gets it."""

from collections.abc import Hashable
from typing import Any

from atento.statistics.block import Block
from atento.statistics.statistic import Statistic

__all__ = ["Maximum"]


class Maximum(Statistic):
    """``max[h, i] = max_j p_ij``, and the first key that has it.

    Results: "max" (head, query), and "max_key" (head, query) int64; weight 0 and key −1 for a query
    that sees no key (or gives none of them a weight above 0).

    >>> import numpy as np
    >>> from atento.statistics import survey
    >>> x = np.array([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0]])
    >>> survey(x, x, x, statistics=[Maximum()])["max_key"].round(4)
    array([0, 1, 0])
    """

    by_head = True

    def __init__(self) -> None:
        self.results = {"max": ("head", "query"), "max_key": ("head", "query")}

    def _begin(self) -> None:
        extent, shape = self.extent, (self.extent.heads, self.extent.queries)
        self.max = extent.full(shape, 0.0)
        self.key = extent.xp.full(shape, -1, dtype=extent.xp.int64, device=extent.device)

    def asks(self) -> tuple[Hashable, ...]:
        """The largest weight of each row, and its key."""
        return ("largest",)

    def update(self, block: Block) -> None:
        """Keep the larger maximum; of equals the first key."""
        self._keep(block.at_queries, *block.largest)

    def merge(self, other: Any) -> None:
        """Keep the larger maximum; of equals the first key."""
        self._check_mergeable(other)
        self._keep((slice(None), slice(None)), other.max, other.key)

    def _keep(self, at: tuple[slice, slice], largest: Any, key: Any) -> None:
        xp, best, best_key = self.extent.xp, self.max[at], self.key[at]
        # A best of 0 has key −1, before which no key stands.
        better = (largest > best) | ((largest == best) & (key < best_key))
        best_key[...] = xp.where(better, key, best_key)
        best[...] = xp.maximum(best, largest)  # passes NaN on

    def result(self) -> dict[str, Any]:
        """Weights and keys, (head, query)."""
        xp = self.extent.xp
        return {"max": xp.asarray(self.max, copy=True), "max_key": xp.asarray(self.key, copy=True)}
