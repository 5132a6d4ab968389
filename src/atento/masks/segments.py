"""Segments: several documents packed into one sequence."""

from typing import Any

import numpy as np
import numpy.typing as npt

from atento._arrays import as_array, dtype_name, to_numpy
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
        try:
            batch = np.broadcast_shapes(self.query_ids.shape[:-1], self.key_ids.shape[:-1])
        except ValueError:
            raise ShapeError(
                f"Segments: query_ids {self.query_ids.shape} and key_ids {self.key_ids.shape} "
                "are for different batches."
            ) from None
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
            *(
                np.broadcast_to(self._with_head(ids), (*leading, ids.shape[-1]))
                for ids in (self.query_ids, self.key_ids)
            )
        )

    def _with_head(self, ids: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return ids[..., None, :] if ids.ndim > 1 else ids  # (batch, token) -> (batch, head, token)

    def _evaluate(self, rows: range, cols: range) -> Tile:
        return self.bind(None).block(rows, cols)

    def __repr__(self) -> str:
        return f"Segments({self.query_ids.shape}, {self.key_ids.shape})"


class _SameSegment(Mask):
    """The bound rule: ids with the axes (batch, head, token)."""

    def __init__(self, query_ids: npt.NDArray[Any], key_ids: npt.NDArray[Any]) -> None:
        self.query_ids, self.key_ids = query_ids, key_ids

    def bind(self, shape: tuple[int, ...] | None) -> Mask:
        del shape
        return self

    def at(self, index: tuple[int, ...]) -> Mask:
        sizes = self.query_ids.shape[:-1]
        where = tuple(0 if size == 1 else i for i, size in zip(index, sizes, strict=True))
        return _SameSegment(self.query_ids[where], self.key_ids[where])

    def _evaluate(self, rows: range, cols: range) -> Tile:
        queries = self.query_ids[..., rows.start : rows.stop]
        keys = self.key_ids[..., cols.start : cols.stop]
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
    return to_numpy(ids)
