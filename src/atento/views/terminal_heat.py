"""The colour behind a number: orange for plus, blue for minus, none near zero.

Foreground and background are set together, so a cell reads the same in a light and in a dark
terminal; the numbers stand in the cells, so nothing is lost where there is no colour.
"""

import math

from rich.style import Style

__all__ = ["heat"]

# From faint to strong, each dark enough for white text (contrast of at least 4.5 : 1).
PLUS = ("#7d6b5d", "#8f5f36", "#a05216", "#ad4300", "#b81d00")
MINUS = ("#5f6f80", "#446a99", "#2a62ac", "#0f55b8", "#0038c0")
NONE_BELOW = 0.15


def heat(value: float, largest: float, *, root: bool = False) -> Style:
    """The style of one cell.

    Args:
        value: the number in it.
        largest: the largest size among the numbers it is compared with.
        root: compare square roots, which tells small shares apart.
    """
    if not (math.isfinite(value) and largest > 0 and math.isfinite(largest)):
        return Style.null()
    size = min(abs(value) / largest, 1.0)
    if root:
        size = math.sqrt(size)
    if size < NONE_BELOW:
        return Style.null()
    ramp = PLUS if value > 0 else MINUS
    level = int((size - NONE_BELOW) / (1 - NONE_BELOW) * len(ramp))
    return Style(color="#ffffff", bgcolor=ramp[min(level, len(ramp) - 1)])
