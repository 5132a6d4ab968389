"""Which keys have the largest scores, in float64: what rounding in a fast pass cannot change."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from atento.retrieval.best import ranked
from atento.retrieval.passing import Blocks, Near
from atento.retrieval.question import Question

__all__ = ["Ranking", "found_above", "ranking", "ranking_among"]

Array = npt.NDArray[Any]
Pairs = tuple[Array, Array, Array]

MANY = 65536
"""Pairs that are collected before they are put in order."""


@dataclass(frozen=True, eq=False)
class Ranking:
    """The keys of the largest scores, by scores in float64, and how they were found.

    Attributes:
        rows, scores: (query, top_k), largest first, of equals the lower row; −1 and −∞ at the end.
        near: (query, rank), rows that the fast pass found; −1 at the end.
        fast, exact: (query, rank), their scores in the pass and in float64; −∞ at the end.
        margin: (query,), how far the two may be apart.
        rounding: (query,), how far scores in float64 may be off.
        open: (query,), whether other keys may have scores as large as the last row listed.
        complete: whether the pass kept all keys there are.
    """

    rows: Array
    scores: Array
    near: Array
    fast: Array
    exact: Array
    margin: Array
    rounding: Array
    open: Array
    complete: bool


def ranking(question: Question, near: Near) -> Ranking:
    """The rows in the order of their scores in float64.

    Where the pass may have missed one, since more keys than it kept are nearly equal, all that
    come near are looked at in a second pass.
    """
    fast, rows = near
    found = ranking_among(question, rows, bounded=True)
    complete = rows.shape[1] == question.keys.size
    margin = found.rounding / np.finfo(np.float64).eps * np.finfo(question.queries.dtype).eps
    missed = np.zeros(len(rows), bool)
    if rows.size and not complete:
        missed = ~(fast[:, -1] + margin < found.scores[:, -1]) & (rows[:, -1] >= 0)
    if missed.any():
        which = np.flatnonzero(missed)
        pairs = found_above(question, which, found.scores[which, -1] - margin[which])
        found.scores[which], found.rows[which] = _best(pairs, (len(which), question.top_k))
    fast = fast.astype(np.float64)
    return replace(found, fast=fast, margin=margin, open=missed, complete=complete)


def ranking_among(question: Question, rows: Array, *, bounded: bool = False) -> Ranking:
    """The order of some rows (query, n), each at most once and −1 for none; no others count.

    Args:
        question: whose queries.
        rows: of keys.
        bounded: whether their rounding is wanted; at temperature 0 it always is.
    """
    query, place = np.nonzero(rows >= 0)
    row, exact = rows[query, place], np.full(rows.shape, -np.inf)
    exact[query, place] = pairs = question.exact(query, row)
    scores, best = ranked([(query, row, pairs)], (len(rows), question.top_k))
    rounding = np.zeros(len(rows))
    if bounded or not question.temperature:
        np.maximum.at(rounding, query, question.magnitudes(query, row))
        rounding *= (question.keys.dim + 4) * np.finfo(np.float64).eps
    return Ranking(
        rows=best,
        scores=scores,
        near=rows,
        fast=np.full(rows.shape, -np.inf),
        exact=exact,
        margin=np.zeros(len(rows)),
        rounding=rounding,
        open=np.zeros(len(rows), bool),
        complete=True,
    )


def found_above(question: Question, which: Array, bound: Array) -> Iterator[Pairs]:
    """All pairs of some queries and keys whose score in a fast pass is at least a bound (query,).

    Yields:
        Place in ``which``, row, and score in float64: (pair,) each.
    """
    scaled = question.scaled_queries()[which]
    for first, scores in Blocks(question, len(which)).scores(scaled, 0, question.keys.size):
        place, key = np.nonzero(scores >= bound[:, None])
        if len(place):
            yield place, first + key, question.exact(which[place], first + key)


def _best(found: Iterator[Pairs], shape: tuple[int, int]) -> tuple[Array, Array]:
    pairs: list[Pairs] = []
    for some in found:
        pairs.append(some)
        if sum(len(x[0]) for x in pairs) > MANY:
            scores, rows = ranked(pairs, shape)
            place = np.nonzero(rows >= 0)
            pairs = [(place[0], rows[place], scores[place])]
    return ranked(pairs, shape)
