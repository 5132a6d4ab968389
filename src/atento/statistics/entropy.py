"""Entropy: over how many keys a query spreads its attention."""

from collections.abc import Hashable
from typing import Any

from atento.statistics.block import Block
from atento.statistics.query_sum import QuerySum

__all__ = ["Entropy"]


class Entropy(QuerySum):
    """``entropy[h, i] = − Σ_j p_ij log p_ij`` in nats, with p the weights of head h.

    0 when one key gets all the weight, log n when n keys share it; 0 for a query that sees no key.
    What a sink takes has no share in it.

    Result: "entropy" (head, query).

    Source: Shannon 1948, "A Mathematical Theory of Communication".

    >>> import numpy as np
    >>> from atento.statistics import survey
    >>> x = np.array([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0]])
    >>> survey(x, x, x, statistics=[Entropy()])["entropy"].round(4)
    array([0.8035, 0.4107, 0.8035])
    """

    by_head = True

    def __init__(self) -> None:
        super().__init__("entropy")

    def asks(self) -> tuple[Hashable, ...]:
        """Each row's ``Σ p log p``."""
        return ("negative_entropy",)

    def update(self, block: Block) -> None:
        """Subtract ``Σ p log p`` of each row."""
        entropy = self.sum[block.at_queries]
        entropy -= block.negative_entropy

    def result(self) -> dict[str, Any]:
        """The entropies. Rounding can leave −1e-8 for a weight of 1: that is 0."""
        extent = self.extent
        return {"entropy": extent.xp.maximum(extent.rounded(self.sum), extent.full((1, 1), 0.0))}
