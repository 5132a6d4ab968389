"""Window: only keys nearby."""

from atento._alignment import Align, check_align
from atento._errors import InputError
from atento.masks.band import Band, aligned_offset
from atento.masks.mask import Mask, Tile

__all__ = ["Window"]


class Window(Mask):
    """Query i attends to the keys from ``left`` before to ``right`` after its own position.

    ``i + offset − left <= j <= i + offset + right``, the query's own position included.

    Args:
        left, right: how many keys to each side; None: no limit on that side.
        align: as in `Causal`.

    Source: Beltagy et al. 2020 (arXiv 2004.05150), section 3.1.

    >>> Window(left=1, right=0).dense(3, 3).astype(int)
    array([[1, 0, 0],
           [1, 1, 0],
           [0, 1, 1]])
    """

    def __init__(
        self, left: int | None = None, right: int | None = None, align: Align = None
    ) -> None:
        for side, size in (("left", left), ("right", right)):
            if size is not None and (
                isinstance(size, bool) or not hasattr(size, "__index__") or size < 0
            ):
                raise InputError(
                    f"Window: {side} must be a whole number from 0 on, or None for no limit; "
                    f"got {size!r}."
                )
        check_align("Window", align)
        self.left = None if left is None else int(left)
        self.right = None if right is None else int(right)
        self.align = align

    def bind(self, shape: tuple[int, ...] | None) -> Mask:
        offset = aligned_offset(self, self.align, shape)
        first = None if self.left is None else offset - self.left
        last = None if self.right is None else offset + self.right
        return Band(first, last, self)

    def aligned(self, align: Align) -> Mask:
        return Window(self.left, self.right, self.align or align)

    def _evaluate(self, rows: range, cols: range) -> Tile:
        return self.bind(None).block(rows, cols)

    def __repr__(self) -> str:
        said = [
            f"{name}={size!r}"
            for name, size in (("left", self.left), ("right", self.right), ("align", self.align))
            if size is not None
        ]
        return f"Window({', '.join(said)})"
