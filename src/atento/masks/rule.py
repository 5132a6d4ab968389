"""Rule: any condition, written as a function of positions."""

import inspect
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from atento._arrays import dtype_name, is_traced, to_numpy
from atento._errors import DTypeError, ShapeError
from atento.masks.mask import BoolArray, Mask, Tile

__all__ = ["Rule"]

PairCondition = Callable[[Any, Any, Any, Any], Any]


class Rule(Mask):
    """Query attends to key where ``f(batch, head, query, key)`` is True.

    Args:
        f: called tile by tile with integer index arrays that broadcast together: batch and head
            are scalars, query (rows, 1) and key (1, cols). It returns bools. With several
            leading axes, batch counts through all of them in row-major order. While
            `torch.compile` or `torch.export` traces it, all four are tensors that broadcast.

    >>> Rule(lambda batch, head, query, key: (query - key) % 2 == 0).dense(3, 3).astype(int)
    array([[1, 0, 1],
           [0, 1, 0],
           [1, 0, 1]])
    """

    def __init__(self, f: PairCondition) -> None:
        if not callable(f):
            raise DTypeError(
                f"Rule needs a function f(batch, head, query, key) -> bool; got {type(f).__name__}."
            )
        if not is_traced():  # a compiler does not look into signatures
            _check_arguments(f)
        self.f = f

    def bind(self, shape: tuple[int, ...] | None) -> Mask:
        return _BoundRule(self.f, () if shape is None else shape[:-2])

    def _evaluate(self, rows: range, cols: range) -> Tile:
        return self.bind(None).block(rows, cols)

    def __repr__(self) -> str:
        return f"Rule({getattr(self.f, '__name__', repr(self.f))})"


class _BoundRule(Mask):
    """The function, for known (batch, …, head) sizes."""

    def __init__(
        self, f: PairCondition, sizes: tuple[int, ...], index: tuple[int, ...] | None = None
    ) -> None:
        self.f, self.sizes, self.index = f, sizes, index

    def bind(self, shape: tuple[int, ...] | None) -> Mask:
        del shape
        return self

    @property
    def leading(self) -> tuple[int, ...]:
        return () if self.index is not None else self.sizes  # it may differ for each of them

    def at(self, index: tuple[int, ...]) -> Mask:
        return _BoundRule(self.f, self.sizes, index)

    def pairs(self, lengths: tuple[int, int], xp: Any, device: Any) -> Any:
        if not is_traced():  # as everywhere else: batch and head are numbers, and f is NumPy's
            tile = self._evaluate(range(lengths[0]), range(lengths[1]))
            return xp.asarray(np.array(tile), device=device)
        query = xp.arange(lengths[0], device=device)[:, None]
        key = xp.arange(lengths[1], device=device)[None, :]
        if not self.sizes:
            return self.f(0, 0, query, key)
        head = xp.arange(self.sizes[-1], device=device)[:, None, None]
        if len(self.sizes) == 1:
            return self.f(0, head, query, key)
        batch = xp.arange(prod(self.sizes[:-1]), device=device)[:, None, None, None]
        answer = self.f(batch, head, query, key)
        return xp.reshape(
            xp.broadcast_to(answer, (prod(self.sizes[:-1]), self.sizes[-1], *lengths)),
            (*self.sizes, *lengths),
        )

    def _evaluate(self, rows: range, cols: range) -> Tile:
        if self.index is not None:
            return self._pairs(self.index, rows, cols)
        blocks = [self._pairs(index, rows, cols) for index in np.ndindex(self.sizes)]
        if not blocks:
            return np.zeros((*self.sizes, len(rows), len(cols)), bool)
        return np.stack(blocks).reshape(*self.sizes, len(rows), len(cols))

    def __repr__(self) -> str:
        return repr(Rule(self.f))

    def _pairs(self, index: tuple[int, ...], rows: range, cols: range) -> BoolArray:
        batches = self.sizes[:-1]
        batch = int(np.ravel_multi_index(index[:-1], batches)) if prod(batches) > 1 else 0
        head = index[-1] if index else 0
        query = np.arange(rows.start, rows.stop)[:, None]
        key = np.arange(cols.start, cols.stop)[None, :]
        answer = to_numpy(self.f(np.int64(batch), np.int64(head), query, key))
        if dtype_name(answer) != "bool":
            raise DTypeError(
                f"Rule: f must return bools (True = attends); it returned {dtype_name(answer)}."
            )
        try:
            return np.broadcast_to(answer, (len(rows), len(cols)))
        except ValueError:
            raise ShapeError(
                f"Rule: f must return an array that broadcasts to its query and key indices, "
                f"{(len(rows), len(cols))}; it returned shape {answer.shape}."
            ) from None


def _check_arguments(f: PairCondition) -> None:
    try:
        signature = inspect.signature(f)
    except (TypeError, ValueError):  # some functions of C tell none
        return
    try:
        signature.bind(0, 0, 0, 0)
    except TypeError:
        raise DTypeError(
            "Rule calls f with four arguments, f(batch, head, query, key); this one is "
            f"f{signature}. Add those it does not use."
        ) from None
