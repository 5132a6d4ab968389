"""Results of a whole batch, from parts over some heads, rows and keys of each item.

Results by heads are written where those heads stand as soon as their last part has come. So what
is held is the results, once, and the state of a few heads: at 131,072 tokens the overview of one
head takes 134 MB, and its state half as much again.
"""

from collections.abc import Iterator
from typing import Any

from atento._errors import ShapeError
from atento.statistics.statistic import Statistic

__all__ = ["Parts", "gathered", "is_by_head"]

Array = Any

Parts = list[Statistic]
"""What one thread folded of a batch item: a part of each statistic, in their order."""


def is_by_head(statistic: Statistic) -> bool:
    """Whether its parts over other heads stand side by side; otherwise all are merged."""
    return statistic.by_head and all("head" in axes for axes in statistic.results.values())


def gathered(made: Iterator[tuple[int, Parts]], heads: int, items: int = 1) -> dict[str, Array]:
    """Each result by name, (batch item, ...), from parts in the order in which work was cut.

    Args:
        made: the number of a batch item, and parts of it. Those of the same heads are neighbours.
        heads: of a batch item.
        items: how many there are.

    Raises:
        ShapeError: for results that have not the axes that the statistic names.
    """
    results = _Results(items, heads)
    last: list[tuple[int, Statistic]] = []
    for item, parts in made:
        last = last or [(item, part) for part in parts]
        for number, part in enumerate(parts):
            before, whole = last[number]
            if whole is part:
                continue
            if before == item and whole.extent.matches(part.extent):
                whole.merge(part)
            else:
                results.take(before, whole)
                last[number] = item, part
    for item, part in last:
        results.take(item, part)
    return results.arrays


class _Results:
    """The results of all batch items, filled part by part."""

    def __init__(self, items: int, heads: int) -> None:
        self.items, self.heads = items, heads
        self.arrays: dict[str, Array] = {}

    def take(self, item: int, part: Statistic) -> None:
        """Write down what a part has found."""
        found = part.result()
        for name, axes in part.results.items():
            own = found.pop(name)
            if own.ndim != len(axes):
                raise ShapeError(
                    f"the statistic {name!r} says its axes are {axes}, and its result has "
                    f"{own.ndim}: {tuple(own.shape)}."
                )
            self._write(name, item, part, own)

    def _write(self, name: str, item: int, part: Statistic, own: Array) -> None:
        """Fill in the part's heads of one item."""
        axes = part.results[name]
        first, count = part.extent.first_head, part.extent.heads
        by_head = is_by_head(part)
        if name not in self.arrays:
            sizes = zip(axes, own.shape, strict=True)
            shape = [self.heads if by_head and axis == "head" else size for axis, size in sizes]
            self.arrays[name] = part.extent.xp.empty(
                (self.items, *shape), dtype=own.dtype, device=part.extent.device
            )
        heads = slice(first, first + count) if by_head else slice(None)
        at = (item, *(heads if axis == "head" else slice(None) for axis in axes))
        room = self.arrays[name][at]
        if tuple(room.shape) != tuple(own.shape):
            raise ShapeError(
                f"the statistic {name!r} has results of several shapes, {tuple(room.shape)} and "
                f"{tuple(own.shape)}: they must be the same for every batch item, with one entry "
                'per head on the axis "head".'
            )
        room[...] = own
