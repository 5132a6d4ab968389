"""All heads as small maps: a row for each layer, a column for each head, each with its role."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.cells import cell_len

from atento.views.figures.colours import QUIET, ROLES, UNSEEN, weight_map
from atento.views.figures.descriptions import roles_counted
from atento.views.figures.head_map import above, check_pool, scale_of
from atento.views.figures.heads import Cells, Head
from atento.views.figures.labels import LETTER, shown
from atento.views.figures.pictures import colour_bar, mark_nan, smoothing
from atento.views.figures.style import HIGHEST, frame_of
from atento.views.words import Words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize

__all__ = ["HeadGrid", "head_grid"]

MOST_CELLS = 64
"""Cells a side of a small map."""

SIDE = 0.9
"""Of a column: the rest is the gap to the next."""

LARGEST_ROLE, SMALLEST_ROLE = 6.0, 4.5
"""Points. Where a role's name would be smaller, a legend has its colour."""

ROW = 1.15
"""Of a column: a map and its role at most, where they are small."""

WIDEST_COLUMN = 1.3
"""Inches."""


@dataclass(eq=False)
class HeadGrid:
    """Small maps of heads, ready to be drawn.

    Attributes:
        layers: the heads of each layer.
        cells: the weights of each.
        pool: "mean" or "max", of the weights of a cell.
        log: whether colours follow the logarithm of the weights.
        word: the reader's language.
    """

    layers: list[list[Head]]
    cells: list[list[Cells]]
    pool: str
    log: bool
    word: Words
    title: str = ""
    pad: float = 4.0

    @property
    def description(self) -> str:
        """How many layers and heads, and how many have each role."""
        heads = [head for layer in self.layers for head in layer]
        counts = {"layers": len(self.layers), "heads": len(heads)}
        told = self.word("figure.told.grid", **counts) + roles_counted(heads, self.word)
        return f"{self.title}. {told}" if self.title else told

    @property
    def widest(self) -> float:
        """A few heads need not fill the page, and many layers must not leave it."""
        highest = HIGHEST - 1
        return self.columns * min(WIDEST_COLUMN, highest / (len(self.layers) * ROW))

    @property
    def columns(self) -> int:
        """As many as the layer with the most heads has."""
        return max(map(len, self.layers))

    @property
    def numbered_alike(self) -> bool:
        """Whether the heads of a column have one number in all layers."""
        numbers = [[head.number for head in layer] for layer in self.layers]
        longest = max(numbers, key=len)
        return all(own == longest[: len(own)] for own in numbers)

    def frame(self, width: float) -> tuple[float, float]:
        """What layer names at the left and the colour bar leave."""
        names = max(cell_len(name) for name in self._layer_names()) * LETTER * 6.5 / 72
        wide = min(width - 0.95 - names, self.widest)
        return wide, self.height(wide)

    def height(self, width: float) -> float:
        """Small maps are square; under each stands its role."""
        return len(self.layers) * self._row(width) * width / self.columns

    def draw(self, ax: "Axes", frame: tuple[float, float]) -> None:
        """Maps, roles, numbers of heads and layers, colour bar."""
        row = self._row(frame[0])
        ax.set(xlim=(0, self.columns), ylim=(len(self.layers) * row, 0), facecolor="none")
        norm = scale_of([one.visible for layer in self.cells for one in layer], log=self.log)
        size = self._role_size(frame[0])
        for at, layer in enumerate(self.layers):
            for column, head in enumerate(layer):
                image = self._draw_head(ax, self.cells[at][column], column, at * row, norm)
                self._draw_role(ax, head, column, at * row, size)
        self._number(ax, row)
        if size is None:
            self._legend(ax, frame)
        whole = all(one.seen.all() for layer in self.cells for one in layer)
        colour_bar(ax, image, self._label(), frame, self.word, unseen=not whole, hatched=False)

    def _label(self) -> str:
        weight = self.word("figure.weight")
        pooled = any(one.sides != (1, 1) for layer in self.cells for one in layer)
        return f"{weight}, {self.word(f'figure.cell.{self.pool}')}" if pooled else weight

    def _draw_head(
        self, ax: "Axes", cells: Cells, column: int, top: float, norm: "Normalize"
    ) -> Any:
        from matplotlib.image import AxesImage
        from matplotlib.patches import Rectangle

        side = SIDE * frame_of(ax)[0] / self.columns
        high, wide = cells.weights.shape
        image = AxesImage(
            ax, cmap=weight_map(), norm=norm, origin="upper",
            interpolation=smoothing(side / wide, side / high),
            extent=(column, column + SIDE, top + SIDE, top),
        )  # fmt: skip
        image.set_data(np.ma.masked_invalid(above(norm, cells.visible)))
        corner = (column, top)
        ax.add_patch(Rectangle(corner, SIDE, SIDE, facecolor=UNSEEN, linewidth=0, zorder=-1))
        ax.add_image(image)
        mark_nan(ax, cells.seen & np.isnan(cells.weights), image.get_extent())
        return image

    def _draw_role(
        self, ax: "Axes", head: Head, column: int, top: float, size: float | None
    ) -> None:
        from matplotlib.patches import Rectangle

        colour = ROLES.get(head.role or "other", QUIET)
        edge = 1.0 if head.role and head.role != "other" else 0.5
        ax.add_patch(
            Rectangle((column, top), SIDE, SIDE, fill=False, edgecolor=colour, linewidth=edge)
        )
        name = self._caption(head)
        if name and size is not None:
            ax.text(
                column + SIDE / 2, top + SIDE + 0.03, name, fontsize=size, ha="center", va="top",
                color=QUIET if head.role == "other" else None,
            )  # fmt: skip

    def _caption(self, head: Head) -> str:
        role = ""
        if head.role is not None:
            role = self.word(f"figure.role.{head.role.replace(' ', '_')}")
        return role if self.numbered_alike else f"{head.number} {role}".strip()

    def _row(self, width: float) -> float:
        """The height of a row, in columns."""
        size = self._role_size(width)
        return 1.0 if size is None else SIDE + 1.5 * size / 72 * self.columns / width + 0.02

    def _role_size(self, width: float) -> float | None:
        """The size of the roles' names in points; None where there is no room, or no role."""
        names = [self._caption(head) for layer in self.layers for head in layer]
        longest = max(map(cell_len, names))
        if not longest:
            return None
        size = min(LARGEST_ROLE, 0.98 * width / self.columns * 72 / (longest * LETTER * 0.95))
        return size if size >= SMALLEST_ROLE or not self.numbered_alike else None

    def _layer_names(self) -> list[str]:
        return ["" if x[0].layer is None else shown(str(x[0].layer), 24) for x in self.layers]

    def _number(self, ax: "Axes", row: float) -> None:
        """The numbers of heads above, of layers at the left."""
        ax.set_yticks([at * row + SIDE / 2 for at in range(len(self.layers))], self._layer_names())
        if any(self._layer_names()):
            ax.set_ylabel(self.word("figure.layer"))
        ax.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
        if self.numbered_alike:
            longest = max(self.layers, key=len)
            places = [column + SIDE / 2 for column in range(self.columns)]
            ax.set_xticks(places, [str(head.number) for head in longest])
            ax.set_xlabel(self.word("figure.head"))
            ax.xaxis.set_label_position("top")
        else:
            ax.set_xticks([])
        for edge in ax.spines.values():
            edge.set_visible(False)

    def _legend(self, ax: "Axes", frame: tuple[float, float]) -> None:
        """The roles that there are, by colour."""
        from matplotlib.patches import Patch

        there = {head.role for layer in self.layers for head in layer}
        signs = [
            Patch(fill=False, edgecolor=ROLES[name],
                  label=self.word(f"role.{name.replace(' ', '_')}"))
            for name in ROLES if name in there
        ]  # fmt: skip
        if signs:
            columns = max(1, min(len(signs), int(frame[0] / 0.95)))
            ax.legend(
                handles=signs, loc="upper left", bbox_to_anchor=(0, -0.04 / frame[1]),
                ncols=columns, frameon=False, borderaxespad=0, handlelength=1.2, columnspacing=1.2,
            )  # fmt: skip


def head_grid(
    layers: list[list[Head]], word: Words, *, pool: str = "max", log: bool = False
) -> HeadGrid:
    """Small maps of these heads.

    Args:
        layers: the heads of each layer.
        word: the reader's language.
        pool: "max" or "mean", of the weights of a cell.
        log: whether colours follow the logarithm.

    Raises:
        InputError: no picture was kept of the weights.
    """
    check_pool(pool)
    cells = [[_small(head, pool) for head in layer] for layer in layers]
    return HeadGrid(layers, cells, pool, log, word)


def _small(head: Head, pool: str) -> Cells:
    queries, keys = head.source.lengths
    return head.source.cells(range(queries), range(keys), MOST_CELLS, pool)
