"""How telling a head is: how sharply it looks at something that is not an obvious place."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atento._errors import ShapeError

__all__ = ["Telling", "how_telling"]


@dataclass(frozen=True)
class Telling:
    """What one head's weights say about it.

    Attributes:
        score: from 0 (looks evenly, or only at obvious places) to 1.
        query, key, weight: its strongest link to a place that is not obvious, as positions and a
            weight; None when there is no such link.
    """

    score: float
    query: int | None = None
    key: int | None = None
    weight: float | None = None


def how_telling(
    weights: NDArray[np.floating], visible: NDArray[np.bool_] | None = None, *, same_tokens: bool
) -> Telling:
    r"""Measures how telling one head is.

    For each query that may see more than one key::

        sharpness = 1 - entropy(row / sum(row)) / ln(visible keys)
        elsewhere = the part of the row's weight that lies on places that are not obvious

    and the score is the mean of ``sharpness × elsewhere``. Obvious are the first token, the token
    itself and the token just before: almost every head of almost every model looks there, on every
    text. Where queries and keys are not the same tokens (cross-attention), "itself" and "before"
    mean nothing and no place is obvious: ``elsewhere`` is all of the row's weight, which is 1
    unless a sink took some, and the score is the mean sharpness.

    Queries that see at most one key, and rows with a NaN, have no sharpness and are left out.

    Args:
        weights: (query, key), the weights of one head.
        visible: (query, key), True where the query may look; None when all may. It can't be read
            off the weights: a weight of 0 can also be a softmax that underflowed.
        same_tokens: whether query i and key i are the same token.

    Returns:
        The score and the strongest link; of equal links, the first.

    Raises:
        ShapeError: the arrays don't have the same two axes.

    >>> import numpy as np
    >>> weights = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0.0]])
    >>> how_telling(weights, np.tri(4, dtype=bool), same_tokens=True)
    Telling(score=0.333..., query=3, key=1, weight=1.0)
    """
    weights = np.asarray(weights, dtype=np.float64)
    if weights.ndim != 2:
        raise ShapeError(
            f"weights must have the axes (query, key) of one head. Got {weights.ndim} axes: "
            "give one head at a time, weights[head]."
        )
    queries, keys = weights.shape
    seen = np.ones(weights.shape, dtype=bool) if visible is None else np.asarray(visible)
    if seen.shape != weights.shape:
        raise ShapeError(
            f"visible must have the shape of weights, {weights.shape}. Got {seen.shape}."
        )

    choices = seen.sum(axis=1)
    counts = (choices > 1) & ~np.isnan(weights).any(axis=1)
    if not counts.any():
        return Telling(score=0.0)

    elsewhere = seen & counts[:, None]
    if same_tokens:
        elsewhere[:, :1] = False
        back = np.arange(queries)[:, None] - np.arange(keys)
        elsewhere[(back == 0) | (back == 1)] = False

    rows = np.where(seen, weights, 0.0)[counts]
    total = rows.sum(axis=1, keepdims=True)
    share = np.divide(rows, total, out=np.zeros_like(rows), where=total > 0)
    # 0 ln 0 is 0: the logarithm is taken of 1 there
    entropy = -(share * np.log(np.where(share > 0, share, 1.0))).sum(axis=1)
    sharpness = np.clip(1.0 - entropy / np.log(choices[counts]), 0.0, 1.0)
    away = np.where(elsewhere, weights, 0.0)[counts].sum(axis=1)
    score = float((sharpness * away).mean())

    candidates = np.where(elsewhere, weights, 0.0)
    best = int(np.argmax(candidates[counts]))
    row, key = divmod(best, keys)
    query = int(np.flatnonzero(counts)[row])
    weight = float(candidates[query, key])
    if weight <= 0.0:
        return Telling(score=score)
    return Telling(score=score, query=query, key=key, weight=weight)
