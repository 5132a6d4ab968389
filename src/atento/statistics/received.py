"""Received: how much attention each key gets."""

from typing import Any

from atento.statistics.block import Block
from atento.statistics.statistic import Statistic

__all__ = ["Received"]


class Received(Statistic):
    """``received[h, j] = Σ_i p_ij`` and ``received_max[h, j] = max_i p_ij``.

    The sum over all keys is the number of queries that see a key (less what sinks take).

    Results: "received" and "received_max", (head, key).
    """

    def __init__(self) -> None:
        self.results = {"received": ("head", "key"), "received_max": ("head", "key")}

    def _begin(self) -> None:
        shape = (self.extent.heads, self.extent.keys)
        self.sum = self.extent.sums(shape)
        self.max = self.extent.full(shape, 0.0)

    def update(self, block: Block) -> None:
        """Reduce the block over its queries, or what `Overview` has reduced already."""
        xp, at = block.extent.xp, block.at_keys
        for total, largest in block.cache.get("row_bins") or [_over_queries(block)]:
            received = self.sum[at]
            received += total.sum(-2)
            self.max[at] = xp.maximum(self.max[at], xp.max(largest, axis=-2))

    def merge(self, other: Any) -> None:
        """Add the sums, and keep the larger of the maxima."""
        self.sum += other.sum
        self.max = self.extent.xp.maximum(self.max, other.max)

    def result(self) -> dict[str, Any]:
        """Sum and maximum, (head, key)."""
        extent = self.extent
        return {
            "received": extent.rounded(self.sum),
            "received_max": extent.xp.asarray(self.max, copy=True),
        }


def _over_queries(block: Block) -> tuple[Any, Any]:
    return block.weights, block.weights
