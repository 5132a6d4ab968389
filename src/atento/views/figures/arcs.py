"""Tokens left and right, and a line for each weight between them: who looks at whom."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from atento._errors import InputError
from atento.reading.spans import Span
from atento.views.figures.colours import HEADS, QUIET
from atento.views.figures.descriptions import heads_named, sizes
from atento.views.figures.head_map import as_span
from atento.views.figures.heads import Head
from atento.views.figures.labels import LINE, label_width, short
from atento.views.figures.pictures import title_of
from atento.views.figures.style import HIGHEST, SMALLEST
from atento.views.words import Words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Arcs", "arcs"]

Array = npt.NDArray[Any]

LARGEST = 7.5
"""Points: the size of tokens where there is room."""

ROOMY = 1.45
"""Lines are so many letters high where there is room."""

LONGEST = 2.6
"""Inches from the left tokens to the right ones."""

CELLS = 16
"""Columns of a token at most."""

THINNEST, THICKEST = 0.25, 2.6
"""Points."""

FAINTEST = 0.12

SHARE = 0.1
"""Of the largest weight: smaller ones have no line, unless another threshold is said."""


@dataclass(eq=False)
class Arcs:
    """Lines between tokens, ready to be drawn.

    Attributes:
        heads: one or several heads over the same tokens.
        weights: (query, key) of each.
        tokens, key_tokens: labels at the left and at the right.
        least: weights below it have no line.
        word: the reader's language.
    """

    heads: list[Head]
    weights: list[Array]
    tokens: list[str]
    key_tokens: list[str]
    least: float
    word: Words
    pad: float = 13.0
    widest: float = LONGEST

    @property
    def title(self) -> str:
        """The head; where there are several, their layer."""
        if len(self.heads) == 1:
            return title_of(self.heads[0], self.word)
        layer = self.heads[0].layer
        return "" if layer is None else f"{self.word('figure.layer')} {short(str(layer), 40)}"

    @property
    def description(self) -> str:
        """Which heads, and how many queries and keys."""
        counts = sizes(len(self.tokens), len(self.key_tokens), self.word)
        named = heads_named(self.heads, self.word)
        return self.word("figure.told.arcs", heads=named, sizes=counts)

    @property
    def _lines(self) -> int:
        return max(len(self.tokens), len(self.key_tokens))

    @property
    def _size(self) -> float:
        return min(LARGEST, 72 * (HIGHEST - 1) / (self._lines * LINE))

    def frame(self, width: float) -> tuple[float, float]:
        """What the tokens at both sides leave."""
        beside = sum(label_width(names, self._size) for names in (self.tokens, self.key_tokens))
        wide = min(max(width - beside - 0.2, 0.5), LONGEST)
        return wide, self.height(wide)

    def height(self, width: float) -> float:
        """A line of text for each token."""
        del width
        pitch = ROOMY if self._size == LARGEST else LINE
        return min(max(self._lines * self._size * pitch / 72, 0.4), HIGHEST - 1)

    def draw(self, ax: "Axes", frame: tuple[float, float]) -> None:
        """Lines, weak ones first, then the tokens."""
        ax.set_axis_off()
        ax.set(xlim=(0, 1), ylim=(1, 0))
        own, wide = _places(len(self.tokens)), _places(len(self.key_tokens))
        ax.add_collection(self._collection(own, wide), autolim=False)
        size = min(self._size, 72 * frame[1] / (self._lines * LINE))
        gap = 0.05 / frame[0]
        for names, places, x, side in (
            (self.tokens, own, -gap, "right"),
            (self.key_tokens, wide, 1 + gap, "left"),
        ):
            for name, y in zip(names, places, strict=True):
                ax.text(x, y, name, fontsize=size, ha=side, va="center")
        self._explain(ax, frame)

    def _collection(self, own: Array, wide: Array) -> Any:
        from matplotlib.collections import PathCollection
        from matplotlib.colors import to_rgb
        from matplotlib.path import Path

        queries, keys, which, weights = self._links()
        share = weights / max(float(weights.max(initial=0.0)), 1e-300)
        codes = [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4]
        paths = [
            Path([(0, own[i]), (0.45, own[i]), (0.55, wide[j]), (1, wide[j])], codes)
            for i, j in zip(queries, keys, strict=True)
        ]
        rgb = np.array([to_rgb(colour) for colour in HEADS])[which % len(HEADS)]
        alpha = FAINTEST + (1 - FAINTEST) * share
        return PathCollection(
            paths, facecolors="none", edgecolors=np.column_stack([rgb, alpha]),
            linewidths=THINNEST + (THICKEST - THINNEST) * share, capstyle="butt",
        )  # fmt: skip

    def _links(self) -> tuple[Array, Array, Array, Array]:
        """Query, key, head and weight of each line, the weakest first."""
        stacked = np.stack(self.weights)
        which, queries, keys = np.nonzero(stacked >= self.least)
        weights = stacked[which, queries, keys]
        order = np.argsort(weights, kind="stable")
        return queries[order], keys[order], which[order], weights[order]

    def _explain(self, ax: "Axes", frame: tuple[float, float]) -> None:
        """What is left and right, which colour is which head, and what was left out."""
        from matplotlib.lines import Line2D

        line = 0.13 / frame[1]
        for x, side, name in ((0, "right", "figure.query.short"), (1, "left", "figure.key.short")):
            ax.text(
                x + (0.05 if x else -0.05) / frame[0], -line / 3, self.word(name), fontsize=6.5,
                ha=side, va="bottom", color=QUIET,
            )  # fmt: skip
        least = self.word.number(f"{self.least:.2g}")
        ax.text(
            0.5, 1 + line / 2, self.word("figure.threshold", least=least), fontsize=6, ha="center",
            va="top", color=QUIET,
        )  # fmt: skip
        if len(self.heads) > 1:
            signs = [
                Line2D([], [], color=HEADS[at % len(HEADS)], linewidth=2,
                       label=self.word("figure.title.head", head=head.number))
                for at, head in enumerate(self.heads)
            ]  # fmt: skip
            columns = max(1, min(len(signs), int((frame[0] + 1.2) / 0.7)))
            ax.legend(
                handles=signs, loc="upper center", bbox_to_anchor=(0.5, -1.7 * line), ncols=columns,
                frameon=False, handlelength=1.2, columnspacing=1, borderaxespad=0,
            )  # fmt: skip


def _places(count: int) -> Array:
    """From top to bottom, half a line free at both ends."""
    return (np.arange(count) + 0.5) / count


def arcs(
    heads: list[Head],
    word: Words,
    *,
    rows: Span = None,
    cols: Span = None,
    threshold: float | None = None,
) -> Arcs:
    """Lines for the weights of one or several heads of a layer.

    Args:
        heads: of one layer, at most eight.
        word: the reader's language.
        rows: the queries to show, as in `LayerRecord.weights`; all by default.
        cols: the keys.
        threshold: the least weight that has a line; by default a tenth of the largest.

    Raises:
        InputError: there are too many tokens to be named or heads to be told apart, or the
            threshold is no weight.
    """
    if len(heads) > len(HEADS):
        raise InputError(
            f"arcs tells at most {len(HEADS)} heads apart by colour; got {len(heads)}: name those "
            'with head=[...], or see all with kind="grid".'
        )
    queries, keys = heads[0].source.lengths
    own = as_span("rows", rows, queries, "queries")
    wide = as_span("cols", cols, keys, "keys")
    most = int(72 * (HIGHEST - 1) / (SMALLEST * LINE))
    if max(len(own), len(wide)) > most:
        raise InputError(
            f"arcs names every token, and at most {most} fit on a page; got {len(own)} queries and "
            f'{len(wide)} keys: choose some with rows= and cols=, or draw kind="map".'
        )
    weights = [_weights(head, own, wide) for head in heads]
    largest = max(float(one.max(initial=0.0)) for one in weights)
    least = _threshold(threshold, largest)
    first = heads[0]
    return Arcs(
        heads, weights, _named(first.tokens, own), _named(first.key_tokens, wide), least, word
    )


def _weights(head: Head, rows: range, cols: range) -> Array:
    cells = head.source.cells(rows, cols, max(len(rows), len(cols)), "max")
    if cells.sides != (1, 1):
        raise InputError(
            "arcs needs each weight, and of these only pooled ones were kept: record with "
            'keep="qk", or draw kind="map".'
        )
    return np.where(cells.seen & (cells.weights > 0), cells.weights, 0.0)  # NaN has no line


def _threshold(asked: float | None, largest: float) -> float:
    if asked is None:
        return SHARE * largest or 1.0
    if isinstance(asked, bool) or not isinstance(asked, int | float) or not 0 < asked <= 1:
        raise InputError(f"threshold must be a weight, above 0 and at most 1; got {asked!r}.")
    return float(asked)


def _named(tokens: Any, span: range) -> list[str]:
    return [str(at) if tokens is None else short(tokens[at], CELLS) for at in span]
