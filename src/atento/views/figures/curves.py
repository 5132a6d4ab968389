"""Statistics along the text, one under another: entropy, weight received, distance looked back."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from atento._errors import InputError
from atento.views.figures.colours import HEADS, QUIET
from atento.views.figures.descriptions import heads_named
from atento.views.figures.heads import Head
from atento.views.figures.labels import label_axis, label_size, short, shown
from atento.views.figures.pictures import number_formatter, title_of
from atento.views.figures.statistics_choice import chosen_statistics
from atento.views.figures.style import HIGHEST
from atento.views.words import Words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Curves", "curves"]

Array = npt.NDArray[Any]

USUAL = ("entropy", "received", "distance_mean")
SHARES = ("max", "first", "previous", "self", "duplicate", "induction")

PANEL, GAP = 0.8, 0.14
"""Inches."""

MOST_POINTS = 800
"""Along a curve; of more, a line shows the mean and a band the least and the largest."""

MARKED = 40
"""Up to so many tokens, each point is marked."""


@dataclass(eq=False)
class Curves:
    """Statistics of one or several heads, ready to be drawn.

    Attributes:
        heads: of one layer.
        names: of the statistics, from top to bottom.
        word: the reader's language.
    """

    heads: list[Head]
    names: list[str]
    word: Words
    pad: float = 4.0

    @property
    def widest(self) -> float:
        """As wide as there is room."""
        return math.inf

    @property
    def title(self) -> str:
        """The head; where there are several, their layer."""
        if len(self.heads) == 1:
            return title_of(self.heads[0], self.word)
        layer = self.heads[0].layer
        return "" if layer is None else f"{self.word('figure.layer')} {shown(str(layer), 40)}"

    @property
    def description(self) -> str:
        """Which statistics of which heads."""
        names = ", ".join(self._label(name) for name in self.names)
        tokens = max(len(values) for head in self.heads for _, values in self._of(head))
        named = heads_named(self.heads, self.word)
        return self.word("figure.told.curves", tokens=tokens, names=names, heads=named)

    def frame(self, width: float) -> tuple[float, float]:
        """What the numbers at the left leave."""
        return width - 0.6, self.height(width)

    def height(self, width: float) -> float:
        """A panel for each statistic."""
        del width
        return min(len(self.names) * (PANEL + GAP) - GAP, HIGHEST - 1)

    def draw(self, ax: "Axes", frame: tuple[float, float]) -> None:
        """A panel for each statistic in axes of its own, all over the same tokens."""
        ax.set_axis_off()
        count, high = len(self.names), frame[1]
        panel = (1 - (count - 1) * GAP / high) / count
        last = max(
            head.first * (axis == "query") + len(values)
            for head in self.heads for axis, values in self._of(head)
        )  # fmt: skip
        panels = []
        for at, name in enumerate(self.names):
            inner = ax.inset_axes((0, 1 - (at + 1) * panel - at * GAP / high, 1, panel))
            self._draw_panel(inner, name)
            inner.set_xlim(-0.5, last - 0.5)
            if at + 1 < count:
                inner.tick_params(labelbottom=False)
            panels.append(inner)
        self._name_tokens(panels[-1], frame, last)
        if len(self.heads) > 1:
            columns = max(1, int(frame[0] / 0.75))
            self.pad += 11 * -(-len(self.heads) // columns)  # the title stands above the legend
            panels[0].legend(
                loc="lower center", bbox_to_anchor=(0.5, 1), ncols=columns,
                frameon=False, handlelength=1.2, columnspacing=1, borderaxespad=0.2,
            )  # fmt: skip

    def _of(self, head: Head) -> list[tuple[str, Array]]:
        return [head.statistics[name] for name in self.names]

    def _draw_panel(self, ax: "Axes", name: str) -> None:
        from matplotlib.ticker import MaxNLocator

        for at, head in enumerate(self.heads):
            axis, values = head.statistics[name]
            first = head.first if axis == "query" else 0
            label = self.word("figure.title.head", head=head.number)
            self._draw_line(ax, name, head, first, values, HEADS[at % len(HEADS)], label)
        ax.set_ylabel(self._label(name), fontsize=7)
        ax.tick_params(labelsize=6.5)
        ax.yaxis.set_major_locator(MaxNLocator(4))
        ax.yaxis.set_major_formatter(number_formatter(self.word))
        ax.margins(y=0.08)
        if ax.dataLim.y0 >= 0:  # what starts at 0 is drawn from 0
            ax.set_ylim(bottom=0.0)
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
        ax.grid(axis="y", color="#e6e6e6", linewidth=0.4)
        ax.set_axisbelow(True)

    def _draw_line(
        self, ax: "Axes", name: str, head: Head, first: int, values: Array, colour: str, label: str
    ) -> None:
        values = np.asarray(values, np.float64)
        marker = "o" if len(values) <= MARKED else None
        at, mean, low, high = _thinned(values)
        ax.plot(
            first + at,
            mean,
            color=colour,
            linewidth=0.9,
            label=label,
            marker=marker,
            markersize=1.8,
        )
        alone = len(self.heads) == 1
        if name == "distance_mean" and alone and "distance_std" in head.statistics:
            spread = np.asarray(head.statistics["distance_std"][1], np.float64)
            _, own, _, _ = _thinned(spread)
            low, high = mean - own, mean + own
        if alone and (low != high).any():
            ax.fill_between(first + at, low, high, color=colour, alpha=0.2, linewidth=0)

    def _label(self, name: str) -> str:
        for known in (f"figure.curve.{name}", f"number.{name}"):
            if known in self.word:
                return self.word(known)
        return shown(name, 24)

    def _name_tokens(self, ax: "Axes", frame: tuple[float, float], last: int) -> None:
        tokens = next((h.key_tokens or h.tokens for h in self.heads), None)
        size = label_size(last, frame[0])
        if tokens is not None and len(tokens) == last and size is not None:
            label_axis(ax, "x", [short(token) for token in tokens], size)
        else:
            from matplotlib.ticker import MaxNLocator

            ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            ax.set_xlabel(self.word("figure.token"), color=QUIET)


def _thinned(values: Array) -> tuple[Array, Array, Array, Array]:
    """Place, mean, least and largest of neighbours, where there are too many points to be told."""
    step = -(-len(values) // MOST_POINTS)
    starts = np.arange(0, len(values), step)
    sizes = np.diff(np.append(starts, len(values)))
    mean = np.add.reduceat(values, starts) / sizes
    low, high = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
    return starts + (sizes - 1) / 2, mean, low, high


def curves(
    heads: list[Head], word: Words, *, statistics: str | Iterable[str] | None = None
) -> Curves:
    """Statistics of one or several heads of a layer along the text.

    Args:
        heads: of one layer.
        word: the reader's language.
        statistics: names, from top to bottom; entropy, received and distance by default, as far as
            they were recorded. The mean distance has a band of one standard deviation.

    Raises:
        InputError: the record has no statistics, or not these.
    """
    if len(heads) > len(HEADS):
        raise InputError(
            f"curves tells at most {len(HEADS)} heads apart by colour; got {len(heads)}: name "
            "those with head=[...]."
        )
    there = [name for name in heads[0].statistics if name != "max_key"]
    if not there:
        raise InputError(
            "curves draws statistics along the text, and this record has none: atento.survey and "
            "atento.capture fold them."
        )
    names = chosen_statistics(statistics, there, USUAL, "along the tokens here")
    return Curves(heads, names or there[:3], word)
