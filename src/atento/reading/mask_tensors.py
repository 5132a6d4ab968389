"""What a mask tensor of a model says: a rule, and what is added to the scores besides."""

from typing import Any

import numpy as np
import torch

from atento._arrays import to_numpy
from atento.masks import Causal, Explicit, KeyPadding, Mask
from atento.reading.watching import KnownMask, Watch

__all__ = ["as_numpy", "both", "copied", "first_query_of", "read_mask"]


def read_mask(
    watch: Watch, mask: torch.Tensor | None, keys: int | None = None
) -> tuple[Mask | None, torch.Tensor | None, int | None]:
    """The rule, the bias and the position of query 0 (where known) of a mask tensor.

    A bool tensor says True = attends. A tensor of numbers is added to the scores: −inf and numbers
    down to half of the lowest one of its dtype hide a key; where all others are 0, the mask is a
    rule and no bias is left.

    Args:
        watch: knows the tensors that transformers has made.
        mask: broadcasts to (batch, head, query, key).
        keys: how many of the keys count, where the mask has more.
    """
    if mask is None:
        return None, None, None
    known: KnownMask | None = watch.masks.get(mask)
    if known is not None and (keys is None or keys == mask.shape[-1]):
        return known.rule, None, known.first_query
    found = watch.readings.get(mask)
    if found is None or found[0] != mask._version:  # new, or written to since
        found = watch.readings[mask] = (mask._version, *_read(mask))
    return found[1], found[2], None


def _read(mask: torch.Tensor) -> tuple[Mask | None, torch.Tensor | None]:
    mask = mask.detach()
    if mask.dtype == torch.bool:
        return _rule(mask), None
    hidden = mask <= torch.finfo(mask.dtype).min / 2
    bias = mask.masked_fill(hidden, 0)
    return (_rule(~hidden) if hidden.any() else None), (bias if bias.any() else None)


def _rule(seen: torch.Tensor) -> Mask | None:
    """The rule of a dense bool tensor: one that holds no matrix where it is one of those."""
    if bool(seen.all()):
        return None
    seen = seen.reshape((1,) * (4 - seen.ndim) + tuple(seen.shape))
    for axis in range(3):  # batch, head, query
        first = seen.narrow(axis, 0, 1)
        if seen.shape[axis] > 1 and bool((seen == first).all()):
            seen = first
    array = to_numpy(seen).copy()
    if array.shape[1:3] == (1, 1):  # (batch, 1, 1, key)
        return KeyPadding(array[:, 0, 0])
    causal = _causal_rule(array)
    return Explicit(array) if causal is None else causal


def _causal_rule(array: Any) -> Mask | None:
    """`Causal`, and `KeyPadding` besides, where each row says so; None otherwise."""
    heads, Tq, Tk = array.shape[1:]
    if heads > 1 or Tq > Tk:
        return None
    keep = array[:, 0, -1]
    for i in range(Tq):
        stop = Tk - Tq + i + 1
        row = array[:, 0, i]
        if row[:, stop:].any() or (row[:, :stop] != keep[:, :stop]).any():
            return None
    causal = Causal() if Tq == Tk else Causal(align="end")
    return causal if keep.all() else causal & KeyPadding(keep)


def both(first: Mask | None, second: Mask | None) -> Mask | None:
    """Attends where both rules allow it; None stands for everybody sees everybody."""
    if first is None or second is None:
        return first if second is None else second
    return first & second


def first_query_of(kind: str, queries: int, keys: int) -> int:
    """Where query 0 stands when nothing says it: the last query stands at the last key."""
    return max(keys - queries, 0) if kind == "self" else 0


def copied(watch: Watch, tensor: torch.Tensor) -> Any:
    """A NumPy copy in float32 or float64, made once for all layers that share the tensor."""
    found = watch.copies.get(tensor)
    if found is None or found[0] != tensor._version:
        found = watch.copies[tensor] = (tensor._version, as_numpy(tensor))
    return found[1]


def as_numpy(tensor: torch.Tensor) -> Any:
    """A copy; half precision becomes float32."""
    tensor = tensor.detach()
    if tensor.dtype not in (torch.float32, torch.float64):
        tensor = tensor.float()
    return np.array(to_numpy(tensor), order="C")
