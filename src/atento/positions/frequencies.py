"""Frequencies: one angular speed for each pair of features, in geometric progression."""

from types import ModuleType
from typing import Any

__all__ = ["exponents", "plain_frequencies"]


def exponents(xp: ModuleType, device: Any, dtype: Any, d: int) -> Any:
    """``2 i / d`` for each pair i of d features."""
    return xp.astype(xp.arange(0, d, 2, dtype=xp.int64, device=device), dtype) / d


def plain_frequencies(base: Any, powers: Any) -> Any:
    """``1 / base^(2 i / d)``, rounded at the same steps as in `transformers`."""
    frequencies: Any = 1.0 / base**powers
    return frequencies
