"""Computed: what every engine leaves."""

from dataclasses import dataclass
from typing import Any

__all__ = ["Computed"]


@dataclass(eq=False, slots=True)  # not frozen: that would triple the time it takes to make one
class Computed:
    """What an engine leaves.

    Attributes:
        output: (..., Hq, Tq, dv).
        lse: (..., Hq, Tq), the logarithm of the softmax's denominator, sinks included; −∞ for
            a query that may see no key. None where it was not asked for.
        weights: (..., Hq, Tq, Tk); None where they were not asked for.
    """

    output: Any
    lse: Any = None
    weights: Any = None
