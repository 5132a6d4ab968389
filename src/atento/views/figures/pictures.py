"""What every picture can do, and what several of them draw alike."""

import math
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from atento.views.figures.colours import NAN, QUIET, UNSEEN
from atento.views.figures.heads import Cells, Head
from atento.views.figures.labels import LETTER, label_width, shown
from atento.views.figures.style import frame_of
from atento.views.words import Words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap, Normalize
    from matplotlib.ticker import Formatter

__all__ = [
    "DOTS",
    "Picture",
    "colour_bar",
    "draw_matrix",
    "mark_nan",
    "number_formatter",
    "show_unseen",
    "side_of",
    "smoothing",
    "title_of",
    "written",
]

RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

BAR_WIDTH, BAR_GAP = 0.07, 0.08
"""Inches."""

BELOW = 0.3
"""Inches between the bar's end and that of the sign for places that may not be seen."""

DOTS = 300
"""To the inch, in print."""

DRAWN = 5.0
"""Points: cells at least so high and wide are drawn as shapes with edges."""

LONGEST_BAR = 1.3
"""Inches: a colour bar need not be as long as a large map."""


class Picture(Protocol):
    """Data that are ready to be drawn."""

    @property
    def title(self) -> str:
        """What stands above it; empty for nothing."""

    @property
    def description(self) -> str:
        """What it shows, in a sentence or two, for those who cannot see it."""

    @property
    def pad(self) -> float:
        """Points between the frame and the title."""

    @property
    def widest(self) -> float:
        """Inches that the frame need not exceed."""

    def frame(self, width: float) -> tuple[float, float]:
        """About how wide and high its axes are in a figure of that width; all in inches."""

    def height(self, width: float) -> float:
        """How high axes of that width are; both in inches."""

    def draw(self, ax: "Axes", frame: tuple[float, float]) -> None:
        """Draw it into axes of about that width and height in inches."""


def title_of(head: Head, word: Words, *, role: bool = True) -> str:
    """What a head is called above its picture."""
    if head.layer is None:
        title = word("figure.title.head", head=head.number)
    elif isinstance(head.layer, str):
        title = word("figure.title.layer", name=shown(head.layer, 40), head=head.number)
    else:
        title = word("figure.title", layer=head.layer, head=head.number)
    if role and head.role not in (None, "other"):
        named = word(f"role.{str(head.role).replace(' ', '_')}")
        title = word("figure.title.role", title=title, role=named)
    return title


def side_of(cells: Cells, pool: str, word: Words) -> str:
    """What the colours mean: weights, or what of the weights of a cell."""
    if cells.sides == (1, 1):
        return word("figure.weight")
    side = " × ".join(str(size) for size in cells.sides)
    pooled = word(f"figure.pool.{pool}", side=side)
    return f"{word('figure.weight')}, {pooled}"


def colour_bar(
    ax: "Axes",
    shown: Any,
    label: str,
    frame: tuple[float, float],
    word: Words,
    *,
    unseen: bool,
    hatched: bool = True,
) -> None:
    """A colour bar at the right edge of the axes, no longer than it needs to be.

    Args:
        ax: the axes.
        shown: what has the colours.
        label: what they mean.
        frame: width and height of the axes in inches.
        word: the reader's language.
        unseen: whether there are places that may not be seen.
        hatched: whether these are hatched, or else grey.
    """
    wide, high = frame
    below = BELOW if unseen else 0.0
    length = max(min(LONGEST_BAR, high - below), 0.25)
    left = 1 + BAR_GAP / wide
    beside = ax.inset_axes((left, 1 - length / high, BAR_WIDTH / wide, length / high))
    bar = ax.figure.colorbar(shown, cax=beside)
    if len(label) * LETTER * 7 / 72 > high:
        label = label.replace(", ", ",\n")
    longest = max(map(len, label.split("\n"))) * LETTER * 7 / 72
    past = label_width([word("figure.unseen")], 6) * 72 if unseen and longest > length else 0.0
    bar.set_label(label, color=QUIET, labelpad=2.5 + past / 2)
    bar.outline.set_visible(False)
    beside.tick_params(length=2)
    bar.minorticks_off()
    places = _bar_ticks(shown.norm, length)
    bar.set_ticks(places, labels=[written(place, word) for place in places])
    if unseen:
        bottom = 1 - (length + below) / high
        swatch = ax.inset_axes((left, bottom, BAR_WIDTH / wide, 2 * BAR_WIDTH / high))
        if hatched:
            show_unseen(swatch)
        else:
            swatch.set_facecolor(UNSEEN)
        swatch.set(xticks=[], yticks=[])
        for edge in swatch.spines.values():
            edge.set(color=UNSEEN, linewidth=0.5)
        name = word("figure.unseen")
        swatch.text(1.6, 0.5, name, va="center", fontsize=6, transform=swatch.transAxes)


