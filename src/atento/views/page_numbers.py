"""Queries and keys inside a page, in as few bits as leave the weights what they are."""

import copy
from typing import Any

import numpy as np
import numpy.typing as npt

from atento.views.page_arrays import ArrayPool, as_numpy

__all__ = ["queries_and_keys"]

Array = npt.NDArray[Any]

TOLERANCE = 2e-3
"""No weight of the sampled rows may change by more."""

HEADS, ROWS = 4, 16
"""So many heads of a layer, those with the longest vectors, and rows of each are sampled."""

WAYS: tuple[int | str, ...] = (14, "<f2", 16, "<f4")
"""From few bytes to many. Whole numbers of 14 bits, a step and a middle for each feature, deflate
as float16 does and are four times as exact; float16 holds single features that are far out."""


def queries_and_keys(
    layer: Any, batch: int, heads: list[int], key_heads: list[int], pool: ArrayPool
) -> tuple[Any, Any]:
    """Put q and k of one layer into the pool.

    Returns:
        For each the place of an array (head, token, feature), or of three, ``values`` × ``step`` +
        ``middle``, the last two (head, 1, feature). (None, None) where they were not kept.
    """
    if layer.query is None or layer.key is None:
        return None, None
    query = as_numpy(layer.query)[batch, heads]
    key = as_numpy(layer.key)[batch, key_heads]
    sample = _Sample(layer, batch, heads, key_heads, query, key)
    finite = np.isfinite(query).all() and np.isfinite(key).all()
    for way in WAYS:
        if isinstance(way, int) and not finite:
            continue
        written = [_packed(array, way) for array in (query, key)]
        if way == "<f4" or sample.unchanged(*(_unpacked(parts) for parts in written)):
            break
    mine, theirs = ({name: pool.typed(part) for name, part in parts.items()} for parts in written)
    return mine.get("values") if len(mine) == 1 else mine, (
        theirs.get("values") if len(theirs) == 1 else theirs
    )


def _packed(array: Array, way: int | str) -> dict[str, Array]:
    with np.errstate(over="ignore", invalid="ignore"):
        if isinstance(way, str):
            return {"values": array.astype(way)}
        low, high = (
            (
                fold(array, axis=1, keepdims=True, initial=0.0)
                if array.shape[1]
                else 0 * array[:, :1]
            )
            for fold in (np.min, np.max)
        )
        middle = ((low + high) / 2).astype("<f4")
        step = (np.maximum(high - low, 1e-30) / (2**way - 2)).astype("<f4")
        values = np.rint((array - middle) / step).astype("<i2")
    return {"values": values, "step": step, "middle": middle}


def _unpacked(parts: dict[str, Array]) -> Array:
    values = parts["values"].astype(np.float32)
    if len(parts) > 1:
        with np.errstate(invalid="ignore"):  # a step of ∞ is found out by `_Sample`
            values = values * parts["step"] + parts["middle"]
    return values


class _Sample:
    """Rows of weights as they are, to see what they become."""

    def __init__(
        self,
        layer: Any,
        batch: int,
        heads: list[int],
        key_heads: list[int],
        query: Array,
        key: Array,
    ) -> None:
        self.layer, self.batch, self.heads, self.key_heads = layer, batch, heads, key_heads
        self.given = query, key
        self.rows: list[tuple[int, int, Array]] = []
        if not query.size or not key.size:
            return
        group = layer.heads // layer.key.shape[1]
        with np.errstate(all="ignore"):
            squares = [np.square(array, dtype=np.float64).sum(-1) for array in (query, key)]
            of_keys = dict(zip(key_heads, squares[1].max(-1), strict=True))
            products = [
                own * of_keys[head // group]
                for head, own in zip(heads, squares[0].max(-1), strict=True)
            ]
        even = np.linspace(0, layer.queries - 1, min(ROWS // 2, layer.queries)).astype(int)
        for at in np.argsort(products)[-HEADS:].tolist():
            longest = np.argsort(squares[0][at])[-ROWS // 2 :]
            number = layer.head_numbers[heads[at]]
            for row in np.union1d(even, longest).tolist():
                self.rows.append((number, row, layer.weights(number, row, batch=batch)))

    def unchanged(self, query: Array, key: Array) -> bool:
        """Whether the weights are the same, to `TOLERANCE`, with these q and k."""
        for mine, given in zip((query, key), self.given, strict=True):
            if not np.array_equal(np.isfinite(mine), np.isfinite(given)):
                return False
        twin = copy.copy(self.layer)
        twin.query = np.zeros(self.layer.query.shape, np.float32)
        twin.key = np.zeros(self.layer.key.shape, np.float32)
        twin.query[self.batch, self.heads] = query
        twin.key[self.batch, self.key_heads] = key
        for number, row, exact in self.rows:
            found = twin.weights(number, row, batch=self.batch)
            if not np.allclose(found, exact, rtol=0, atol=TOLERANCE, equal_nan=True):
                return False
        return True
