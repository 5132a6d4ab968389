"""Segments: several documents packed into one sequence."""

from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from atento._arrays import as_array, dtype_name, is_torch, to_numpy
from atento._errors import DTypeError, ShapeError
from atento.masks.mask import ALL, NONE, BoolArray, Mask, Tile, broadcast_leading

__all__ = ["Segments"]


class Segments(Mask):
    """A query attends to the keys of its own segment: ``query_ids[i] == key_ids[j]``.

    Args:
        query_ids: (token,) or (batch, token) integers.
        key_ids: the same for the keys; the query's own when left out (self-attention).

    >>> Segments([0, 0, 1]).dense(3, 3).astype(int)
    array([[1, 1, 0],
           [1, 1, 0],
           [0, 0, 1]])
    """

    def __init__(self, query_ids: Any, key_ids: Any = None) -> None:
        self.shared = key_ids is None
        self.query_ids = _ids("query_ids", query_ids)
        self.key_ids = self.query_ids if key_ids is None else _ids("key_ids", key_ids)

    @property
    def leading(self) -> tuple[int, ...]:
        batch = _common_batch(self.query_ids, self.key_ids)
        return (*batch, 1) if batch else ()

    def bind(self, shape: tuple[int, ...] | None) -> Mask:
        if shape is None:
            return _SameSegment(self._with_head(self.query_ids), self._with_head(self.key_ids))
        for ids, size, name in (
            (self.query_ids, shape[-2], "queries"),
            (self.key_ids, shape[-1], "keys"),
        ):
            if ids.shape[-1] != size:
                hint = " Pass Segments(query_ids, key_ids)." if self.shared else ""
                raise ShapeError(
                    f"Segments: there are {ids.shape[-1]} ids for {size} {name}.{hint}"
                )
        leading = broadcast_leading(
            "Segments",
            self.leading,
            shape,
            "ids (batch, token) go with queries (batch, head, query, feature).",
        )
        return _SameSegment(
            *(_fill(self._with_head(ids), len(leading)) for ids in (self.query_ids, self.key_ids))
        )

    def _with_head(self, ids: Any) -> Any:
        return ids[..., None, :] if ids.ndim > 1 else ids  # (batch, token) -> (batch, head, token)

    def _evaluate(self, rows: range, cols: range) -> Tile:
        return self.bind(None).block(rows, cols)

    def __repr__(self) -> str:
        return f"Segments({tuple(self.query_ids.shape)}, {tuple(self.key_ids.shape)})"


class _SameSegment(Mask):
    """The bound rule: ids with the axes (batch, head, token)."""

    def __init__(self, query_ids: Any, key_ids: Any) -> None:
        self.query_ids, self.key_ids = query_ids, key_ids

    @property
    def leading(self) -> tuple[int, ...]:
        return _common_batch(self.query_ids, self.key_ids)

    def bind(self, shape: tuple[int, ...] | None) -> Mask:
        del shape
        return self

    def at(self, index: tuple[int, ...]) -> Mask:
        return _SameSegment(*(_one_of(ids, index) for ids in self._numpy))

    def pairs(self, lengths: tuple[int, int], xp: Any, device: Any) -> Any:
        del lengths
        queries, keys = (xp.asarray(ids, device=device) for ids in (self.query_ids, self.key_ids))
        return queries[..., :, None] == keys[..., None, :]

    @cached_property
    def _numpy(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        return to_numpy(self.query_ids), to_numpy(self.key_ids)

    def _evaluate(self, rows: range, cols: range) -> Tile:
        queries, keys = self._numpy
        queries = queries[..., rows.start : rows.stop]
        keys = keys[..., cols.start : cols.stop]
        if not queries.size or not keys.size:
            return NONE
        # Packed documents have rising ids: most blocks are settled by their ends.
        low, high = (queries.min(), keys.min()), (queries.max(), keys.max())
        if low[0] == high[0] == low[1] == high[1]:
            return ALL
        if high[0] < low[1] or high[1] < low[0]:
            return NONE
        same: BoolArray = queries[..., :, None] == keys[..., None, :]
        return same


def _ids(name: str, ids: Any) -> npt.NDArray[Any]:
    ids = as_array(f"Segments: {name}", ids)
    if not dtype_name(ids).startswith(("int", "uint")):
        raise DTypeError(
            f"Segments: {name} must be whole numbers, one per token; got {dtype_name(ids)}."
        )
    if ids.ndim < 1:
        raise ShapeError(f"Segments: {name} has the axes (batch, token); got a single number.")
    return ids if is_torch(ids) else to_numpy(ids)


def _common_batch(query_ids: Any, key_ids: Any) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(tuple(query_ids.shape[:-1]), tuple(key_ids.shape[:-1]))
    except ValueError:
        raise ShapeError(
            f"Segments: query_ids {tuple(query_ids.shape)} and key_ids {tuple(key_ids.shape)} "
            "are for different batches."
        ) from None


def _fill(ids: Any, leading: int) -> Any:
    """The ids with axes of size 1 before their own, so that there are that many leading axes."""
    return ids.reshape((1,) * (leading + 1 - ids.ndim) + tuple(ids.shape))


def _one_of(ids: npt.NDArray[Any], index: tuple[int, ...]) -> npt.NDArray[Any]:
    """The ids of one (batch, …, head)."""
    sizes = ids.shape[:-1]
    where = tuple(0 if size == 1 else i for i, size in zip(index, sizes, strict=True))
    chosen: npt.NDArray[Any] = ids[where]
    return chosen
