"""One layout for all requests, and the parts of one that a single mask serves."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite, prod
from typing import Any

import numpy as np
import torch

from atento.equation.request import Request
from atento.masks import Mask
from atento.masks.mask import BoolArray

__all__ = ["Part", "four_axes", "may_be_spoilt", "ones_where", "parts", "penalty"]


def four_axes(array: torch.Tensor) -> torch.Tensor:
    """(..., head, token, feature) as (batch, head, token, feature)."""
    if array.ndim == 4:
        return array
    if array.ndim < 4:
        return array[(None,) * (4 - array.ndim)]
    return array.flatten(0, -4)


def may_be_spoilt(request: Request) -> bool:
    """Whether NaN or ∞ in a key that may not be seen could reach queries through 0 · NaN.

    A sum of all numbers is finite only if all are (one that overflows costs time, nothing else).
    """
    if request.mask is None and request.bias is None:
        return False
    inputs = (request.query, request.key, request.value)
    return not isfinite(sum(float(array.detach().sum()) for array in inputs))


def ones_where(visible: BoolArray, like: torch.Tensor) -> torch.Tensor:
    """A mask's block as 1 and 0, in the dtype and on the device of a tensor."""
    own = visible if visible.flags.writeable else visible.copy()  # torch warns of read-only memory
    return torch.from_numpy(own).to(like.device, like.dtype)


def penalty(visible: torch.Tensor) -> torch.Tensor:
    """What hides when it is added to scores: 0 where ``visible`` is 1, −∞ where it is 0.

    The argument's memory becomes the result. Ten times faster than filling by a mask.
    """
    return visible.reciprocal_().neg_().add_(1)


@dataclass(frozen=True, eq=False)
class Part:
    """The (batch, head) units that share a mask.

    Attributes:
        batch, heads: which of the four-axis arrays' units.
        kv_heads: the key heads that those heads share.
        mask: bound, and without leading axes.
        units: their numbers, counting batch and head in row-major order: (batch, head).
    """

    batch: slice
    heads: slice
    kv_heads: slice
    mask: Mask | None
    units: torch.Tensor

    def queries(self, array: torch.Tensor) -> torch.Tensor:
        """The part's own of (batch, query head, ...)."""
        return array[self.batch, self.heads]

    def keys(self, array: torch.Tensor) -> torch.Tensor:
        """The part's own of (batch, key head, ...)."""
        return array[self.batch, self.kv_heads]

    def broadcast(self, array: torch.Tensor) -> torch.Tensor:
        """The part's own of an array whose batch or head axis may have size 1."""
        batch = slice(None) if array.shape[0] == 1 else self.batch
        heads = slice(None) if array.shape[1] == 1 else self.heads
        return array[batch, heads]


def parts(request: Request) -> Iterator[Part]:
    """The request cut where its mask changes from one unit to the next."""
    *batches, heads = (1, 1, *request.query.shape[:-2])[-max(request.query.ndim - 2, 1) :]
    batch_count = prod(batches)
    units = torch.arange(batch_count * heads).view(batch_count, heads)
    everything = slice(None)
    mask = request.mask
    sizes = () if mask is None else mask.leading
    if prod(sizes) == 1:
        at = None if mask is None else mask.at((0,) * (request.query.ndim - 2))
        yield Part(everything, everything, everything, at, units)
        return
    by_head, by_batch = sizes[-1] > 1, prod(sizes[:-1]) > 1
    for n in range(batch_count if by_batch else 1):
        index = tuple(map(int, np.unravel_index(n, batches))) if batches else ()
        batch = slice(n, n + 1) if by_batch else everything
        for head in range(heads if by_head else 1):
            own: Any = slice(head, head + 1) if by_head else everything
            kv = head // request.group
            shared = slice(kv, kv + 1) if by_head else everything
            index_head = (*index, head)[-(request.query.ndim - 2) :]
            yield Part(batch, own, shared, mask.at(index_head), units[batch, own])  # type: ignore[union-attr]
