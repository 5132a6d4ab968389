"""From scores to weights: the softmax of what is listed beside the sums of everything else."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from atento.retrieval.passing import Sums
from atento.retrieval.question import Question
from atento.retrieval.ranking import Ranking, found_above

__all__ = ["Fields", "shared", "weighed"]

Array = npt.NDArray[Any]
Fields = tuple[Array, Array, Array, Array, Array | None, Array]
"""Log-sum-exp, rows, weights, scores, value and mass."""


def weighed(question: Question, found: Ranking, sums: Sums) -> Fields:
    """Weights of the rows listed, among all keys.

    The largest terms of the sums are taken out as the fast pass had them, and put in again by
    their scores in float64: where few keys hold most weight, that is most of the rounding.
    """
    shift, total, summed = sums
    top = np.maximum(shift, found.exact.max(axis=1, initial=-np.inf, keepdims=True))
    even = np.where(top == -np.inf, 0, top)  # −∞ − −∞ would be NaN
    terms, replaced = np.exp(found.exact - even), np.exp(found.fast - even)
    shrink = np.exp(shift - even)
    others = np.maximum(total * shrink - replaced.sum(axis=1, keepdims=True), 0)
    if found.complete:  # there are no others; NaN stays
        others, summed, replaced = 0 * total, 0 * summed, 0 * replaced
    whole = others + terms.sum(axis=1, keepdims=True)
    lse = (even + np.log(whole))[:, 0]
    whole = np.where(whole == 0, 1, whole)  # no key is seen
    value = None
    if question.values is not None:
        value = summed * shrink
        for own, rows, change in zip(value, found.near, terms - replaced, strict=True):
            listed = rows >= 0
            change = change[listed] @ question.values[rows[listed]]
            own += np.where(np.isfinite(own), change, 0)
        value /= whole
    weights = np.exp(found.scores - even) / whole
    return _fields(question, found, lse, weights, value)


def shared(question: Question, found: Ranking, sums: Sums) -> Fields:
    """The limit of temperature 0: the keys of the largest score share all weight equally.

    Scores are equal where float64 cannot tell them apart.
    """
    least = found.scores[:, 0] - found.rounding
    count = np.zeros(len(least))
    features = 0 if question.values is None else question.values.shape[1]
    summed = np.zeros((len(least), features))
    for query, row in _ties(question, found, least):
        count += np.bincount(query, minlength=len(count))
        if question.values is not None:
            for i in np.unique(query):
                own = question.values[row[query == i]]
                summed[i] += own.sum(axis=0, dtype=np.float64)
    nan = 0 * sums[1]  # 0, or NaN where a score was
    each = 1 / np.maximum(count, 1)[:, None] + nan
    weights = np.where((found.rows >= 0) & (found.scores >= least[:, None]), each, nan)
    lse = found.scores[:, 0] + np.log(count) + nan[:, 0]
    value = None if question.values is None else summed * each
    return _fields(question, found, lse, weights, value)


def _ties(question: Question, found: Ranking, least: Array) -> Iterator[tuple[Array, Array]]:
    """Queries and rows (pair,) whose scores are at least as large as they say (query,)."""
    tied = (found.exact >= least[:, None]) & (found.near >= 0) & ~found.open[:, None]
    query, place = np.nonzero(tied)
    yield query, found.near[query, place]
    which = np.flatnonzero(found.open)
    if len(which):
        bound = found.scores[which, 0] - found.margin[which]
        for place, row, scores in found_above(question, which, bound):
            tied = scores >= least[which[place]]
            yield which[place[tied]], row[tied]


def _fields(
    question: Question, found: Ranking, lse: Array, weights: Array, value: Array | None
) -> Fields:
    dtype = question.queries.dtype
    if value is not None and question.values is not None:
        value = value.astype(np.result_type(dtype, question.values.dtype))
    mass = weights.sum(axis=1)
    single = (x.astype(dtype) for x in (lse, weights, found.scores, mass))
    lse, weights, scores, mass = single
    return lse, found.rows, weights, scores, value, mass
