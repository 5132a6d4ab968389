"""Numbers that are checked before anything is computed with them."""

from typing import Any

import numpy as np

from atento._errors import InputError

__all__ = ["lengths", "number_above", "whole_number"]


def lengths(function: str, query_length: Any, key_length: Any) -> tuple[int, int]:
    """(Tq, Tk), with as many keys as queries when nothing else is said."""
    Tq = whole_number(f"{function}: query_length", query_length, 0)
    if key_length is None:
        return Tq, Tq
    return Tq, whole_number(f"{function}: key_length", key_length, 0)


def whole_number(what: str, number: Any, least: int) -> Any:
    """The number, after a check that it is whole and at least ``least``.

    It is not converted to int: under tracing it may stand for any length.
    """
    if isinstance(number, bool) or not (isinstance(number, (int, np.integer)) or _symbol(number)):
        raise InputError(f"{what} must be a whole number; got {number!r}.")
    if number < least:
        raise InputError(f"{what} must be at least {least}; got {number}.")
    return number


def _symbol(number: Any) -> bool:
    """Whether this stands for a whole number that tracing leaves open (no array is one)."""
    return hasattr(number, "__index__") and not hasattr(number, "dtype")


def number_above(what: str, number: Any, bound: float) -> Any:
    """The number, after a check that it is finite and above the bound; not converted either."""
    if isinstance(number, bool) or not isinstance(number, (int, float, np.number)):
        raise InputError(f"{what} must be a number; got {number!r}.")
    if not bound < number < float("inf"):
        raise InputError(f"{what} must be a finite number above {bound}; got {number}.")
    return number
