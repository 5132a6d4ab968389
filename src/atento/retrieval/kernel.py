"""Attention whose scores are computed first, in float64: kernels, whose distances need it.

A distance from the product, ``q · k − ‖k‖²/2``, loses what two large squares have in common; here
it is the sum of squared differences, so two keys are told apart wherever floats can do it. The
scores of a block of queries enter `attention` as its bias.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atento.equation import attention
from atento.retrieval.similarity import dot_scale, unit_rows

__all__ = ["Kernel", "attend_with_kernel", "similarities"]

Array = NDArray[np.float64]

CELLS = 2**21
"""Queries × keys whose scores are held at once: 16 MB, of which there are a few copies."""

TILE = 2**15
"""Differences that stay in the cache while their squares are added up."""


@dataclass(frozen=True, eq=False)
class Kernel:
    """What some of the queries see.

    Attributes:
        queries: which of the queries.
        weights: (query, key).
        value: (query, dv).
        lse: (query,), the logarithm of Σ exp(similarity / temperature); at temperature 0 of the
            largest similarities alone, undivided.
    """

    queries: slice
    weights: Array
    value: Array
    lse: Array


def attend_with_kernel(
    queries: Array,
    keys: Array,
    values: Array,
    *,
    similarity: str,
    temperature: float,
) -> Iterator[Kernel]:
    """Attend to all keys, some queries at a time, so that memory does not grow with queries × keys.

    Args:
        queries: (n, d).
        keys: (size, d), at least one.
        values: (size, dv).
        similarity: "dot", "cosine" or "distance".
        temperature: 0: the keys of the largest similarity share the weight.

    >>> three, last = np.array([[1.0], [2.0], [4.0]]), np.array([[4.0]])
    >>> (near,) = attend_with_kernel(last, three, three, similarity="distance", temperature=1.0)
    >>> near.weights.round(4), near.value.round(4)
    (array([[0.0097, 0.118 , 0.8723]]), array([[3.7348]]))
    """
    if similarity == "cosine":
        queries, keys = unit_rows(queries, "the query"), unit_rows(keys, "a key")
    step = max(1, CELLS // len(keys))
    for start in range(0, len(queries), step):
        part = slice(start, min(start + step, len(queries)))
        near = similarities(queries[part], keys, similarity)
        highest = near.max(axis=1, keepdims=True)
        scores = _over_temperature(near - highest, temperature)
        # attention's own product of query and key is 0: the scores are its bias
        value, weights, lse = attention(
            np.zeros((len(scores), 1)),
            np.zeros((len(keys), 1)),
            values,
            bias=scores,
            return_weights=True,
            return_lse=True,
        )
        highest = highest[:, 0] / (temperature or 1.0)
        yield Kernel(part, weights, value, lse + highest)


def similarities(queries: Array, keys: Array, similarity: str) -> Array:
    """(query, key): what the temperature divides. Cosines are of rows that have length 1."""
    if similarity != "distance":
        return (queries @ keys.T) * dot_scale(similarity, keys.shape[1])
    near = np.empty((len(queries), len(keys)))
    step = max(1, TILE // max(len(queries), 1))
    for start in range(0, len(keys), step):
        part = slice(start, start + step)
        squares = near[:, part]
        squares[:] = 0
        for of_queries, of_keys in zip(queries.T, keys[part].T, strict=True):
            difference = of_queries[:, None] - of_keys
            difference *= difference
            squares += difference
    near *= -0.5
    return near


def _over_temperature(below: Array, temperature: float) -> Array:
    """Scores below the highest, which is 0: so neither exp nor the division can overflow."""
    if temperature == 0:
        return np.where(below == 0, 0.0, -np.inf)
    with np.errstate(over="ignore"):  # −∞ is what a key too far for a float weighs
        return below / temperature