def _bar_ticks(norm: "Normalize", length: float) -> list[float]:
    """Where numbers stand along a bar of so many inches: as many as there is room for."""
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import LogLocator, MaxNLocator

    low, high = norm.vmin or 0.0, norm.vmax or 1.0
    most = max(2, min(6, int(length / 0.2)))
    powers = isinstance(norm, LogNorm) and high >= 10 * low
    locator = LogLocator(numticks=most) if powers else MaxNLocator(most)
    inside = [place for place in locator.tick_values(low, high) if low <= place <= high]
    return inside[:: -(-len(inside) // most)] if inside else [high]


def smoothing(across: float, down: float) -> str:
    """How a picture's cells of so many inches meet the dots of print.

    Cells of a dot or two would be of uneven size, which shows as a pattern that is not there:
    these are smoothed. Larger ones keep their edges.
    """
    return "antialiased" if max(across, down) * DOTS < 3 else "nearest"


def mark_nan(ax: "Axes", where: Any, extent: tuple[float, float, float, float]) -> None:
    """Colour the cells that are not a number: a NaN is not hidden, and is no weight of 0."""
    if not where.any():
        return
    from matplotlib.colors import ListedColormap
    from matplotlib.image import AxesImage

    image = AxesImage(
        ax, cmap=ListedColormap([NAN]), interpolation="nearest", origin="upper", extent=extent
    )
    image.set_data(np.ma.masked_where(~where, np.ones(where.shape)))
    image.set_zorder(3)
    ax.add_image(image)


def number_formatter(word: Words) -> "Formatter":
    """Numbers of an axis as text, never as formulas: 0.05, 10⁻⁵; with the language's decimals."""
    from matplotlib.ticker import FuncFormatter

    return FuncFormatter(lambda number, _: written(number, word))


def written(number: float, word: Words) -> str:
    """A short number; powers of ten that are far from 1 as such.

    >>> from atento.views.figures.words import figure_words
    >>> [written(number, figure_words("es")) for number in (0.25, -3.0, 1e-5, 2e-5)]
    ['0,25', '−3', '10⁻⁵', '2·10⁻⁵']
    """
    if number == 0 or 1e-3 < abs(number) < 1e5 or not math.isfinite(number):
        return word.number(f"{number:.4g}".replace("-", "−"))
    factor, power = f"{number:.1e}".split("e")
    raised = str(int(power)).translate(RAISED)
    factor = word.number(factor.removesuffix(".0").replace("-", "−"))
    return f"10{raised}" if factor == "1" else f"{factor}·10{raised}"


def show_unseen(ax: "Axes") -> None:
    """Hatch what is behind the cells: places that may not be seen have none."""
    ax.patch.set(facecolor="white", edgecolor=UNSEEN, hatch="////////", linewidth=0)


def draw_matrix(
    ax: "Axes", values: Any, colours: "Colormap", norm: "Normalize", seen: Any = None
) -> Any:
    """A cell for each number, row 0 at the top; what may not be seen is left out, NaN is marked.

    Large cells are drawn as shapes with edges, which stay sharp at any size; small ones are one
    picture.
    """
    high, wide = values.shape
    seen = np.ones(values.shape, bool) if seen is None else seen
    cells = np.ma.masked_where(~seen | np.isnan(values), values)
    mark_nan(ax, seen & np.isnan(values), (-0.5, wide - 0.5, high - 0.5, -0.5))
    across, down = frame_of(ax)
    if 72 * min(across / wide, down / high) < DRAWN:
        smooth = smoothing(across / wide, down / high)
        return ax.imshow(cells, cmap=colours, norm=norm, interpolation=smooth, aspect="auto")
    edges = np.arange(wide + 1) - 0.5, np.arange(high + 1) - 0.5
    drawn = ax.pcolormesh(*edges, cells, cmap=colours, norm=norm, edgecolors="white", linewidth=0.3)
    ax.set(xlim=(-0.5, wide - 0.5), ylim=(high - 0.5, -0.5))
    return drawn
