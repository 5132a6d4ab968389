"""How all figures look, and how large: nothing of it reaches matplotlib's own settings."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from atento._errors import DTypeError, InputError
from atento._optional import require
from atento.views.figures.colours import INK, QUIET

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "HIGHEST",
    "SMALLEST",
    "WIDTHS",
    "as_inches",
    "check_axes",
    "describe",
    "description_of",
    "figure_of",
    "fit",
    "frame_of",
    "new_axes",
    "plain_text",
    "style",
]

WIDTHS = {"column": 3.3, "text": 6.9}
"""Inches: one column of a two-column paper, and the text of a page."""

HIGHEST = 9.0
"""Inches: what fits on a page above a caption."""

SMALLEST = 5.0
"""Points: smaller print is refused by most journals."""

MARGIN = 0.05
"""Inches left free at each edge."""

PLAIN: dict[str, Any] = {"text.parse_math": False, "text.usetex": False}
"""A token is text: ``$x$`` is three characters, and no TeX is run on it."""

STYLE: dict[str, Any] = {
    **PLAIN,
    "svg.fonttype": "none",
    "svg.hashsalt": "atento",
    "pdf.fonttype": 42,
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 7,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
    "text.color": INK,
    "axes.labelcolor": QUIET,
    "axes.edgecolor": QUIET,
    "axes.titlepad": 4,
    "axes.labelpad": 2.5,
    "axes.linewidth": 0.5,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.major.pad": 2,
    "ytick.major.pad": 2,
    "hatch.linewidth": 0.4,
    "path.simplify_threshold": 0.1,
    "text.hinting": "no_hinting",  # so that text is as wide at any resolution
}

LAST_RESORT = "Last Resort High-Efficiency"
"""Comes with matplotlib from 3.11 on: a box with the script's sign for every character there is."""

WIDE_FONTS = (
    "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans JP", "Noto Sans SC", "Noto Sans KR",
    "Hiragino Sans", "PingFang SC", "Apple SD Gothic Neo", "Yu Gothic", "Microsoft YaHei",
    "Malgun Gothic", "WenQuanYi Zen Hei", "Noto Sans Devanagari", "Noto Sans Bengali",
    "Noto Sans Tamil", "Noto Sans Thai", "Nirmala UI", "Kohinoor Devanagari", "Leelawadee UI",
    "Noto Sans Ethiopic", "Noto Emoji", "Noto Sans Symbols", "Noto Sans Symbols 2",
    "Segoe UI Symbol", "Apple Symbols", "Arial Unicode MS",
)  # fmt: skip
"""Fonts of scripts that DejaVu Sans has not; those installed are asked when it has no glyph."""


@contextmanager
def style() -> Iterator[None]:
    """Our style over the defaults, whatever the user has set, and all of it put back after."""
    mpl = require("matplotlib", "to draw figures")
    defaults = {k: v for k, v in mpl.rcParamsDefault.items() if not k.startswith("backend")}
    with mpl.rc_context({**defaults, **STYLE, "font.family": _families()}), _no_word_of_glyphs():
        yield


@contextmanager
def plain_text() -> Iterator[None]:
    """The user's settings, but for what would read tokens as formulas."""
    mpl = require("matplotlib", "to draw figures")
    with mpl.rc_context(PLAIN), _no_word_of_glyphs():
        yield


