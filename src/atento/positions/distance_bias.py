"""DistanceBias: a bias that depends on nothing but the distance from query to key."""

from dataclasses import dataclass
from types import ModuleType
from typing import Any

from atento._errors import ShapeError
from atento.positions.checks import whole_number
from atento.positions.namespace import as_float_array, check_with_query, namespace_of

__all__ = ["DistanceBias"]


@dataclass(frozen=True, eq=False)
class DistanceBias:
    """A (..., query, key) bias held as one number per diagonal.

    ``bias[..., i, j] = values[..., j − i + Tq − 1]``

    Tq + Tk − 1 numbers a head say all Tq × Tk; an engine that works block by block asks for one
    `tile` at a time, so that a T×T array never has to exist.

    Args:
        values: (..., n) with n = Tq + Tk − 1 (0 without any queries and keys), of any array
            library: the diagonals from key 0 under the last query to the last key over query 0.
            The axes before broadcast to the weights' (batch, head).
        lengths: (Tq, Tk).

    Raises:
        DTypeError: when the values are no floating-point numbers.
        ShapeError: when there are more or fewer values than diagonals.

    >>> DistanceBias([-2.0, -1.0, 0.0, 5.0], (3, 2)).dense()
    array([[ 0.,  5.],
           [-1.,  0.],
           [-2., -1.]])
    """

    values: Any
    lengths: tuple[int, int]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", as_float_array("DistanceBias: values", self.values))
        if len(self.lengths) != 2:
            raise ShapeError(f"DistanceBias: lengths must be (Tq, Tk); got {self.lengths!r}.")
        Tq, Tk = (whole_number("DistanceBias: each of the lengths", T, 0) for T in self.lengths)
        n = Tq + Tk - 1 if Tq or Tk else 0
        if self.values.ndim < 1 or self.values.shape[-1] != n:
            raise ShapeError(
                f"DistanceBias: {Tq} queries and {Tk} keys stand {n} different distances apart "
                f"(Tq + Tk − 1), and the last axis of values holds one number for each; got "
                f"values {tuple(self.values.shape)}."
            )

    def bind(
        self, shape: tuple[int, ...], xp: ModuleType, device: Any, dtype: Any
    ) -> "DistanceBias":
        """The same bias in this dtype, for weights of this shape (..., head, query, key).

        Raises:
            ShapeError: when it is for other lengths, or its leading axes do not broadcast.
            DTypeError: when the values are of another library, or on another device.
        """
        own, leading = tuple(self.values.shape[:-1]), shape[:-2]
        fits = len(own) <= len(leading) and all(
            size in (1, other) for size, other in zip(own[::-1], leading[::-1], strict=False)
        )
        if tuple(self.lengths) != tuple(shape[-2:]) or not fits:
            raise ShapeError(
                f"{self!r} does not fit weights of shape {tuple(shape)}: lengths must be "
                f"{tuple(shape[-2:])}, and the axes of values before the last broadcast to "
                f"{tuple(leading)}."
            )
        check_with_query("DistanceBias: values", self.values, xp, device)
        if self.values.dtype == dtype:
            return self
        return DistanceBias(xp.astype(self.values, dtype), self.lengths)

    def tile(self, rows: range, cols: range) -> Any:
        """The bias of one block: (..., len(rows), len(cols)), in memory of that order.

        Args:
            rows: the queries of the block.
            cols: the keys of the block.

        >>> DistanceBias([-2.0, -1.0, 0.0, 5.0], (3, 2)).tile(range(1, 3), range(1))
        array([[-1.],
               [-2.]])
        """
        Tq, Tk = self.lengths
        for name, span, T in (("rows", rows, Tq), ("cols", cols, Tk)):
            if not isinstance(span, range) or span.step != 1 or span.start < 0 or span.stop > T:
                raise ShapeError(
                    f"{name} must be consecutive positions of 0…{T - 1}, as a range; got {span!r}."
                )
        return self._block(rows.start, len(rows), cols.start, len(cols))

    def dense(self) -> Any:
        """The whole bias: (..., Tq, Tk)."""
        Tq, Tk = self.lengths
        return self._block(0, Tq, 0, Tk)

    def _block(self, row: int, R: int, col: int, C: int) -> Any:
        """The R × C block that begins at (row, col).

        Copying (no index arrays, and a backward pass that is a sum): the block's R + C − 1 values
        v and one more are repeated R times end to end, and read again in rows one shorter. Each
        row then begins one value earlier than the row above it::

            v0 v1 v2 v3 __ v0 v1 v2 v3 __ v0 v1 …      R = 2, C = 3: start at R − 1 = 1
               [v1 v2 v3 __] [v0 v1 v2 v3]             of each row, the first C
        """
        xp, v = namespace_of(self.values), self.values
        leading = tuple(v.shape[:-1])
        if not R or not C:
            return xp.zeros((*leading, R, C), dtype=v.dtype, device=v.device)
        first = col - (row + R - 1) + self.lengths[0] - 1
        v = v[..., first : first + R + C - 1]
        v = xp.expand_dims(xp.concat([v, v[..., :1]], axis=-1), axis=-2)
        flat = xp.reshape(xp.broadcast_to(v, (*leading, R, R + C)), (*leading, R * (R + C)))
        width = R + C - 1
        flat = flat[..., R - 1 : R - 1 + R * width]
        return xp.reshape(flat, (*leading, R, width))[..., :C]

    def __repr__(self) -> str:
        return f"DistanceBias(values {tuple(self.values.shape)}, lengths={self.lengths})"
