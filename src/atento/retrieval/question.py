"""What is asked of the keys: queries, and how a score is made; arguments checked once."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
import numpy.typing as npt

from atento._arrays import as_float_array, to_numpy
from atento._errors import InputError, ShapeError
from atento.retrieval.keys import Keys

__all__ = ["Question", "checked_question", "whole_number"]

Array = npt.NDArray[Any]

PAIRS = 256
"""Scores computed at a time in float64: 0.8 MB where vectors have 384 numbers."""


@dataclass(frozen=True, eq=False)
class Question:
    """Queries, and what they are held against.

    Attributes:
        queries: (query, feature), in the dtype of the computation.
        keys: the keys.
        values: (key, value feature), or None.
        scale: multiplies q · k.
        bias: (key,) float64, added to it; or None.
        top_k: how many rows are listed.
        temperature: divides the scores; 0 stands for its limit, and divides nothing.
        threads: how many share the keys.
    """

    queries: Array
    keys: Keys
    values: Array | None
    scale: float
    bias: Array | None
    top_k: int
    temperature: float
    threads: int

    @property
    def divisor(self) -> float:
        """What scores are divided by."""
        return self.temperature or 1.0

    def scaled_queries(self) -> Array:
        """Queries · scale / temperature: its product with a key is the score without the bias."""
        scaled: Array = self.queries * self.queries.dtype.type(self.scale / self.divisor)
        return scaled

    def scaled_bias(self, start: int, stop: int) -> Array | None:
        """The bias of some keys over the temperature, in the dtype of the computation."""
        if self.bias is None:
            return None
        return (self.bias[start:stop] / self.divisor).astype(self.queries.dtype)

    def exact(self, query: Array, row: Array) -> Array:
        """Scores (pair,) of pairs of a query's number and a key's row, computed in float64.

        The sum over features has the same order for every key: equal keys have equal scores.

        Args:
            query: in ascending order.
            row: as many.
        """
        scores = np.empty(len(row))
        for some, products in self._products(query, row):
            scores[some] = products.sum(axis=-1)
        scores *= self.scale
        if self.bias is not None:
            scores += self.bias[row]
        return scores / self.divisor

    def magnitudes(self, query: Array, row: Array) -> Array:
        """Of the same pairs, the sum of the magnitudes that are added up for a score.

        Rounding is bounded by a multiple of it.
        """
        sizes = np.empty(len(row))
        for some, products in self._products(query, row):
            sizes[some] = np.abs(products, out=products).sum(axis=-1)
        sizes *= abs(self.scale)
        if self.bias is not None:
            sizes += np.abs(self.bias[row])
        return sizes / self.divisor

    def _products(self, query: Array, row: Array) -> Iterator[tuple[slice, Array]]:
        """The products of their features in float64, one query and some keys at a time."""
        bounds = np.searchsorted(query, np.arange(len(self.queries) + 1)).tolist()
        for own, first, last in zip(self.queries, bounds, bounds[1:], strict=False):
            for start in range(first, last, PAIRS):
                some = slice(start, min(start + PAIRS, last))
                yield some, self.keys.rows(row[some]) * own.astype(np.float64)

    def part(self, rows: slice) -> "Question":
        """The same of some queries."""
        return Question(**{**self.__dict__, "queries": self.queries[rows]})


def checked_question(
    queries: Any,
    keys: Keys,
    values: Any,
    *,
    scale: Any,
    bias: Any,
    top_k: Any,
    temperature: Any,
    threads: Any,
) -> Question:
    """The question, after a check of every argument.

    Raises:
        InputError, ShapeError, DTypeError: what was expected and what came.
    """
    queries = to_numpy(as_float_array("queries", queries))
    if queries.ndim != 2 or queries.shape[1] != keys.dim:
        raise ShapeError(
            f"queries must be (n, {keys.dim}), as many numbers in a row as the keys have; got "
            f"{queries.shape}. Did another embedder make them?"
        )
    wide = np.float64 in (queries.dtype, keys.block(0, 0).dtype)
    if values is not None:
        values = to_numpy(as_float_array("values", values))
        if values.ndim != 2 or len(values) != keys.size:
            raise ShapeError(
                f"values must be ({keys.size}, features), one row for each key; got {values.shape}."
            )
    if bias is not None:
        bias = to_numpy(as_float_array("bias", bias)).astype(np.float64, copy=False)
        if bias.shape != (keys.size,):
            raise ShapeError(
                f"bias must be ({keys.size},), one number for each key; got {bias.shape}."
            )
    scale, temperature = _number("scale", scale), _number("temperature", temperature)
    if temperature < 0:
        raise InputError(
            f"temperature must be ≥ 0 (0: all weight on the largest score); got {temperature:g}."
        )
    return Question(
        queries.astype(np.float64 if wide else np.float32, copy=False),
        keys,
        values,
        scale,
        bias,
        whole_number("top_k", top_k),
        temperature,
        whole_number("threads", threads),
    )


def whole_number(name: str, given: Any) -> int:
    """A whole number of at least 1, after a check."""
    if isinstance(given, bool) or not hasattr(given, "__index__") or int(given) < 1:
        raise InputError(f"{name} must be a whole number ≥ 1; got {given!r}.")
    return int(given)


def _number(name: str, given: Any) -> float:
    try:
        number = float(given)
    except (TypeError, ValueError):
        number = float("nan")
    if isinstance(given, bool | str) or not isfinite(number):
        raise InputError(f"{name} must be a finite number; got {given!r}.")
    return number
