"""Explicit: the pairs themselves, as an array."""

from functools import cached_property
from typing import Any

import numpy as np

from atento._arrays import as_array, dtype_name, is_torch, to_numpy
from atento._errors import DTypeError, ShapeError
from atento.masks.mask import BoolArray, Mask, Tile, broadcast_leading

__all__ = ["Explicit", "as_bool_array"]


def as_bool_array(name: str, array: Any) -> Any:
    """A bool array, or an error that says how to make one of what came.

    A tensor stays a tensor, so that it is not fetched from its device before it is asked for.
    """
    array = as_array(name, array)
    kind = dtype_name(array)
    if kind != "bool":
        if kind.startswith(("float", "bfloat")):
            hint = (
                "If it holds 0 and 1, write (mask == 1): True = attends. If it holds 0 and −inf "
                "to be added to the scores, pass it as bias=."
            )
        elif kind.startswith(("int", "uint")):
            hint = "If 1 means a real token, write (mask != 0): True = attends."
        else:
            hint = "True = attends."
        raise DTypeError(f"{name} must be a bool array; got {kind}. {hint}")
    return array if is_torch(array) else to_numpy(array)


class Explicit(Mask):
    """Query i attends to key j where ``array[..., i, j]`` is True.

    Args:
        array: bool, broadcasts to (..., query, key), where ... is (batch, head). For one mask
            per batch item and all heads the shape is (batch, 1, query, key).

    >>> Explicit([[True, False], [True, True]]).dense(2, 2).astype(int)
    array([[1, 0],
           [1, 1]])
    """

    def __init__(self, array: Any) -> None:
        self.array = as_bool_array("mask", array)
        if self.array.ndim < 2:
            raise ShapeError(
                "a mask array has the axes (..., query, key); got shape "
                f"{tuple(self.array.shape)}. To hide padded keys write KeyPadding(keep)."
            )

    @property
    def leading(self) -> tuple[int, ...]:
        return tuple(self.array.shape[:-2])

    def bind(self, shape: tuple[int, ...] | None) -> Mask:
        if shape is None:
            return self
        for axis, name in ((-2, "query"), (-1, "key")):
            if self.array.shape[axis] not in (1, shape[axis]):
                raise ShapeError(
                    f"mask has shape {tuple(self.array.shape)}, and its {name} axis has size "
                    f"{self.array.shape[axis]} where {shape[axis]} (or 1) was expected: weights "
                    f"are {shape}."
                )
        leading = broadcast_leading(
            "mask",
            self.leading,
            shape,
            "A mask per batch item needs a head axis: (batch, 1, query, key).",
        )
        return Explicit(self.array.reshape(*leading, *self.array.shape[-2:]))

    def at(self, index: tuple[int, ...]) -> Mask:
        sizes = self.leading
        where = tuple(0 if size == 1 else i for i, size in zip(index, sizes, strict=True))
        return Explicit(self._numpy[where])

    def pairs(self, lengths: tuple[int, int], xp: Any, device: Any) -> Any:
        del lengths
        return xp.asarray(self.array, device=device)

    @cached_property
    def _numpy(self) -> BoolArray:
        return to_numpy(self.array)

    def _evaluate(self, rows: range, cols: range) -> Tile:
        Tq, Tk = self.array.shape[-2:]
        if 1 != Tq < rows.stop or 1 != Tk < cols.stop:
            raise ShapeError(
                f"mask has shape {tuple(self.array.shape)}, which ends before row {rows.stop - 1}, "
                f"column {cols.stop - 1}: ask for a block of it."
            )
        query = slice(None) if Tq == 1 else slice(rows.start, rows.stop)
        key = slice(None) if Tk == 1 else slice(cols.start, cols.stop)
        return np.broadcast_to(self._numpy[..., query, key], (*self.leading, len(rows), len(cols)))

    def __repr__(self) -> str:
        return f"Explicit(shape={tuple(self.array.shape)})"
