"""The computation of one head from left to right: input, Q, K, V, scores, …, weights, output.

Every matrix stands over its shape, as in a paper's figure. Heights are the tokens'; a matrix with
many more features than tokens is drawn narrower than it is.
"""

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from atento._arrays import to_numpy
from atento._errors import InputError
from atento.records import AttentionLayer
from atento.views.figures.colours import QUIET, signed_map, weight_map
from atento.views.figures.labels import LINE, label_width, short
from atento.views.figures.pictures import draw_matrix, show_unseen
from atento.views.figures.step_layout import (
    ARROW,
    BELOW,
    NAME,
    SMALL,
    Column,
    Layout,
    Matrix,
    Place,
)
from atento.views.figures.style import SMALLEST
from atento.views.words import Words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize

__all__ = ["StepStrip", "step_strip"]

Array = npt.NDArray[Any]

GIVEN = ("queries", "keys", "values")

MOST_CELLS = 512
"""Rows or columns of a matrix that are drawn; more are averaged."""

SMALLEST_SHARE = 0.75
"""Of the height that it would have: in lower axes it is not drawn."""


@dataclass(eq=False)
class StepStrip:
    """The steps of one head, ready to be drawn.

    Attributes:
        columns: what stands one over another, from left to right.
        tokens: of the queries.
        title: layer and head.
        word: the reader's language.
    """

    columns: list[Column]
    tokens: list[str]
    title: str
    word: Words
    pad: float = 4.0
    widest: float = math.inf

    @property
    def description(self) -> str:
        """Every matrix with its shape, in order."""
        matrices = [matrix for column in self.columns for matrix in column]
        steps = ", ".join(f"{one.name} {one.shape[0]} × {one.shape[1]}" for one in matrices)
        return self.word("figure.told.steps", head=self.title, steps=steps)

    def frame(self, width: float) -> tuple[float, float]:
        """What the tokens at the left of the first matrix leave."""
        wide = width - 0.1
        if self._size(wide) is not None:
            wide -= label_width(self.tokens, self._size(wide) or 0.0)
        return wide, self.height(wide)

    def height(self, width: float) -> float:
        """Of all lines of the strip."""
        return Layout(self.columns, width).height

    def draw(self, ax: "Axes", frame: tuple[float, float]) -> None:
        """Matrices in axes of their own inside these, and arrows between them."""
        ax.set_axis_off()
        wide, high = frame
        layout = Layout(self.columns, wide)
        shrink = min(1.0, high / layout.height)  # axes that were given may be lower
        if shrink < SMALLEST_SHARE:
            raise InputError(
                f"steps needs axes about {layout.height:.1f} inches high where they are "
                f"{wide:.1f} wide; got {high:.1f}: make the figure higher, or leave ax out."
            )
        ax.set(xlim=(0, wide), ylim=(high, 0))
        for place in (place for box in layout.boxes for place in box):
            left, width = place.left * shrink / wide, place.width * shrink / wide
            top, height = place.top * shrink / high, place.height * shrink / high
            inner = ax.inset_axes((left, 1 - top - height, width, height))
            self._draw_matrix(inner, place.matrix, shrink)
        size = self._size(wide)
        if size is not None:
            first = ax.child_axes[0]
            first.set_yticks(range(len(self.tokens)), self.tokens, fontsize=size)
            first.tick_params(left=False, labelleft=True)
        self._draw_arrows(ax, layout.boxes, shrink)

    def _draw_matrix(self, ax: "Axes", matrix: Matrix, shrink: float) -> None:
        values, seen = _pooled(matrix.values, matrix.visible)
        colours = weight_map() if matrix.share else signed_map()
        show_unseen(ax)
        draw_matrix(ax, values, colours, _norm(matrix), seen)
        ax.set(xticks=[], yticks=[])
        for edge in ax.spines.values():
            edge.set_color(QUIET)
        ax.set_title(matrix.name, fontsize=NAME * shrink, pad=2)
        ax.set_xlabel(matrix.caption, fontsize=SMALL * shrink, labelpad=2)

    def _draw_arrows(self, ax: "Axes", boxes: list[list[Place]], shrink: float) -> None:
        """From each column to the next; from the values, under all of them, to the output."""
        for before, own in pairwise(boxes):
            left = min(place.left for place in own)
            if left < before[0].left:  # a line of its own begins here
                sources = [(left - ARROW, own[len(own) // 2].middle)]
            else:
                sources = [(one.right, one.middle) for one in before[:2]]  # not the values
            for start in sources:
                for one in own:
                    above = len(sources) > 1 and start is sources[0]
                    aside = 0.25 * one.height if above else 0.0
                    self._arrow(ax, start, (one.left, one.middle - aside), shrink)
            over = (sources[-1][0] + left) / 2, own[len(own) // 2].middle - 0.045
            ax.text(
                over[0] * shrink, over[1] * shrink, own[0].matrix.arrow, fontsize=SMALL * shrink,
                ha="center", va="bottom",
            )  # fmt: skip
        values, output = next(own[-1] for own in boxes if len(own) > 1), boxes[-1][0]
        middle, bottom = output.left + output.width / 2, output.top + output.height + BELOW
        if values.right < output.left and bottom < values.middle:
            corner = middle, values.middle
            way = np.array([(values.right + 0.05, values.middle), corner]) * shrink
            ax.plot(*way.T, color=QUIET, linewidth=0.6)
            self._arrow(ax, corner, (middle, bottom), shrink, gap=0.0)

    def _arrow(
        self,
        ax: "Axes",
        start: tuple[float, float],
        end: tuple[float, float],
        shrink: float,
        gap: float = 0.05,
    ) -> None:
        ax.annotate(
            "", xy=((end[0] - gap) * shrink, end[1] * shrink),
            xytext=((start[0] + gap) * shrink, start[1] * shrink),
            arrowprops={"arrowstyle": "-|>", "color": QUIET, "linewidth": 0.6, "shrinkA": 0,
                        "shrinkB": 0, "mutation_scale": 5},
        )  # fmt: skip

    def _size(self, width: float) -> float | None:
        """The size of token labels at the first matrix; None where they would be too small."""
        if not self.tokens:
            return None
        high = Layout(self.columns, width).boxes[0][0].height
        size = min(6.0, 72 * high / (len(self.tokens) * LINE))
        return size if size >= SMALLEST else None


def _pooled(values: Array, seen: Array) -> tuple[Array, Array]:
    """At most MOST_CELLS rows and columns, each the mean of what may be seen of its neighbours."""
    total, count = np.where(seen, values, 0.0).astype(np.float64), seen.astype(np.float64)
    for axis in (0, 1):
        starts = np.arange(0, total.shape[axis], -(-total.shape[axis] // MOST_CELLS))
        total, count = (np.add.reduceat(part, starts, axis=axis) for part in (total, count))
    return total / np.maximum(count, 1.0), count > 0


def _norm(matrix: Matrix) -> "Normalize":
    from matplotlib.colors import Normalize

    finite = np.abs(matrix.values[np.isfinite(matrix.values)])
    largest = float(finite.max(initial=0.0)) or 1.0
    return Normalize(0.0 if matrix.share else -largest, largest)


def step_strip(layer: AttentionLayer, head: int, tokens: Any, title: str, word: Words) -> StepStrip:
    """The steps of one head.

    Args:
        layer: its trace and what it read.
        head: counted from 0.
        tokens: a name for each query, or None.
        title: layer and head.
        word: the reader's language.

    Raises:
        InputError: the trace has a step that is no matrix.
    """
    trace = layer.trace
    scale = trace.parameters.get("scale")
    arrows = {
        "scores": "Q Kᵀ",
        "scaled": "scale" if scale is None else word.number(f"× {scale:.3g}"),
        "capped": "tanh",
        "biased": "+ " + word("bias"),
        "masked": word("figure.mask"),
        "weights": "softmax",
        "dropped": "dropout",
        "output": "× V",
    }
    columns: list[Column] = []
    if layer.input is not None:
        columns.append([_captioned(Matrix(word("input"), "", _one(layer.input, head)), word)])
    projected = "× W" if columns else ""
    made = ((name, _head_of(trace[name].value, head, layer.heads)) for name in GIVEN)
    columns.append(
        [_captioned(Matrix(word(name), projected, values), word) for name, values in made]
    )
    seen = None
    for step in trace:
        if step.name not in arrows:
            continue
        values = _head_of(step.value, head, layer.heads)
        if step.name in ("masked", "biased") and np.isneginf(values).any():
            seen = ~np.isneginf(values)
        share = step.name in ("weights", "dropped")
        matrix = Matrix(word(step.name), arrows[step.name], values, share, seen if share else None)
        columns.append([_captioned(matrix, word)])
    return StepStrip(columns, [short(name, 10) for name in tokens or ()], title, word)


def _captioned(matrix: Matrix, word: Words) -> Matrix:
    """The matrix with its shape, and the least and the largest number in it."""
    rows, columns = matrix.shape
    finite = matrix.values[np.isfinite(matrix.values) & matrix.visible]
    ends = (finite.min(), finite.max()) if finite.size else ()
    low, high = [word.number(f"{float(end):.2g}".replace("-", "−")) for end in ends] or "––"
    return replace(matrix, caption=f"{rows} × {columns}\n{low} … {high}")


def _head_of(value: Any, head: int, heads: int) -> Array:
    """The part of one query head; keys and values may be shared by a group."""
    array = to_numpy(value)
    return _one(array[head * array.shape[0] // heads], head)


def _one(value: Any, head: int) -> Array:
    array = to_numpy(value)
    if array.ndim != 2:
        raise InputError(
            f"steps draws the matrices of head {head}; got one of the shape {array.shape}."
        )
    return array
