"""What the bias rules share: the distances between tokens, and the heads of the weights."""

from types import ModuleType
from typing import Any

from atento._errors import ShapeError

__all__ = ["distances", "per_head"]


def distances(xp: ModuleType, device: Any, dtype: Any, Tq: int, Tk: int, offset: int) -> Any:
    """Key − query along the diagonals of a Tq × Tk bias, ascending: (Tq + Tk − 1,).

    In ``dtype``, but never in a half precision: bfloat16 counts to 256. None: whole numbers.
    ``offset`` is the key position under query 0.
    """
    n = Tq + Tk - 1 if Tq or Tk else 0
    steps = xp.arange(n, dtype=xp.int64, device=device) - (Tq - 1 + offset)
    if dtype is None:
        return steps
    return xp.astype(steps, xp.float32 if xp.finfo(dtype).bits < 32 else dtype)


def per_head(
    rule: object,
    values: Any,
    num_heads: int,
    shape: tuple[int, ...],
    xp: ModuleType,
    dtype: Any,
) -> Any:
    """The values (head, distance) in this dtype, after a check that the weights have those heads.

    Weights without a head axis take a rule of one head.
    """
    heads = shape[-3] if len(shape) > 2 else 1
    if heads != num_heads:
        raise ShapeError(
            f"{rule!r} is for {num_heads} heads, and there are {heads} query heads (weights are "
            f"{tuple(shape)}): make one for {heads} heads."
        )
    values = values if values.dtype == dtype else xp.astype(values, dtype)
    return values if len(shape) > 2 else values[0, :]
