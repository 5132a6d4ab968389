"""One head as a map: a row for each query, a column for each key, the darker the more weight."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from atento._errors import InputError
from atento.reading.spans import Span, positions
from atento.views.figures.colours import QUIET, weight_map
from atento.views.figures.descriptions import sizes, strongest
from atento.views.figures.heads import Cells, Head
from atento.views.figures.labels import (
    check_labels,
    label_axis,
    label_size,
    label_width,
    mark_positions,
    short,
)
from atento.views.figures.pictures import colour_bar, draw_matrix, show_unseen, side_of, title_of
from atento.views.figures.style import HIGHEST
from atento.views.words import Words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize

__all__ = ["HeadMap", "above", "as_span", "check_pool", "head_map", "scale_of"]

MOST_CELLS = 512
"""Cells a side: more could not be told apart in print."""

FLATTEST, STEEPEST = 0.12, 2.5
"""Height for width; between them cells are square."""

DEEPEST = 1e-6
"""Of the largest weight: a logarithmic scale begins there at the latest."""


@dataclass(eq=False)
class HeadMap:
    """The map of one head, ready to be drawn.

    Attributes:
        head: which one.
        cells: its weights.
        rows, cols: the queries and keys that they cover.
        pool: "mean" or "max", where a cell has several weights.
        log: whether colours follow the logarithm of the weights.
        labels: whether tokens must stand at the edges; None: where they fit.
        word: the reader's language.
    """

    head: Head
    cells: Cells
    rows: range
    cols: range
    pool: str
    log: bool
    labels: bool | None
    word: Words
    pad: float = 4.0
    widest: float = math.inf

    @property
    def title(self) -> str:
        """Layer, head and role."""
        return title_of(self.head, self.word)

    @property
    def description(self) -> str:
        """Which head, of how many queries and keys, and its largest weight."""
        told = sizes(len(self.rows), len(self.cols), self.word)
        told = self.word("figure.told.map", head=self.title, sizes=told)
        return told + strongest(self.head, self.cells, self.word)

    def height(self, width: float) -> float:
        """Cells are square, unless that would make a line or a tower of it."""
        return min(width * min(max(self._ratio, FLATTEST), STEEPEST), HIGHEST - 1.5)

    @property
    def _ratio(self) -> float:
        """Queries for a key."""
        return len(self.rows) / len(self.cols)

    def frame(self, width: float) -> tuple[float, float]:
        """What labels at the left and the colour bar leave."""
        wide = width - 1.15
        queries, _ = self._names((wide, self.height(wide)))
        if queries is not None:
            wide -= max(0.0, label_width(*queries) - 0.35)
        wide = max(wide, 0.5)
        return wide, self.height(wide)

    def draw(self, ax: "Axes", frame: tuple[float, float]) -> None:
        """Cells, labels, colour bar."""
        show_unseen(ax)
        square = FLATTEST <= self._ratio <= STEEPEST
        if square:  # as large as axes that were given let it be
            frame = min(frame[0], frame[1] / self._ratio), min(frame[1], frame[0] * self._ratio)
        norm = scale_of([self.cells.visible], log=self.log)
        weights = above(norm, self.cells.weights)
        shown = draw_matrix(ax, weights, weight_map(), norm, self.cells.seen)
        ax.set_aspect(self.cells.sides[0] / self.cells.sides[1] if square else "auto")
        ax.set(xlabel=self.word("figure.key"), ylabel=self.word("figure.query"))
        for axis, names, corner, side, count in zip(
            "yx", self._names(frame), self.cells.corner, self.cells.sides,
            self.cells.weights.shape, strict=True,
        ):  # fmt: skip
            if names is None:
                mark_positions(ax, axis, corner, count, side)
            else:
                label_axis(ax, axis, *names)
        for edge in ax.spines.values():
            edge.set_color(QUIET)
        label = side_of(self.cells, self.pool, self.word)
        colour_bar(ax, shown, label, frame, self.word, unseen=not self.cells.seen.all())

    def _names(
        self, frame: tuple[float, float]
    ) -> tuple[tuple[list[str], float] | None, tuple[list[str], float] | None]:
        """Labels and their size, of queries and keys; None where positions are marked instead."""
        wide, high = frame
        both: list[tuple[list[str], float] | None] = []
        for names, span, length, what, side in (
            (self.head.tokens, self.rows, high, "queries", self.cells.sides[0]),
            (self.head.key_tokens, self.cols, wide, "keys", self.cells.sides[1]),
        ):
            size = label_size(len(span), length)
            if self.labels and names is not None:
                check_labels(len(span), length, what)
            there = names is not None and self.labels is not False and side == 1
            if names is None or size is None or not there:
                both.append(None)
            else:
                both.append(([short(names[at]) for at in span], size))
        return both[0], both[1]


def head_map(
    head: Head,
    word: Words,
    *,
    rows: Span = None,
    cols: Span = None,
    pool: str = "max",
    log: bool = False,
    labels: bool | None = None,
) -> HeadMap:
    """The map of one head.

    Args:
        head: which one.
        word: the reader's language.
        rows: the queries to show, as in `LayerRecord.weights`; all by default.
        cols: the keys.
        pool: what of the weights of a cell is shown where there are too many for a cell each:
            "max", which shows a needle, or "mean", which is how much weight there is.
        log: whether colours follow the logarithm.
        labels: tokens at the edges: True, False, or where they fit.

    Raises:
        InputError: for rows or columns that are not there, or labels that do not fit.
    """
    check_pool(pool)
    queries, keys = head.source.lengths
    own = as_span("rows", rows, queries, "queries")
    wide = as_span("cols", cols, keys, "keys")
    cells = head.source.cells(own, wide, MOST_CELLS, pool)
    return HeadMap(head, cells, own, wide, pool, log, labels, word)


def check_pool(pool: str) -> None:
    """See that the pool is known.

    Raises:
        InputError: it is not.
    """
    if pool not in ("mean", "max"):
        raise InputError(f'pool must be "mean" or "max"; got {pool!r}.')


def as_span(name: str, span: Span, length: int, what: str) -> range:
    """The queries or keys that are meant, one behind the other.

    Raises:
        InputError: none of these are there, or there are gaps between them.
    """
    chosen = positions(name, span, length, what)
    if not chosen or chosen.step != 1:
        raise InputError(
            f"{name} must be at least one of {length} {what}, without gaps; got {span!r}."
        )
    return chosen


def scale_of(pictures: "list[Any]", *, log: bool) -> "Normalize":
    """From 0 (or the smallest weight that is seen, on a logarithmic scale) to the largest."""
    from matplotlib.colors import LogNorm, Normalize

    numbers = np.concatenate([picture[np.isfinite(picture)] for picture in pictures])
    largest = float(numbers.max(initial=0.0)) or 1.0
    if not log:
        return Normalize(0.0, largest)
    least = float(numbers[numbers > 0].min(initial=largest))
    return LogNorm(max(min(least, largest / 10), largest * DEEPEST), largest)


def above(norm: "Normalize", weights: Any) -> Any:
    """The weights, where a logarithmic scale has no place for smaller ones at its foot."""
    return np.maximum(weights, norm.vmin) if norm.vmin else weights
