"""Bins of equal length along an axis, and the parts of them that a block holds."""

from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["Bins", "bin_sizes", "bins_of"]


class Bins(NamedTuple):
    """Rows (or columns) start:stop of a block; how many bins they are of, of one length; which."""

    start: int
    stop: int
    bins: int
    where: slice


def bins_of(span: range, length: int) -> Iterator[Bins]:
    """The bins that a block has a part of: the cut one at its start, whole ones, the cut one.

    >>> [(b.start, b.stop, b.bins) for b in bins_of(range(6, 20), 5)]
    [(0, 4, 1), (4, 14, 2)]
    """
    head = min(-(-span.start // length) * length, span.stop)  # where a bin begins
    tail = max(head, span.stop // length * length)
    for start, stop in ((span.start, head), (head, tail), (tail, span.stop)):
        if start < stop:
            first = start // length
            count = max(1, (stop - start) // length)
            yield Bins(start - span.start, stop - span.start, count, slice(first, first + count))


def bin_sizes(length: int, bin_length: int) -> list[int]:
    """How long each bin is."""
    return [min(bin_length, length - start) for start in range(0, length, bin_length)]
