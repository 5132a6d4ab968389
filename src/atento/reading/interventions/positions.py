"""Positions: the queries, keys or heads that an intervention is about."""

import operator
from copy import copy
from typing import Any

import numpy as np
import numpy.typing as npt

from atento._arrays import is_torch, to_numpy
from atento._errors import InputError

__all__ = ["Positions"]

Bools = npt.NDArray[np.bool_]


class Positions:
    """Some whole numbers from 0 on, or counted from an end that is known later.

    Args:
        name: what they are called in messages.
        given: a whole number, several of them, a slice, a range, a bool array (True = meant), or
            None for all. Negative numbers, also those of a slice, count from the end.

    >>> Positions("keys", [0, -1]).of(range(5))
    array([ True, False, False, False,  True])
    """

    def __init__(self, name: str, given: Any) -> None:
        self.name, self.given = name, _checked(name, given)
        self._found = np.zeros(1 if isinstance(self.given, slice) else len(self._numbers), bool)
        self.reached = 0

    def anew(self) -> "Positions":
        """The same, none of which was found yet."""
        made = copy(self)
        made._found, made.reached = np.zeros_like(self._found), 0
        return made

    @property
    def all(self) -> bool:
        """Whether all are meant."""
        return self.given is None

    @property
    def from_the_end(self) -> bool:
        """Whether some are counted from the end."""
        if isinstance(self.given, slice):
            ends = (self.given.start, self.given.stop, self.given.step)
            return any(end is not None and end < 0 for end in ends)
        return bool((self._numbers < 0).any())

    @property
    def _numbers(self) -> npt.NDArray[np.int64]:
        return np.array([] if isinstance(self.given, slice) else self.given or [], np.int64)

    def of(self, there: range, end: int | None = None) -> Bools:
        """Which of the positions ``there`` are meant.

        Args:
            there: consecutive positions.
            end: from where negative numbers count; the end of ``there`` when left out.
        """
        end = there.stop if end is None else end
        self.reached = max(self.reached, end)
        if self.given is None:
            return np.ones(len(there), bool)
        if isinstance(self.given, slice):
            at = np.arange(end)[self.given]
        else:
            at = self._numbers + end * (self._numbers < 0)
        inside = (at >= there.start) & (at < there.stop)
        self._found |= inside.any() if isinstance(self.given, slice) else inside
        meant = np.zeros(len(there), bool)
        meant[at[inside] - there.start] = True
        return meant

    def missing(self) -> list[int] | None:
        """The numbers that stood for nothing so far; an empty list for a slice; None: all did."""
        if self.given is None or self._found.all():
            return None
        return [int(i) for i in self._numbers[~self._found]] if len(self._numbers) else []

    def __repr__(self) -> str:
        given = self.given
        return "all" if given is None else repr(given if isinstance(given, slice) else list(given))


def _checked(name: str, given: Any) -> tuple[int, ...] | slice | None:
    if given is None:
        return None
    if isinstance(given, slice):
        _whole_numbers(name, [end for end in (given.start, given.stop, given.step) if end], given)
        return given
    if is_torch(given) or isinstance(given, np.ndarray):
        given = to_numpy(given)
        if given.dtype == np.bool_ and given.ndim == 1:
            given = np.flatnonzero(given)
        given = given.tolist()
    elif isinstance(given, list | tuple) and given and all(isinstance(i, bool) for i in given):
        given = np.flatnonzero(given).tolist()
    several = [given] if isinstance(given, str) or not hasattr(given, "__iter__") else list(given)
    numbers = _whole_numbers(name, several, given)
    if not numbers:
        raise InputError(f"{name} is empty: name some, or leave it out for all.")
    return tuple(dict.fromkeys(numbers))


def _whole_numbers(name: str, several: list[Any], given: Any) -> list[int]:
    try:
        if not any(isinstance(each, bool | np.bool_) for each in several):
            return [operator.index(each) for each in several]
    except TypeError:
        pass
    raise InputError(
        f"{name} must be a whole number, several of them, a slice, a range, a bool array with one "
        f"axis, or None for all; got {given!r}."
    )
