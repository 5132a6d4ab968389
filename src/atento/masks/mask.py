"""Mask: what every rule can do, and how rules combine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import numpy as np
import numpy.typing as npt

from atento._errors import DTypeError, InputError, ShapeError

if TYPE_CHECKING:
    from atento._alignment import Align

__all__ = ["ALL", "NONE", "BoolArray", "Coverage", "Mask", "Span", "Tile", "as_mask"]

type_names = "Causal, Window, KeyPadding, Segments, Prefix, Explicit, Rule"


class Coverage(Enum):
    """A tile in which every pair attends (ALL), or none does (NONE).

    >>> from atento.masks import Causal
    >>> Causal().tile((0, 2), (4, 8)), Causal().tile((4, 8), (0, 2))
    (NONE, ALL)
    """

    ALL = True
    NONE = False

    def __repr__(self) -> str:
        return self.name


ALL = Coverage.ALL
NONE = Coverage.NONE

BoolArray = npt.NDArray[np.bool_]
Tile = Coverage | BoolArray
Span = range | slice | tuple[int, int]


class Mask(ABC):
    """A rule that says which query may look at which key. True = attends.

    Rules are values: they hold no T×T array, are never modified, and combine with ``&`` (both
    must allow), ``|`` (either allows) and ``~`` (the opposite). A bool array in such an
    expression stands for `Explicit`.

    >>> from atento.masks import Causal, Window
    >>> (Causal() & Window(left=1)).dense(4, 4).astype(int)
    array([[1, 0, 0, 0],
           [1, 1, 0, 0],
           [0, 1, 1, 0],
           [0, 0, 1, 1]])
    """

    __array_ufunc__ = None  # so that `array & mask` comes to __rand__ here

    @property
    def leading(self) -> tuple[int, ...]:
        """The (batch, head) sizes that the rule itself brings; 1 where it does not vary."""
        return ()

    def tile(self, rows: Span, cols: Span) -> Tile:
        """Who attends in one block: ALL, NONE, or a bool array (..., len(rows), len(cols)).

        Args:
            rows: the queries of the block: a range, a slice or (start, stop).
            cols: the keys of the block.
        """
        return self.bind(None).block(_span(rows, "rows"), _span(cols, "cols"))

    def dense(self, Tq: int, Tk: int) -> BoolArray:
        """The rule as a bool array (..., Tq, Tk), for looking at it."""
        if Tq < 0 or Tk < 0:
            raise ShapeError(f"lengths cannot be negative; got Tq={Tq} and Tk={Tk}.")
        leading = self.leading
        tile = self.bind((*leading, Tq, Tk)).block(range(Tq), range(Tk))
        if isinstance(tile, Coverage):
            tile = np.full((*leading, Tq, Tk), tile.value)
        return np.array(np.broadcast_to(tile, (*leading, Tq, Tk)))

    def block(self, rows: range, cols: range) -> Tile:
        """`tile` of a rule that is bound already."""
        tile = self._evaluate(rows, cols)
        if isinstance(tile, Coverage):
            return tile
        if tile.all():
            return ALL
        if not tile.any():
            return NONE
        return np.broadcast_to(tile, (*tile.shape[:-2], len(rows), len(cols)))

    def coverage(self, rows: range, cols: range) -> Coverage | None:
        """ALL or NONE where a block of a bound rule is known to be so; None where it may be mixed.

        Cheaper than `block` for rules that need no array to tell.
        """
        tile = self.block(rows, cols)
        return tile if isinstance(tile, Coverage) else None

    @abstractmethod
    def bind(self, shape: tuple[int, ...] | None) -> Mask:
        """The rule for weights of this shape (..., query, key), its alignment fixed.

        With None the lengths are unknown, and a rule that depends on them says so.

        Raises:
            ShapeError: when the rule does not fit that shape.
        """

    def aligned(self, align: Align) -> Mask:
        """The same rule, with its alignment fixed where it was left open.

        >>> from atento.masks import Causal, Window
        >>> (Causal() & Window(left=2)).aligned("end")
        (Causal(align='end') & Window(left=2, align='end'))
        """
        del align
        return self

    def at(self, index: tuple[int, ...]) -> Mask:
        """The bound rule for one (batch, …, head): no leading axes are left."""
        del index
        return self

    def pairs(self, lengths: tuple[int, int], xp: Any, device: Any) -> Any:
        """The rule for all pairs at once, as an array library makes it on its device.

        Nothing is looked at, so that it can be traced (`torch.compile`). Returns a bool array
        that broadcasts to (..., query, key).
        """
        return self.bind(lengths).pairs(lengths, xp, device)

    @abstractmethod
    def _evaluate(self, rows: range, cols: range) -> Tile:
        """The block, as an array that broadcasts to it; all-True or all-False arrays are fine."""

    def __bool__(self) -> NoReturn:
        raise InputError(
            f"{self!r} is neither true nor false: combine masks with &, | and ~ in place of and, "
            "or and not; ask `mask is None` for whether there is one."
        )

    def __and__(self, other: object) -> Mask:
        return Both(self, as_mask(other))

    def __rand__(self, other: object) -> Mask:
        return Both(as_mask(other), self)

    def __or__(self, other: object) -> Mask:
        return Either(self, as_mask(other))

    def __ror__(self, other: object) -> Mask:
        return Either(as_mask(other), self)

    def __invert__(self) -> Mask:
        return Not(self)


class _Pair(Mask):
    def __init__(self, first: Mask, second: Mask) -> None:
        self.first, self.second = first, second

    @property
    def leading(self) -> tuple[int, ...]:
        try:
            return np.broadcast_shapes(self.first.leading, self.second.leading)
        except ValueError:
            raise ShapeError(
                f"these masks do not fit together: {self.first!r} is for (batch, head) = "
                f"{self.first.leading} and {self.second!r} for {self.second.leading}."
            ) from None

    def bind(self, shape: tuple[int, ...] | None) -> Mask:
        return type(self)(self.first.bind(shape), self.second.bind(shape))

    def aligned(self, align: Align) -> Mask:
        return type(self)(self.first.aligned(align), self.second.aligned(align))

    def at(self, index: tuple[int, ...]) -> Mask:
        return type(self)(self.first.at(index), self.second.at(index))

    def pairs(self, lengths: tuple[int, int], xp: Any, device: Any) -> Any:
        first, second = (rule.pairs(lengths, xp, device) for rule in (self.first, self.second))
        return first & second if self.decisive is NONE else first | second

    def coverage(self, rows: range, cols: range) -> Coverage | None:
        first, second = (rule.coverage(rows, cols) for rule in (self.first, self.second))
        if self.decisive in (first, second):
            return self.decisive
        return first if first is second else None

    def _evaluate(self, rows: range, cols: range) -> Tile:
        decisive = self.decisive
        first = self.first.block(rows, cols)
        if first is decisive:
            return decisive
        second = self.second.block(rows, cols)
        if second is decisive or isinstance(first, Coverage):
            return second
        if isinstance(second, Coverage):
            return first
        return first & second if decisive is NONE else first | second

    decisive: ClassVar[Coverage]
    sign: ClassVar[str]

    def __repr__(self) -> str:
        return f"({self.first!r} {self.sign} {self.second!r})"


class Both(_Pair):
    """Attends where both rules allow it."""

    decisive = NONE
    sign = "&"


class Either(_Pair):
    """Attends where at least one rule allows it."""

    decisive = ALL
    sign = "|"


class Not(Mask):
    """Attends where the rule forbids it."""

    def __init__(self, rule: Mask) -> None:
        self.rule = rule

    @property
    def leading(self) -> tuple[int, ...]:
        return self.rule.leading

    def bind(self, shape: tuple[int, ...] | None) -> Mask:
        return Not(self.rule.bind(shape))

    def aligned(self, align: Align) -> Mask:
        return Not(self.rule.aligned(align))

    def at(self, index: tuple[int, ...]) -> Mask:
        return Not(self.rule.at(index))

    def pairs(self, lengths: tuple[int, int], xp: Any, device: Any) -> Any:
        return ~self.rule.pairs(lengths, xp, device)

    def coverage(self, rows: range, cols: range) -> Coverage | None:
        covered = self.rule.coverage(rows, cols)
        return None if covered is None else NONE if covered is ALL else ALL

    def _evaluate(self, rows: range, cols: range) -> Tile:
        tile = self.rule.block(rows, cols)
        if isinstance(tile, Coverage):
            return NONE if tile is ALL else ALL
        return ~tile

    def __repr__(self) -> str:
        return f"~{self.rule!r}"


def as_mask(mask: object) -> Mask:
    """The rule that an argument ``mask=`` stands for: a Mask as it is, a bool array as `Explicit`.

    Args:
        mask: a rule of `atento.masks`, or a bool array (..., query, key).

    Raises:
        DTypeError: for anything else, with what to write instead.

    >>> as_mask(np.array([[True, False], [True, True]]))
    Explicit(shape=(2, 2))
    >>> as_mask(np.eye(2))
    Traceback (most recent call last):
        ...
    atento._errors.DTypeError: ...
    """
    if isinstance(mask, Mask):
        return mask
    if isinstance(mask, type) and issubclass(mask, Mask):
        raise DTypeError(
            f"mask is the class {mask.__name__}, not a mask: make one, as in {mask.__name__}(...)."
        )
    if isinstance(mask, str):
        raise DTypeError(f"mask must be a bool array or one of {type_names}; got {mask!r}.")
    if callable(mask) and not hasattr(mask, "shape"):
        raise DTypeError(
            "mask is a function: wrap it, as in Rule(f), where f(batch, head, query, key) -> bool."
        )
    from atento.masks.explicit import Explicit

    return Explicit(mask)


def broadcast_leading(
    what: str, own: tuple[int, ...], shape: tuple[int, ...], axes: str
) -> tuple[int, ...]:
    """The rule's own leading sizes, filled with 1 on the left to fit ``shape``'s.

    Raises:
        ShapeError: when they cannot be broadcast to it.
    """
    leading = shape[:-2]
    fits = len(own) <= len(leading) and all(
        size in (1, other) for size, other in zip(own[::-1], leading[::-1], strict=False)
    )
    if not fits:
        raise ShapeError(
            f"{what} has leading sizes {own}, which do not broadcast to the weights' "
            f"(batch…, head) = {leading} (weights are {shape}). {axes}"
        )
    return (1,) * (len(leading) - len(own)) + own


def _span(span: Span, name: str) -> range:
    if isinstance(span, slice):
        if span.step not in (None, 1) or span.start is None or span.stop is None:
            raise ShapeError(f"{name} must be a slice with start and stop; got {span}.")
        span = range(span.start, span.stop)
    if isinstance(span, tuple):
        span = range(*span)
    if not isinstance(span, range) or span.step != 1 or span.start < 0:
        raise ShapeError(
            f"{name} must be consecutive positions from 0 on, as a range, a slice or "
            f"(start, stop); got {span!r}."
        )
    return span
