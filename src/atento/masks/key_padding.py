"""KeyPadding: keys that are no tokens."""

from typing import Any

from atento._errors import ShapeError
from atento.masks.explicit import Explicit, as_bool_array
from atento.masks.mask import Mask, Tile, broadcast_leading

__all__ = ["KeyPadding"]


class KeyPadding(Mask):
    """Every query attends to the keys that are real tokens.

    Args:
        keep: (batch, key) or (key,) bool, True = a real token. (`nn.MultiheadAttention`'s
            ``key_padding_mask`` is the opposite: pass ``~key_padding_mask``.)

    >>> KeyPadding([True, True, False]).dense(2, 3).astype(int)
    array([[1, 1, 0],
           [1, 1, 0]])
    """

    def __init__(self, keep: Any) -> None:
        self.keep = as_bool_array("KeyPadding: keep", keep)
        if self.keep.ndim < 1:
            raise ShapeError("KeyPadding: keep has the axes (batch, key); got a single bool.")

    @property
    def leading(self) -> tuple[int, ...]:
        batch = tuple(self.keep.shape[:-1])
        return (*batch, 1) if batch else ()

    def bind(self, shape: tuple[int, ...] | None) -> Mask:
        if shape is not None:
            if self.keep.shape[-1] != shape[-1]:
                raise ShapeError(
                    f"KeyPadding: keep has shape {tuple(self.keep.shape)} for "
                    f"{self.keep.shape[-1]} keys, and there are {shape[-1]} keys."
                )
            broadcast_leading(
                "KeyPadding",
                self.leading,
                shape,
                "keep (batch, key) goes with queries (batch, head, query, feature).",
            )
        # (batch, key) -> (batch, head, query, key)
        return Explicit(self.keep.reshape(*self.leading, 1, self.keep.shape[-1])).bind(shape)

    def _evaluate(self, rows: range, cols: range) -> Tile:
        return self.bind(None).block(rows, cols)

    def __repr__(self) -> str:
        return f"KeyPadding(shape={tuple(self.keep.shape)})"
