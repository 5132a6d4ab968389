"""The equation itself on some queries at a time: slower, in O(T) memory, and right for any numbers.

For requests whose numbers are not all finite: in products of whole blocks a key that may not be
seen would spoil the others, since 0 · NaN is NaN.
"""

from collections.abc import Iterator
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import torch

from atento.equation.dense import dense
from atento.equation.request import Request
from atento.equation.schedule import blocks
from atento.masks import Mask
from atento.masks.mask import Tile
from atento.positions.distance_bias import DistanceBias

__all__ = ["backward_by_rows", "forward_by_rows"]

CELLS = 2**22
"""Weights that are held at once, over all heads."""


class _SomeRows(Mask):
    """A bound rule for some of its queries."""

    def __init__(self, rule: Mask, rows: range) -> None:
        self.rule, self.rows = rule, rows

    def bind(self, shape: tuple[int, ...] | None) -> Mask:
        del shape
        return self

    def pairs(self, lengths: tuple[int, int], xp: Any, device: Any) -> Any:
        return xp.asarray(
            np.array(self._evaluate(range(lengths[0]), range(lengths[1]))), device=device
        )

    def _evaluate(self, rows: range, cols: range) -> Tile:
        del rows
        tile = self.rule.block(self.rows, cols)
        return (
            tile
            if isinstance(tile, np.ndarray)
            else np.full((len(self.rows), len(cols)), tile.value)
        )


def _by_rows(request: Request) -> Iterator[tuple[range, Request]]:
    Tq, Tk = request.weights_shape[-2:]
    size = max(1, CELLS // max(1, prod(request.weights_shape[:-2]) * Tk))
    for rows in blocks(Tq, size):
        bias = request.bias
        if isinstance(bias, DistanceBias):
            bias = bias.tile(rows, range(Tk))
        elif bias is not None and bias.ndim > 1 and bias.shape[-2] != 1:
            bias = bias[..., rows.start : rows.stop, :]
        yield (
            rows,
            replace(
                request,
                query=request.query[..., rows.start : rows.stop, :],
                mask=None if request.mask is None else _SomeRows(request.mask, rows),
                bias=bias,
                first_query=rows.start,
            ),
        )


def forward_by_rows(request: Request) -> tuple[torch.Tensor, torch.Tensor]:
    """Output and log-sum-exp."""
    made = [dense(part, with_lse=True) for _, part in _by_rows(request)]
    return torch.cat([x.output for x in made], dim=-2), torch.cat([x.lse for x in made], dim=-1)


def backward_by_rows(
    request: Request,
    leaves: list[torch.Tensor],
    grad_output: torch.Tensor | None,
    grad_lse: torch.Tensor | None,
) -> list[torch.Tensor]:
    """The gradients of some of the request's tensors, by autograd through the equation."""
    sums = [torch.zeros_like(leaf) for leaf in leaves]
    with torch.enable_grad():
        for rows, part in _by_rows(request):
            span = slice(rows.start, rows.stop)
            made = dense(part, with_lse=True)
            asked = []
            if grad_output is not None:
                asked.append((made.output, grad_output[..., span, :]))
            if grad_lse is not None:
                asked.append((made.lse, grad_lse[..., span]))
            grads = torch.autograd.grad(
                [value for value, _ in asked],
                leaves,
                [grad for _, grad in asked],
                allow_unused=True,
            )
            for total, grad in zip(sums, grads, strict=True):
                if grad is not None:
                    total += grad
    return sums
