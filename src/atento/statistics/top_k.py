"""TopK: the keys that a query looks at most."""

from typing import Any

from atento._errors import InputError
from atento.statistics.argmax import argmax
from atento.statistics.block import Block
from atento.statistics.statistic import Statistic

__all__ = ["TopK"]


class TopK(Statistic):
    """The k largest weights of each query, largest first, and their keys; of equals the first key.

    Args:
        k: how many.

    Results: "top_weights" (head, query, k), and "top_keys" (head, query, k) int64. Where a query
    gives fewer than k keys a weight above 0, the rest is filled with weight 0 and key −1.

    Raises:
        InputError: when k is no whole number of at least 1.

    >>> import numpy as np
    >>> from atento.statistics import survey
    >>> x = np.array([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0]])
    >>> survey(x, x, x, statistics=[TopK(2)])["top_keys"]
    array([[0, 2],
           [1, 0],
           [0, 2]])
    """

    by_head = True

    def __init__(self, k: int = 8) -> None:
        if isinstance(k, bool) or not hasattr(k, "__index__") or k < 1:
            raise InputError(f"k, how many keys TopK lists, must be a whole number ≥ 1; got {k!r}.")
        self.k = int(k)
        axes = ("head", "query", "rank")
        self.results = {"top_weights": axes, "top_keys": axes}

    def _begin(self) -> None:
        extent = self.extent
        shape = (extent.heads, extent.queries, self.k)
        self.weights = extent.full(shape, 0.0)
        self.keys = extent.xp.full(shape, -1, dtype=extent.xp.int64, device=extent.device)
        self.max = extent.full(shape[:2], 0.0)  # NaN where a weight is

    def update(self, block: Block) -> None:
        """Search those rows alone whose last place the block beats."""
        xp, at = block.extent.xp, block.at_queries
        weights, keys = self.weights[at], self.keys[at]
        last, (largest, _) = weights[..., -1], block.largest
        equal = (largest == last) & (keys[..., -1] > block.cols.start)
        better = (largest > last) | equal
        if xp.any(better):
            found, where = _largest(xp, block.weights[better], last[better], self.k)
            old, new = (weights[better], keys[better]), (found, block.cols.start + where)
            weights[better], keys[better] = _best(xp, self.k, old, new)
        self.max[at] = xp.maximum(self.max[at], largest)

    def merge(self, other: Any) -> None:
        """Keep the k largest of both lists."""
        self._check_mergeable(other)
        xp = self.extent.xp
        old, new = (self.weights, self.keys), (other.weights, other.keys)
        self.weights, self.keys = _best(xp, self.k, old, new)
        self.max = xp.maximum(self.max, other.max)

    def result(self) -> dict[str, Any]:
        """Weights and keys, (head, query, k)."""
        nan = (self.max - self.max)[..., None]  # 0, or NaN, which no comparison lets in
        return {
            "top_weights": self.weights + nan,
            "top_keys": self.extent.xp.asarray(self.keys, copy=True),
        }


def _largest(xp: Any, weights: Any, least: Any, k: int) -> tuple[Any, Any]:
    """The largest of each row, at most k and all that are above `least`, and where: (n, rank).

    One after the other: each is taken out of `weights`, which is ours.
    """
    row = xp.arange(weights.shape[0], device=weights.device)
    found: list[Any] = []
    where: list[Any] = []
    for _ in range(min(k, weights.shape[1])):
        key = argmax(xp, weights)
        largest = weights[row, key]
        if found and not xp.any(largest >= least):
            break
        found.append(largest)
        where.append(key)
        weights[row, key] = -1.0
    return xp.stack(found, axis=-1), xp.stack(where, axis=-1)


def _best(xp: Any, k: int, *lists: tuple[Any, Any]) -> tuple[Any, Any]:
    """The k largest of lists (..., rank) of weights and keys, in order."""
    weights, keys = (xp.concat(both, axis=-1) for both in zip(*lists, strict=True))
    order = xp.argsort(keys, axis=-1, stable=True)
    weights, keys = (xp.take_along_axis(x, order, axis=-1) for x in (weights, keys))
    order = xp.argsort(-weights, axis=-1, stable=True)[..., :k]
    weights, keys = (xp.take_along_axis(x, order, axis=-1) for x in (weights, keys))
    empty = weights <= 0
    return xp.where(empty, 0.0 * weights, weights), xp.where(empty, -1 + 0 * keys, keys)