@contextmanager
def _no_word_of_glyphs() -> Iterator[None]:
    """No warning where no font has a character: its box can be seen."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .*missing from", UserWarning)
        yield


def _families() -> list[str]:
    from matplotlib.font_manager import fontManager

    known = set(fontManager.get_font_names())
    more = [name for name in (*WIDE_FONTS, LAST_RESORT) if name in known]
    return ["DejaVu Sans", *more, "sans-serif"]  # the last for whoever opens an SVG


def as_inches(width: str | float) -> float:
    """A width in inches: "column", "text" or a number.

    Raises:
        InputError: another word, or a number that no figure could have.

    >>> as_inches("column"), as_inches(5)
    (3.3, 5.0)
    """
    if isinstance(width, str) and width in WIDTHS:
        return WIDTHS[width]
    if isinstance(width, int | float) and not isinstance(width, bool) and 3 <= width <= 100:
        return float(width)
    named = ", ".join(f'"{name}" ({inches} in)' for name, inches in WIDTHS.items())
    raise InputError(f"width must be {named} or a number of inches from 3 to 100; got {width!r}.")


def check_axes(ax: Any) -> "Axes":
    """See that a picture can be drawn into these axes.

    Raises:
        DTypeError: they are no matplotlib Axes.
        InputError: they are polar or 3-D, or have been taken off their figure.
    """
    from matplotlib.axes import Axes

    if not isinstance(ax, Axes):
        came = "pyplot" if getattr(ax, "__name__", "") == "matplotlib.pyplot" else type(ax).__name__
        raise DTypeError(
            f"ax must be a matplotlib Axes, one of them; got {came}. With fig, ax = "
            "plt.subplots() it is the second of the two."
        )
    if ax.name != "rectilinear":
        raise InputError(f"ax must be plain axes; got {ax.name} ones. Make it without projection=.")
    if ax.figure is None or ax not in figure_of(ax).findobj(Axes):
        raise InputError(
            "ax is on no figure: it was removed, or its figure was cleared. Make new axes, or "
            "leave ax out."
        )
    return ax


def new_axes(width: float, frame: tuple[float, float]) -> "Axes":
    """Axes of a figure of their own, of no window system's; `fit` sizes them in the end.

    Args:
        width: of the figure, in inches.
        frame: width and height of the axes in it, as far as that can be told by now.
    """
    from atento.views.figures.described import Axes, Figure

    wide, high = frame
    figure = Figure(figsize=(width, high + 1), facecolor="white", dpi=200)
    share = wide / width, high / (high + 1)
    return figure.add_axes((1 - share[0], 0.5 / (high + 1), *share), axes_class=Axes)


def describe(ax: "Axes", told: str) -> None:
    """Let a figure that `new_axes` made know what it shows."""
    from atento.views.figures.described import Figure

    figure = figure_of(ax)
    if isinstance(figure, Figure):
        figure.description = told


def description_of(ax: "Axes") -> str:
    """What the figure of these axes shows; empty where nobody said."""
    return str(getattr(figure_of(ax), "description", ""))


def frame_of(ax: "Axes") -> tuple[float, float]:
    """Width and height of the axes in inches, as they are."""
    box = ax.get_window_extent()
    dpi = figure_of(ax).dpi
    return box.width / dpi, box.height / dpi


def figure_of(ax: "Axes") -> "Figure":
    """The whole figure, also where the axes stand in a part of it."""
    figure: Figure = ax.figure.canvas.figure
    return figure


def fit(ax: "Axes", width: float, height: Callable[[float], float], widest: float) -> None:
    """Give the figure its width, whatever the labels take, and the height that follows.

    Args:
        ax: the only axes of their figure; those inset in them go with them.
        width: of the figure, in inches.
        height: of the frame, for its width; both in inches.
        widest: of the frame, in inches; what is left over then is shared out to both sides.
    """
    figure = figure_of(ax)
    for _ in range(2):  # what stands outside the frame changes a little with it
        figure.draw_without_rendering()
        inner, outer = ax.get_window_extent(), ax.get_tightbbox()
        if outer is None:
            outer = inner
        left, right, below, above = (
            max(0.0, size) / figure.dpi + MARGIN
            for size in (
                inner.x0 - outer.x0,
                outer.x1 - inner.x1,
                inner.y0 - outer.y0,
                outer.y1 - inner.y1,
            )
        )
        wide = min(max(0.3, width - left - right), widest)
        left += max(0.0, width - left - wide - right) / 2
        high = height(wide)
        total = high + below + above
        figure.set_size_inches(width, total)
        ax.set_position((left / width, below / total, wide / width, high / total))
