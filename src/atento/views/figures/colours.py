"""Colours that are told apart with any colour vision, and in grey where they say how much.

Weights go from near white to dark blue, signed numbers from dark orange over near white to dark
blue: the stops are those of the page (`assets/colours.js`). What is not a number is black. Heads
that are drawn together have colours of Okabe and Ito (2008) and a dark brown, in the order in which
neighbours stay furthest apart for protanopes, deuteranopes and tritanopes alike; the tests simulate
all three.
"""

from functools import cache
from typing import TYPE_CHECKING

from atento._optional import require

if TYPE_CHECKING:
    from matplotlib.colors import Colormap

__all__ = [
    "BLUE",
    "HEADS",
    "INK",
    "NAN",
    "ORANGE",
    "QUIET",
    "ROLES",
    "UNSEEN",
    "signed_map",
    "weight_map",
]

BLUE = ("#fafbfd", "#cbdef2", "#78acda", "#2d70b2", "#0c376e")
ORANGE = ("#fafbfd", "#fadcbe", "#f0a664", "#cd641c", "#7d3406")
HEADS = ("#0072b2", "#d55e00", "#333333", "#cc79a7", "#661100", "#56b4e9", "#e69f00", "#009e73")
INK, QUIET, UNSEEN, NAN = "#222222", "#666666", "#dddddd", "#000000"

ROLES = {
    "induction": "#d55e00",
    "duplicate": "#e69f00",
    "previous token": "#0072b2",
    "diagonal": "#56b4e9",
    "sink": "#333333",
    "positional": "#009e73",
    "uniform": "#cc79a7",
    "other": "#bbbbbb",
}
"""A colour for each role, in the order of `reading.roles.ROLES`."""


@cache
def weight_map() -> "Colormap":
    """From 0, near white, to the largest weight; a place that may not be seen is left out."""
    return _blended("atento.weights", BLUE)


@cache
def signed_map() -> "Colormap":
    """Blue for plus, orange for minus, near white for 0."""
    return _blended("atento.signed", (*reversed(ORANGE), *BLUE[1:]))


def _blended(name: str, stops: tuple[str, ...]) -> "Colormap":
    colors = require("matplotlib.colors", "to draw figures")
    made: Colormap = colors.LinearSegmentedColormap.from_list(name, stops, N=511)
    return made.with_extremes(bad=(0, 0, 0, 0))
