"""Received: how much attention each key gets."""

from collections.abc import Hashable
from typing import Any

from atento.statistics.block import Block
from atento.statistics.statistic import Statistic

__all__ = ["Received"]


class Received(Statistic):
    """``received[h, j] = Σ_i p_ij`` and ``received_max[h, j] = max_i p_ij``.

    The sum over all keys is the number of queries that see a key (less what sinks take).

    Results: "received" and "received_max", (head, key).

    >>> import numpy as np
    >>> from atento.statistics import survey
    >>> x = np.array([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0]])
    >>> survey(x, x, x, statistics=[Received()])["received"].round(4)
    array([1.0242, 0.9517, 1.0242])
    """

    by_head = True

    def __init__(self) -> None:
        self.results = {"received": ("head", "key"), "received_max": ("head", "key")}

    def _begin(self) -> None:
        shape = (self.extent.heads, self.extent.keys)
        self.sum = self.extent.sums(shape)
        self.max = self.extent.full(shape, 0.0)

    def asks(self) -> tuple[Hashable, ...]:
        """Sums and maxima of the columns."""
        return ("columns",)

    def update(self, block: Block) -> None:
        """Add the sums of the block's columns, and keep the larger of the maxima."""
        total, largest = block.columns
        received, most = self.sum[block.at_keys], self.max[block.at_keys]
        received += total
        most[...] = block.extent.xp.maximum(most, largest)

    def merge(self, other: Any) -> None:
        """Add the sums, and keep the larger of the maxima."""
        self._check_mergeable(other)
        self.sum += other.sum
        self.max = self.extent.xp.maximum(self.max, other.max)

    def result(self) -> dict[str, Any]:
        """Sum and maximum, (head, key)."""
        extent = self.extent
        return {
            "received": extent.rounded(self.sum),
            "received_max": extent.xp.asarray(self.max, copy=True),
        }
