"""The keys of the largest scores, of blocks that pass by once, without sorting any block."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Best", "ranked"]

Array = npt.NDArray[Any]

WAITING = 16
"""Scores for each query that are collected, on average, before they are put in order."""


class Best:
    """For each query the ``count`` largest scores and their rows; of equals the lower rows.

    A block is compared with each query's last place at once; the few scores above it are
    collected, and put in order some blocks later. NaN and −∞ are never listed.

    Args:
        floor: (query,), scores below these are known not to be wanted.
        count: how many rows are kept for each query.

    Attributes:
        scores, rows: (query, count), largest first; −∞ and −1 where there are fewer.
    """

    def __init__(self, floor: Array, count: int) -> None:
        shape = (len(floor), count)
        self.scores = np.full(shape, -np.inf, floor.dtype)
        self.rows = np.full(shape, -1, np.int64)
        self.least = np.nextafter(floor, floor.dtype.type(-np.inf))
        self.waiting: list[tuple[Array, Array, Array]] = []
        self.length = 0

    def add(self, scores: Array, first: int) -> None:
        """Look through a block of scores (query, key), whose first key stands in row ``first``."""
        queries, count = self.scores.shape
        above = scores > self.least[:, None]
        if (
            np.count_nonzero(above) > 4 * queries * count
        ):  # as in the first block: too many to collect
            above = largest(np.where(above, scores, -np.inf), count)
        query, key = _places(above)
        if not len(query):
            return
        self.waiting.append((query, first + key, scores[query, key]))
        self.length += len(query)
        if self.length > WAITING * queries:
            self.settle()

    def settle(self) -> None:
        """Put in order what was collected."""
        if self.waiting:
            query, place = np.nonzero(self.rows >= 0)
            old = (query, self.rows[query, place], self.scores[query, place])
            self.scores, self.rows = ranked([old, *self.waiting], self.scores.shape)
            np.maximum(self.least, self.scores[:, -1], out=self.least)
            self.waiting, self.length = [], 0


def _places(hit: Array) -> tuple[Array, Array]:
    """Where a block (query, key) is true; in the order of memory, which is the faster by far."""
    if hit.flags.c_contiguous:
        query, key = np.divmod(np.flatnonzero(hit), hit.shape[1])
    else:
        key, query = np.divmod(np.flatnonzero(hit.T), hit.shape[0])
    return query, key


def ranked(
    lists: Sequence[tuple[Array, Array, Array]], shape: tuple[int, int]
) -> tuple[Array, Array]:
    """Scores and rows (query, rank) of the largest in lists of (query, row, score).

    Largest first, of equals the lower row; −∞ and −1 where there are fewer.
    """
    query, row, score = (np.concatenate(column) for column in zip(*lists, strict=True))
    order = np.lexsort((row, -score, query))
    query, row, score = query[order], row[order], score[order]
    rank = np.arange(len(query)) - np.searchsorted(query, np.arange(shape[0]))[query]
    kept = rank < shape[1]
    scores, rows = np.full(shape, -np.inf, score.dtype), np.full(shape, -1, np.int64)
    scores[query[kept], rank[kept]] = score[kept]
    rows[query[kept], rank[kept]] = row[kept]
    return scores, rows


def largest(scores: Array, count: int) -> Array:
    """Which are the ``count`` largest of each row, of equals the first; never −∞."""
    if count >= scores.shape[1]:
        return scores > -np.inf
    place = scores.shape[1] - count
    last = np.partition(scores, place, axis=1)[:, place, None]
    above = scores > last
    equal = (scores == last) & (scores > -np.inf)
    room = count - above.sum(axis=1, keepdims=True)
    wanted: Array = above | (equal & (np.cumsum(equal, axis=1) <= room))
    return wanted
