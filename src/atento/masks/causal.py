"""Causal: no query looks ahead."""

from atento._alignment import Align, check_align
from atento.masks.band import Band, aligned_offset
from atento.masks.mask import Mask, Tile

__all__ = ["Causal"]


class Causal(Mask):
    """Query i attends to the keys up to its own position: ``j <= i + offset``.

    Args:
        align: where query 0 stands when there are more or fewer queries than keys.
            ``"start"``: at key 0, so offset = 0 (PyTorch, JAX, Keras).
            ``"end"``: so that the last query stands at the last key, offset = Tk − Tq (decoding
            with a cache; MLX, x-transformers). Without it the lengths must be equal.

    Source: Vaswani et al. 2017, section 3.2.3.

    >>> Causal(align="end").dense(2, 4).astype(int)
    array([[1, 1, 1, 0],
           [1, 1, 1, 1]])
    """

    def __init__(self, align: Align = None) -> None:
        check_align("Causal", align)
        self.align = align

    def bind(self, shape: tuple[int, ...] | None) -> Mask:
        return Band(None, aligned_offset(self, self.align, shape), self)

    def aligned(self, align: Align) -> Mask:
        return Causal(self.align or align)

    def _evaluate(self, rows: range, cols: range) -> Tile:
        return self.bind(None).block(rows, cols)

    def __repr__(self) -> str:
        return f"Causal({'' if self.align is None else f'align={self.align!r}'})"
