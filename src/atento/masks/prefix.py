"""Prefix: a beginning that everybody sees."""

from typing import Any

import numpy as np

from atento._errors import InputError
from atento.masks.mask import ALL, NONE, Mask, Tile

__all__ = ["Prefix"]


class Prefix(Mask):
    """Every query attends to the first n keys: ``j < n``. ``Causal() | Prefix(n)`` is a prefix LM.

    Args:
        n: how many keys, from the first on.

    Source: Raffel et al. 2019 (arXiv 1910.10683), section 3.2.1.

    >>> from atento.masks import Causal
    >>> (Causal() | Prefix(2)).dense(3, 3).astype(int)
    array([[1, 1, 0],
           [1, 1, 0],
           [1, 1, 1]])
    """

    def __init__(self, n: int) -> None:
        if isinstance(n, bool) or not hasattr(n, "__index__") or n < 0:
            raise InputError(f"Prefix: n must be a whole number from 0 on; got {n!r}.")
        self.n = int(n)

    def bind(self, shape: tuple[int, ...] | None) -> Mask:
        del shape
        return self

    def _evaluate(self, rows: range, cols: range) -> Tile:
        del rows
        if cols.stop <= self.n:
            return ALL
        if cols.start >= self.n:
            return NONE
        return (np.arange(cols.start, cols.stop) < self.n)[None, :]

    def pairs(self, lengths: tuple[int, int], xp: Any, device: Any) -> Any:
        return (xp.arange(lengths[1], device=device) < self.n)[None, :]

    def __repr__(self) -> str:
        return f"Prefix({self.n})"
