"""Where the matrices of a strip stand: columns side by side, on as few lines as can be read."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from atento.views.figures.labels import label_width

__all__ = ["ARROW", "BELOW", "NAME", "SMALL", "Column", "Layout", "Matrix", "Place"]

Array = npt.NDArray[Any]

NAME, SMALL = 7.0, 5.5
"""Points of the names, and of captions and arrows."""

NARROWEST, WIDEST = 0.45, 1.15
"""Width for height of a matrix, whatever its shape."""

TALLEST, LOWEST = 1.15, 0.4
"""Inches of a matrix; where they would be lower, the strip goes on in a second line."""

ARROW = 0.36
"""Inches between two columns: the arrow and what it does."""

ABOVE, BELOW = 0.16, 0.3
"""Inches over and under a matrix, for its name and its shape."""

BETWEEN = 0.12
"""Inches between two lines of the strip."""


@dataclass(frozen=True, eq=False)
class Matrix:
    """One step of one head.

    Attributes:
        name: in the reader's language.
        arrow: what made it from the column before.
        values: (row, column).
        share: whether it holds weights, from 0 on, rather than signed numbers.
        seen: False where a key may not be seen, or None.
        caption: what stands under it.
    """

    name: str
    arrow: str
    values: Array
    share: bool = False
    seen: Array | None = None
    caption: str = ""

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.values.shape[0], self.values.shape[1]

    @property
    def visible(self) -> Array:
        """True where a key may be seen; a score of −∞ says that it may not."""
        return ~np.isneginf(self.values) if self.seen is None else self.seen

    @property
    def label_width(self) -> float:
        """Inches that its name and caption take, less what may stand in the gaps beside it."""
        texts = ((self.name, NAME), *((line, SMALL) for line in self.caption.split("\n")))
        return max(label_width([text], size) for text, size in texts) - ARROW + 0.05

    @property
    def ratio(self) -> float:
        """Width for height, as it is drawn."""
        return min(max(self.shape[1] / self.shape[0], NARROWEST), WIDEST)


Column = list[Matrix]


@dataclass(frozen=True)
class Place:
    """A matrix, and where it stands: inches from the top left corner."""

    matrix: Matrix
    left: float
    top: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """Its right edge."""
        return self.left + self.width

    @property
    def middle(self) -> float:
        """Half-way down."""
        return self.top + self.height / 2


@dataclass(frozen=True)
class Layout:
    """The places of all matrices for one width.

    Attributes:
        columns: what stands one over another, from left to right.
        width: in inches.
    """

    columns: list[Column]
    width: float

    @cached_property
    def lines(self) -> list[list[Column]]:
        """The columns, on as few lines as let matrices be high enough."""
        count = len(self.columns)
        for per_line in sorted({-(-count // lines) for lines in range(1, count + 1)}, reverse=True):
            lines = [self.columns[at : at + per_line] for at in range(0, count, per_line)]
            if min(self._side(line, first=not at) for at, line in enumerate(lines)) >= LOWEST:
                return lines
        return [[column] for column in self.columns]

    @cached_property
    def side(self) -> float:
        """How high a matrix is that stands alone in its column."""
        return max(0.2, min(self._side(line, first=not at) for at, line in enumerate(self.lines)))

    @property
    def height(self) -> float:
        """Of all lines."""
        gaps = BETWEEN * (len(self.lines) - 1)
        return sum(map(self._line_height, self.lines)) + gaps

    @cached_property
    def boxes(self) -> list[list[Place]]:
        """The places of each column."""
        places = self._places()
        return [[next(places) for _ in column] for column in self.columns]

    def _side(self, line: list[Column], *, first: bool) -> float:
        """How high matrices can be for the line to fit, names and captions included."""
        room = self.width - ARROW * (len(line) - first)
        labels = [max(matrix.label_width for matrix in column) for column in line]
        ratios = [_ratio(column) * _share(column) for column in line]
        side = TALLEST
        for _ in line:  # narrow columns are as wide as their labels; the others share the rest
            fixed = [at for at, ratio in enumerate(ratios) if ratio * side <= labels[at]]
            free = sum(ratio for at, ratio in enumerate(ratios) if at not in fixed)
            left = room - sum(labels[at] for at in fixed)
            side = min(TALLEST, left / free) if free else (TALLEST if left >= 0 else 0.0)
        return side

    def _line_height(self, line: list[Column]) -> float:
        most = max(line, key=len)
        return len(most) * (self.side * _share(most) + ABOVE + BELOW)

    def _places(self) -> Iterator[Place]:
        top = 0.0
        for number, line in enumerate(self.lines):
            high = self._line_height(line)
            left = ARROW if number else 0.0
            for column in line:
                own = self.side * _share(column)
                each = own + ABOVE + BELOW
                y = top + (high - each * len(column)) / 2
                labels = max(matrix.label_width for matrix in column)
                widest = max(_ratio(column) * own, labels)
                for matrix in column:
                    wide = matrix.ratio * own
                    yield Place(matrix, left + (widest - wide) / 2, y + ABOVE, wide, own)
                    y += each
                left += widest + ARROW
            top += high + BETWEEN


def _ratio(column: Column) -> float:
    return max(matrix.ratio for matrix in column)


def _share(column: Column) -> float:
    """How high each matrix of a column is, of one that stands alone."""
    return 1.0 if len(column) == 1 else 0.7
