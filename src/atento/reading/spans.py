"""Which rows and columns are meant: slices, ranges, pairs and single positions, checked."""

import operator
from typing import Any

from atento._errors import InputError

__all__ = ["Span", "position", "positions", "whole_number"]

Span = slice | range | tuple[int, int] | int | None


def positions(name: str, span: Span, length: int, what: str) -> range:
    """The positions that are meant, within the length."""
    if span is None:
        return range(length)
    if isinstance(span, tuple) and len(span) == 2:
        span = slice(*span)
    try:
        if isinstance(span, slice):
            return range(length)[span]
        if isinstance(span, range):
            return _within(name, span, length)
        index = operator.index(span)
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{name} must be a slice, a range, (start, stop), one index or None; got {span!r}."
        ) from None
    if isinstance(span, bool):
        raise InputError(f"{name} must be positions, not {span!r}.")
    at = position(name, index, length, what)
    return range(at, at + 1)


def _within(name: str, span: range, length: int) -> range:
    if span and min(span[0], span[-1]) < 0:
        raise InputError(
            f"{name} is a range of positions, from 0 on; got {span!r}. To count from the end "
            "write a slice."
        )
    if span.step > 0:
        return range(span.start, min(span.stop, length), span.step)
    skipped = max(0, -(-(span.start - length + 1) // -span.step)) if span else 0
    return span[skipped:]


def position(name: str, index: Any, size: int, what: str) -> int:
    """One position of so many; negative ones count from the end."""
    try:
        at = operator.index(index)
    except TypeError:
        raise InputError(f"{name} must be a whole number; got {index!r}.") from None
    if isinstance(index, bool):
        raise InputError(f"{name} must be a whole number; got {index!r}.")
    if not -size <= at < size:
        raise InputError(f"{_there_are(size, what)}; got {name} {at}.")
    return at % size


def _there_are(size: int, what: str) -> str:
    """How many there are of what is named in the plural, as in "heads in layer 3"."""
    if size != 1:
        return f"there are {size} {what}, 0 to {size - 1}" if size else f"there are no {what}"
    several, within, place = what.partition(" in ")
    one = f"{several[:-3]}y" if several.endswith("ies") else several.removesuffix("s")
    return f"there is 1 {one}{within}{place}, number 0"


def whole_number(name: str, number: Any, least: int) -> int:
    """A whole number that is not too small."""
    try:
        whole = operator.index(number)
    except TypeError:
        whole = least - 1
    if isinstance(number, bool) or whole < least:
        raise InputError(f"{name} must be a whole number from {least} on; got {number!r}.")
    return whole
