"""How the numbers of one matrix are written: alike, and as long as there is room for."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from atento.views.words import Words

__all__ = ["number_format", "short_number"]

DECIMALS = (4, 3, 2)


def number_format(
    values: NDArray[np.floating], columns: int, room: int, word: Words
) -> tuple[Callable[[float], str], int]:
    """How to write the numbers of a matrix: a function, and the widest text it makes for them.

    Takes as many decimals, at most four, as leave room for all columns; two if none do. A matrix
    with very large or only very small numbers is written with exponents.
    """
    finite = np.abs(values[np.isfinite(values)])
    largest = float(finite.max()) if finite.size else 0.0
    if largest >= 1e5 or 0 < largest < 1e-3:
        write = _writer("{:.1e}", word)
        return write, _widest(write, values)
    # with fixed decimals the extremes are the longest; thousands of numbers need not be written
    signed = values[np.isfinite(values)]
    ends = [signed.min(), signed.max()] if signed.size else []
    extremes = np.array([*ends, *values[~np.isfinite(values)]])
    for decimals in DECIMALS:
        write = _writer(f"{{:.{decimals}f}}", word)
        widest = _widest(write, extremes)
        if columns * (widest + 1) <= room:
            break
    return write, widest


def short_number(value: float, word: Words) -> str:
    """One number in running text, with four decimals or an exponent."""
    size = abs(value)
    exponent = np.isfinite(value) and (size >= 1e5 or 0 < size < 1e-3)
    return _writer("{:.2e}" if exponent else "{:.4f}", word)(value)


def _writer(form: str, word: Words) -> Callable[[float], str]:
    def write(value: float) -> str:
        if np.isnan(value):
            return "NaN"
        if np.isinf(value):
            return "∞" if value > 0 else "-∞"
        text = word.number(form.format(value))
        # rounding can leave a minus before nothing: -0.00
        return text.lstrip("-") if not text.strip("-0.,") else text

    return write


def _widest(write: Callable[[float], str], values: NDArray[np.floating]) -> int:
    return max(len(write(float(value))) for value in values.flat)
