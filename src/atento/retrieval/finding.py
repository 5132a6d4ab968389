"""The weights of a dictionary's keys for some queries, by the engine that suits its similarity."""

from collections.abc import Iterator
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from atento._errors import InputError
from atento.retrieval.held_items import HeldItems
from atento.retrieval.kernel import attend_with_kernel
from atento.retrieval.scan import scan
from atento.retrieval.similarity import dot_scale

__all__ = ["Found", "checked_share", "checked_top", "find"]

Array = NDArray[Any]

TOGETHER = 256
"""Queries that are answered at once."""


class Found(NamedTuple):
    """What some queries find.

    Attributes:
        rows: (query, rank), the keys of most weight, the heaviest first.
        shares: (query, rank) float64, their weights.
        lse: (query,).
        mean: (query, dv) float64, of the values of all keys; None for objects.
    """

    rows: NDArray[np.int64]
    shares: NDArray[np.float64]
    lse: Array
    mean: Array | None


def find(
    queries: Array, held: HeldItems, similarity: str, temperature: float, count: int
) -> Iterator[tuple[Array, Found]]:
    """Attend to all keys, some queries at a time.

    Args:
        queries: (n, d).
        held: at least one key.
        similarity: "dot", "cosine" (of rows that have length 1) or "distance".
        temperature: divides the similarity.
        count: how many keys are listed.

    Yields:
        Some of the queries, in their order, and what they find.

    Raises:
        InputError: products or distances too large for a float.
    """
    count = min(count, held.keys.size)
    for start in range(0, len(queries), TOGETHER):
        some = queries[start : start + TOGETHER]
        if similarity == "distance":
            _check_squares(some, held)
            yield from _by_kernel(some, held, temperature, count)
        else:
            _check_products(some, held)
            scale = dot_scale(similarity, held.keys.dim)
            yield some, _by_scan(some, held, scale, temperature, count)


def _by_kernel(
    queries: Array, held: HeldItems, temperature: float, count: int
) -> Iterator[tuple[Array, Found]]:
    keys, numbers = held.keys.block(0, held.keys.size), held.numbers
    values = np.zeros((len(keys), 1)) if numbers is None else numbers
    for seen in attend_with_kernel(
        queries, keys, values, similarity="distance", temperature=temperature
    ):
        rows = _heaviest(seen.weights, count)
        shares = np.take_along_axis(seen.weights, rows, axis=1)
        mean = None if numbers is None else seen.value
        yield queries[seen.queries], Found(rows, shares, seen.lse, mean)


def _by_scan(
    queries: Array, held: HeldItems, scale: float, temperature: float, count: int
) -> Found:
    numbers = held.numbers
    small, middle, reach = (None, 0.0, 1.0) if numbers is None else _within_one(numbers)
    wide = held.dtype == "float64"
    queries = queries.astype(np.float64 if wide else np.float32)  # what the scan computes in
    seen = scan(queries, held.keys, small, scale=scale, temperature=temperature, top_k=count)
    beyond = ~np.isfinite(seen.lse)
    if beyond.any():  # a quotient too large for a float: the limit has been reached
        limit = scan(queries[beyond], held.keys, small, scale=scale, temperature=0, top_k=count)
        for name, part in vars(limit).items():
            if part is not None:
                getattr(seen, name)[beyond] = part
    shares = seen.weights.astype(np.float64)
    if count == held.keys.size:
        shares /= shares.sum(axis=1, keepdims=True)
    if numbers is None or seen.value is None:
        return Found(seen.rows, shares, seen.lse, None)
    if count == held.keys.size:  # all are listed: their mean is cheap in float64
        means = [
            own @ numbers[rows] / own.sum() for own, rows in zip(shares, seen.rows, strict=True)
        ]
        return Found(seen.rows, shares, seen.lse, np.array(means))
    return Found(seen.rows, shares, seen.lse, middle + reach * seen.value)


def _check_products(queries: Array, held: HeldItems) -> None:
    """See that no product of query and key overflows in the dtype that keys are held in."""
    limit = float(np.finfo(np.float64 if held.dtype == "float64" else np.float32).max)
    largest = float(np.abs(queries).max(initial=0.0))
    if largest and held.largest > limit / largest / (4 * held.keys.dim):
        raise InputError(
            f"the products of numbers up to {largest:.3g} in a query and {held.largest:.3g} in a "
            f"key are too large for {held.dtype}: divide the vectors by their size, take "
            'similarity="cosine", or hold them in dtype="float64".'
        )


def _check_squares(queries: Array, held: HeldItems) -> None:
    """See that no distance overflows."""
    largest = max(held.largest, float(np.abs(queries).max(initial=0.0)))
    if largest > 1e150:
        raise InputError(
            f"numbers up to {largest:.3g} are too far apart to be squared in a float: divide keys "
            "and queries by the size of their range."
        )


def _heaviest(weights: Array, count: int) -> NDArray[np.int64]:
    """(query, count): the columns of the largest weights, the first of equals first."""
    found: NDArray[np.int64]
    if count == weights.shape[1]:
        found = np.argsort(-weights, axis=1, kind="stable")
        return found
    some = np.sort(np.argpartition(-weights, count - 1, axis=1)[:, :count], axis=1)
    order = np.argsort(-np.take_along_axis(weights, some, axis=1), axis=1, kind="stable")
    found = np.take_along_axis(some, order, axis=1)
    return found


def _within_one(numbers: Array) -> tuple[Array, Array, Array]:
    """Numbers in −1 … 1, and what brings them back: ``middle + reach · numbers``.

    Their mean in single precision is then as exact as their range allows, wherever they lie.
    """
    low, high = numbers.min(axis=0) / 2, numbers.max(axis=0) / 2  # halves: no overflow
    middle, reach = low + high, high - low
    reach = np.where(reach > 0, reach, 1.0)
    return (numbers - middle) / reach, middle, reach


def checked_top(top_k: Any) -> int:
    """How many keys are listed, after a check."""
    if isinstance(top_k, bool) or not hasattr(top_k, "__index__") or top_k < 1:
        raise InputError(f"top_k must be a whole number of keys from 1 on; got {top_k!r}.")
    return int(top_k)


def checked_share(share: Any) -> float:
    """The least weight that is listed, after a check."""
    if not isinstance(share, Real) or not 0 <= float(share) <= 1:
        raise InputError(f"min_weight must be a share of the weight, from 0 to 1; got {share!r}.")
    return float(share)
