"""Tokens beside a picture: readable, short, and never anything but text."""

import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len

from atento._errors import InputError
from atento.views.figures.style import SMALLEST
from atento.views.terminal_text import fit, named, visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["label_axis", "label_size", "label_width", "mark_positions", "short", "shown"]

LARGEST = 7.5
"""Points."""

LINE = 1.15
"""Lines of text need so many times the size of their letters."""

LETTER = 0.6
"""The mean width of a letter, in sizes."""

MARKS = 2
"""No script needs many more over one letter, and a hundred would stand over other rows."""

CELLS = 14
"""Columns of a token at most; a Chinese character has two."""


def short(token: str, cells: int = CELLS) -> str:
    r"""A token as a label of one line.

    >>> short(" journey"), short("a\nb"), short("x" * 10_000)
    ('journey', 'a␊b', 'xxxxxxxxxxxxx…')
    """
    return fit(_few_marks(named(token[: 32 * cells])), cells)


def _few_marks(text: str) -> str:
    """At most two marks over or under a letter; where there were more, … tells so."""
    kept, marks = [], 0
    for character in text:
        marks = marks + 1 if unicodedata.category(character) in ("Mn", "Me") else 0
        if marks <= MARKS:
            kept.append(character)
        elif marks == MARKS + 1:
            kept.append("…")
    return "".join(kept)


def shown(text: str, cells: int = 60) -> str:
    """A name from elsewhere, for a title: visible, on one line."""
    return short(text, cells) if text else visible(text)


def label_width(names: Sequence[str], size: float) -> float:
    """About how many inches the longest of these labels needs."""
    return max(map(cell_len, names), default=0) * LETTER * size / 72


def label_size(count: int, length: float) -> float | None:
    """The size of so many labels side by side, in points; None where they would be too small.

    Args:
        count: how many.
        length: of the axis, in inches.

    >>> label_size(6, 2.0), label_size(512, 2.0)
    (7.5, None)
    """
    size = min(LARGEST, 72 * length / (max(count, 1) * LINE))
    return size if size >= SMALLEST else None


def check_labels(count: int, length: float, what: str) -> None:
    """Refuse labels that were asked for where they cannot be read.

    Raises:
        InputError: how many there is room for.
    """
    if label_size(count, length) is None:
        most = int(72 * length / (SMALLEST * LINE))
        raise InputError(
            f"{count} {what} don't fit as labels beside {length:.1f} inches: there is room for "
            f"{most}. Choose fewer with rows= and cols=, a larger width=, or leave labels out."
        )


def label_axis(
    ax: "Axes", axis: str, names: Sequence[str], size: float, *, upright: bool = True
) -> None:
    """Put tokens along the cells of an axis.

    Args:
        ax: where cell i stands at i.
        axis: "x" or "y".
        names: a label for each cell, as `short` makes them.
        size: in points.
        upright: along x, turn the labels by 90°.
    """
    one = ax.xaxis if axis == "x" else ax.yaxis
    labels = one.set_ticks(range(len(names)), list(names), fontsize=size)
    one.set_tick_params(length=0)
    for tick in labels:
        tick.label1.set_parse_math(False)
        tick.label1.set_usetex(False)
        if axis == "x" and upright:
            tick.label1.set_rotation(90)


def mark_positions(ax: "Axes", axis: str, first: int, count: int, step: int) -> None:
    """Number some places along an axis of cells, from 0 on.

    Args:
        ax: where cell i stands at i.
        axis: "x" or "y".
        first: the position of the first token of cell 0.
        count: how many cells.
        step: tokens of a cell.
    """
    from matplotlib.ticker import MaxNLocator

    one = ax.xaxis if axis == "x" else ax.yaxis
    last = first + (count - 1) * step
    places = MaxNLocator(5, steps=[1, 2, 4, 5, 10], integer=True).tick_values(first, last)
    inside = [int(place) for place in places if first <= place <= last]
    # the middle of a cell is at a whole number, and its first token half a cell before that
    at = [(place - first + 0.5) / step - 0.5 for place in inside]
    one.set_ticks(at, [str(place) for place in inside])
