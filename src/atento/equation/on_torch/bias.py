"""The bias of a request, tile by tile, and where its gradient gathers."""

from functools import cached_property
from math import prod
from typing import Any

import torch

from atento.equation.on_torch.layout import Part
from atento.equation.on_torch.memory import zeros
from atento.equation.request import Request
from atento.positions.distance_bias import DistanceBias

__all__ = ["BiasTiles", "DistanceTiles", "bias_tiles", "bias_values"]


Unit = tuple[int, slice] | None
"""One batch item of a part, and some of its heads."""


class BiasTiles:
    """A bias array of any shape that broadcasts to (batch, head, query, key).

    Attributes:
        grad: the gradient so far, in the array's own (broadcast) shape; None when not asked for.
        is_matrix: whether there is a number for each pair of query and key.
        is_shared: whether several heads or batch items read the same numbers.
    """

    def __init__(
        self, values: torch.Tensor, weights_shape: tuple[int, ...], with_grad: bool
    ) -> None:
        self.shape = values.shape
        self.batches = weights_shape[:-3]
        self.values = _one_batch_axis(values, self.batches, own=3)
        units = prod(self.values.shape[:2])
        self.is_matrix = self.values.shape[-2:] == weights_shape[-2:]
        self.is_shared = units < prod(weights_shape[:-2])
        self.grad = zeros(tuple(self.values.shape), values) if with_grad else None

    def tile(self, part: Part, rows: range, cols: range, unit: Unit = None) -> torch.Tensor:
        """The bias of a block, with axes of size 1 where it does not vary.

        (batch, head, rows, cols) for the whole part, or (head, rows, cols) for one unit of it.
        """
        return self._block(_of(part.broadcast(self.values), unit), rows, cols)

    def of_unit(self, part: Part, unit: Unit) -> torch.Tensor:
        """All that a unit reads, (head, query, key), with axes of size 1 as in `tile`."""
        return _of(part.broadcast(self.values), unit)

    @cached_property
    def hides(self) -> bool:
        """Whether −∞ stands in it: a mask written as a bias."""
        return not self.values.amin() > -torch.inf  # NaN may stand before it

    def region(self, part: Part, unit: Unit) -> torch.Tensor | None:
        """Where the gradient of one unit gathers; None when it is not asked for."""
        return None if self.grad is None else _of(part.broadcast(self.grad), unit)

    def add_grad(self, region: torch.Tensor, rows: range, cols: range, grad: torch.Tensor) -> None:
        """Add the gradient of a block's scores, (head, rows, cols), to a region."""
        own = self._block(region, rows, cols)
        own += grad.sum_to_size(own.shape)

    def gathered(self) -> torch.Tensor | None:
        """The gradient, in the shape in which the bias was given."""
        return None if self.grad is None else _as_given(self.grad, self.shape, self.batches)

    @staticmethod
    def _block(array: torch.Tensor, rows: range, cols: range) -> torch.Tensor:
        query = slice(None) if array.shape[-2] == 1 else slice(rows.start, rows.stop)
        key = slice(None) if array.shape[-1] == 1 else slice(cols.start, cols.stop)
        return array[..., query, key]


class DistanceTiles(BiasTiles):
    """A bias that depends on key − query alone: one number per distance.

    ``bias[i, j] = values[j − i + Tq − 1]``.
    """

    is_matrix = False

    def __init__(
        self, values: torch.Tensor, weights_shape: tuple[int, ...], with_grad: bool
    ) -> None:
        self.shape = values.shape
        self.batches = weights_shape[:-3]
        self.values = _one_batch_axis(values, self.batches, own=2)
        self.queries = weights_shape[-2]
        self.grad = torch.zeros_like(self.values) if with_grad else None

    def tile(self, part: Part, rows: range, cols: range, unit: Unit = None) -> torch.Tensor:
        band = _of(part.broadcast(self.values), unit)[..., self._span(rows, cols)]
        # Row i of the tile begins len(rows) − 1 − i places into the band.
        return band.unfold(-1, len(cols), 1).flip(-2)

    def add_grad(self, region: torch.Tensor, rows: range, cols: range, grad: torch.Tensor) -> None:
        own = region[..., self._span(rows, cols)]
        grad = grad.sum_to_size(own.shape[0], *grad.shape[1:])
        # Rows of len(rows) + len(cols) written one after the other and read one entry shorter:
        # each row moves one place, so that diagonals become columns.
        width = len(rows) + len(cols)
        skewed = torch.nn.functional.pad(grad.flip(-2), (0, len(rows))).flatten(-2)
        skewed = skewed[..., : len(rows) * (width - 1)]
        own += skewed.reshape(*skewed.shape[:-1], len(rows), width - 1).sum(-2)

    def _span(self, rows: range, cols: range) -> slice:
        start = cols.start - (rows.stop - 1) + self.queries - 1
        return slice(start, start + len(rows) + len(cols) - 1)


def _of(array: torch.Tensor, unit: Unit) -> torch.Tensor:
    if unit is None:
        return array
    batch, heads = unit
    own = array[min(batch, array.shape[0] - 1)]
    return own if own.shape[0] == 1 else own[heads]


def bias_values(bias: Any) -> torch.Tensor | None:
    """The tensor of a request's bias that gradients go to."""
    values: torch.Tensor | None = bias.values if isinstance(bias, DistanceBias) else bias
    return values


def bias_tiles(request: Request, with_grad: bool) -> BiasTiles | None:
    """The tiles of a request's bias, where it has one."""
    bias, shape = request.bias, request.weights_shape
    if bias is None:
        return None
    if isinstance(bias, DistanceBias):
        return DistanceTiles(bias.values, shape, with_grad)
    return BiasTiles(bias, shape, with_grad)


def _one_batch_axis(array: torch.Tensor, batches: tuple[int, ...], own: int) -> torch.Tensor:
    """(batch…, own axes) -> (batch, own axes), where ``own`` counts the head and what follows."""
    missing = own - array.ndim
    if missing > 0:
        array = array[(None,) * missing]
    ahead = array.shape[:-own]
    if all(size == 1 for size in ahead):
        return array.reshape(1, *array.shape[-own:])
    return array.expand(*batches, *array.shape[-own:]).reshape(-1, *array.shape[-own:])


def _as_given(grad: torch.Tensor, shape: torch.Size, batches: tuple[int, ...]) -> torch.Tensor:
    if grad.shape[0] == 1:
        return grad.reshape(shape)
    return grad.reshape(*batches, *grad.shape[1:]).sum_to_size(shape)
