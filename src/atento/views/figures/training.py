"""How heads formed: loss and statistics of all heads over the steps, or all maps at one step."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from atento._errors import InputError
from atento.reading.roles import ROLES as DECIDING
from atento.views.figures.colours import QUIET, ROLES
from atento.views.figures.head_grid import HeadGrid, head_grid
from atento.views.figures.heads import Cells, Head
from atento.views.figures.pictures import number_formatter
from atento.views.figures.statistics_choice import chosen_statistics
from atento.views.figures.style import HIGHEST
from atento.views.words import Words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from atento.lm.watching import Watched

__all__ = ["TrainingCurves", "training_curves", "training_grid"]

USUAL = ("induction", "previous", "first", "entropy")
PANEL, GAP = 0.8, 0.14
"""Inches."""


@dataclass(eq=False)
class TrainingCurves:
    """The loss, and under it statistics of every head, ready to be drawn.

    Attributes:
        watched: what was seen of a training.
        names: of the statistics, from top to bottom.
        word: the reader's language.
    """

    watched: "Watched"
    names: list[str]
    word: Words
    title: str = ""
    pad: float = 4.0

    @property
    def description(self) -> str:
        """Which numbers, over which steps, of how many heads."""
        steps, names = self.watched.steps, [self.word(f"number.{name}") for name in self.names]
        return self.word(
            "figure.told.training",
            first=int(steps[0]),
            last=int(steps[-1]),
            names=", ".join([self.word("figure.loss"), *names]),
            heads=len(self.watched.layers) * len(self.watched.heads),
        )

    @property
    def widest(self) -> float:
        """As wide as there is room."""
        return math.inf

    def frame(self, width: float) -> tuple[float, float]:
        """What the numbers at the left leave."""
        return width - 0.6, self.height(width)

    def height(self, width: float) -> float:
        """A panel for the loss and for each statistic."""
        del width
        return min((len(self.names) + 1) * (PANEL + GAP) - GAP, HIGHEST - 1)

    def draw(self, ax: "Axes", frame: tuple[float, float]) -> None:
        """Panels one under another, all over the same steps."""
        ax.set_axis_off()
        count, high = len(self.names) + 1, frame[1]
        panel = (1 - (count - 1) * GAP / high) / count
        for at, name in enumerate(("loss", *self.names)):
            inner = ax.inset_axes((0, 1 - (at + 1) * panel - at * GAP / high, 1, panel))
            self._draw_panel(inner, name)
            if at + 1 < count:
                inner.tick_params(labelbottom=False)
            else:
                inner.set_xlabel(self.word("figure.step"), color=QUIET)
            if not at:
                self._legend(inner, frame)

    def _draw_panel(self, ax: "Axes", name: str) -> None:
        from matplotlib.ticker import MaxNLocator

        if name == "loss":
            self._draw_loss(ax)
            ax.set_ylabel(self.word("figure.loss"), fontsize=7)
        else:
            self._draw_heads(ax, name)
            ax.set_ylabel(self.word(f"number.{name}"), fontsize=7)
        steps = self.watched.steps
        ax.set_xlim(int(steps[0]), max(int(steps[-1]), 1))
        ax.set_ylim(bottom=0.0)
        ax.tick_params(labelsize=6.5)
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        ax.yaxis.set_major_locator(MaxNLocator(4))
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter(number_formatter(self.word))
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
        ax.grid(axis="y", color="#e6e6e6", linewidth=0.4)
        ax.set_axisbelow(True)

    def _draw_loss(self, ax: "Axes") -> None:
        rows = [(row["step"], row["loss"]) for row in self.watched.log if row["loss"] is not None]
        if rows:
            ax.plot(*zip(*rows, strict=True), color=ROLES["other"], linewidth=0.9)
        ax.plot(self.watched.steps, self.watched.loss, color=ROLES["sink"], linewidth=1.1)

    def _draw_heads(self, ax: "Axes", name: str) -> None:
        courses = self.watched[name].reshape(len(self.watched), -1)
        roles = [row["role"] for row in self.watched.formed()]
        for course, role in zip(courses.T, roles, strict=True):
            formed = role != "other"
            ax.plot(
                self.watched.steps, course, color=ROLES[role], linewidth=1.0 if formed else 0.6,
                zorder=3 if formed else 2,
            )  # fmt: skip
        threshold = next((role.threshold for role in DECIDING if role.number == name), None)
        if threshold is not None:
            ax.axhline(threshold, color=QUIET, linewidth=0.5, linestyle=(0, (3, 3)))

    def _legend(self, ax: "Axes", frame: tuple[float, float]) -> None:
        """The roles that there are, by colour."""
        from matplotlib.lines import Line2D

        there = {row["role"] for row in self.watched.formed()}
        signs = [
            Line2D([], [], color=ROLES[name], label=self.word(f"role.{name.replace(' ', '_')}"))
            for name in ROLES if name in there
        ]  # fmt: skip
        columns = max(1, min(len(signs), int(frame[0] / 0.95)))
        self.pad += 11 * -(-len(signs) // columns)
        ax.legend(
            handles=signs, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=columns,
            frameon=False, handlelength=1.2, columnspacing=1, borderaxespad=0.2,
        )  # fmt: skip


def training_curves(watched: "Watched", word: Words, *, statistics: Any = None) -> TrainingCurves:
    """The loss, and statistics of every head over the steps.

    Args:
        watched: what was seen of a training.
        word: the reader's language.
        statistics: names, from top to bottom; prefix matching, the key before, the first key and
            entropy by default, as far as there are any.

    Raises:
        InputError: there is no such statistic, or no prompt has any of it.
    """
    there = [name for name in watched.names if np.isfinite(watched[name]).any()]
    names = chosen_statistics(statistics, there, USUAL, "of these prompts")
    return TrainingCurves(watched, names, word)


@dataclass(frozen=True, eq=False)
class Filmed:
    """A map as it was kept: weights, or cells of a few weights.

    Attributes:
        pools: (pool, row, column), by mean and by maximum, or one of both.
        tokens: how many the prompt has.
    """

    pools: npt.NDArray[Any]
    tokens: int

    @property
    def lengths(self) -> tuple[int, int]:
        """(Tq, Tk)."""
        return self.tokens, self.tokens

    def cells(self, rows: range, cols: range, most: int, pool: str) -> Cells:
        """All of the map, whatever part is asked for: it is small."""
        del rows, cols, most
        kept = self.pools[-1 if pool == "max" else 0].astype(np.float64)
        side = -(-self.tokens // kept.shape[0])
        return Cells(kept, np.tri(len(kept), dtype=bool), (0, 0), (side, side))


def training_grid(
    watched: "Watched",
    word: Words,
    *,
    step: int | None = None,
    prompt: int = 0,
    pool: str = "max",
    log: bool = False,
) -> HeadGrid:
    """All heads as small maps at one of the steps.

    Args:
        watched: what was seen of a training.
        word: the reader's language.
        step: one of ``watched.steps``; None: the last.
        prompt: on which of those whose maps were kept.
        pool: "max" or "mean", of the weights of a cell.
        log: whether colours follow the logarithm.

    Raises:
        InputError: that step was not looked at, or there are no maps of that prompt.
    """
    at = _place_of(watched, step)
    if isinstance(prompt, bool) or prompt not in range(len(watched.maps)):
        raise InputError(
            f"maps are kept of the first {len(watched.maps)} prompts, from 0 on; got {prompt!r}."
        )
    maps, tokens = watched.maps[prompt][at], len(watched.prompts[prompt].ids)
    layers = [
        [
            Head(layer, number, None, None, Filmed(maps[:, layer, head], tokens),
                 watched.role(at, layer, head))
            for head, number in enumerate(watched.heads)
        ]
        for layer in range(len(watched.layers))
    ]  # fmt: skip
    grid = head_grid(layers, word, pool=pool, log=log)
    grid.title = word("figure.title.step", step=int(watched.steps[at]))
    return grid


def _place_of(watched: "Watched", step: int | None) -> int:
    steps: list[int] = watched.steps.tolist()
    if step is None:
        return len(steps) - 1
    if step not in steps:
        named = ", ".join(map(str, steps))
        raise InputError(f"step {step!r} was not looked at. There are {named}.")
    return steps.index(step)
