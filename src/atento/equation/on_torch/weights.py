"""Output and weights together: one T×T matrix, the one that is asked for.

The formula makes a new matrix at every step, and backward two more. Here scores become weights in
the place where they are returned, and backward reads them once. All heads together, on torch's own
threads: at the sizes at which one asks for weights that is faster than threads of our own
(EXPERIMENTS.md).
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from atento.equation.computed import Computed
from atento.equation.dense import dense
from atento.equation.on_torch.again import differentiable_gradients
from atento.equation.on_torch.layout import (
    Part,
    four_axes,
    may_be_spoilt,
    ones_where,
    parts,
    penalty,
)
from atento.equation.on_torch.memory import fresh
from atento.equation.request import Request
from atento.equation.schedule import blocks
from atento.masks import NONE, Coverage

__all__ = ["fits_in_place", "in_place"]

CELLS = 2**23
"""Weights at a time where a mask is read beside them, or a gradient: 32 MB in float32."""


def fits_in_place(request: Request) -> bool:
    """Whether a request is the plain equation, or it with a mask."""
    return not (
        request.opaque
        or request.softcap is not None
        or request.bias is not None
        or request.sinks is not None
        or request.dropout
        or request.query.dtype != request.compute_dtype
        or 0 in request.weights_shape
    )


def in_place(request: Request) -> Computed:
    """softmax(mask(Q Kᵀ · scale)) and its product with V, with their gradients."""
    if may_be_spoilt(request):
        return dense(request, with_weights=True)
    output, weights = _InPlace.apply(  # type: ignore[no-untyped-call]
        request.query, request.key, request.value, request
    )
    return Computed(output, weights=weights)


class _InPlace(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, request: Request
    ) -> tuple[torch.Tensor, torch.Tensor]:
        ctx.set_materialize_grads(False)
        output = query.new_empty(request.output_shape)
        weights = fresh(request.weights_shape, query)
        inputs = tuple(four_axes(array.detach()) for array in (query, key, value))
        for part in parts(request):
            _weigh(request, part, inputs, four_axes(output), four_axes(weights))
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(query, key, value, output, weights)
            ctx.request = replace(request, query=None, key=None, value=None)
        return output, weights

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        query, key, value, output, weights = ctx.saved_tensors
        if grads[0] is None and grads[1] is None:
            return (None,) * 4
        request: Request = replace(ctx.request, query=query, key=key, value=value)
        if torch.is_grad_enabled():  # backward of backward
            again = dense(request, with_weights=True)
            both, wanted = (again.output, again.weights), ctx.needs_input_grad[:3]
            return (*differentiable_gradients(both, grads, (query, key, value), wanted), None)
        inputs = tuple(map(four_axes, (query, key, value)))
        made = [torch.zeros_like(array) for array in inputs]
        rows = [None if grad is None else four_axes(grad) for grad in grads]
        for part in parts(request):
            _differentiate(
                request, part, inputs, (four_axes(output), four_axes(weights)), rows, made
            )
        return (
            made[0].reshape(query.shape),
            made[1].reshape(key.shape),
            made[2].reshape(value.shape),
            None,
        )


def _weigh(
    request: Request,
    part: Part,
    inputs: tuple[torch.Tensor, ...],
    output: torch.Tensor,
    weights: torch.Tensor,
) -> None:
    query, key, value = part.queries(inputs[0]), part.keys(inputs[1]), part.keys(inputs[2])
    output, weights = part.queries(output), part.queries(weights)
    query = query * request.scale
    for own in _turns(query, key):
        for rows in _rows(weights, whole=part.mask is None):
            span = slice(rows.start, rows.stop)
            block = weights[:, own, span]
            tile = None if part.mask is None else part.mask.block(rows, range(weights.shape[-1]))
            if tile is NONE:
                block.zero_()
                output[:, own, span] = 0
                continue
            _product(query[:, own, span], key.mT, block)
            if tile is not None and not isinstance(tile, Coverage):
                block += penalty(ones_where(tile, block))
            torch.softmax(block, -1, out=block)
            if tile is not None and not isinstance(tile, Coverage):
                empty = ~tile.any(-1)
                if empty.any():  # the softmax of nothing but −inf is NaN
                    block[:, :, torch.from_numpy(empty).to(block.device)] = 0
            _product(block, value, output[:, own, span])


def _differentiate(
    request: Request,
    part: Part,
    inputs: tuple[torch.Tensor, ...],
    results: tuple[torch.Tensor, torch.Tensor],
    grads: list[torch.Tensor | None],
    made: list[torch.Tensor],
) -> None:
    query, key, value = part.queries(inputs[0]), part.keys(inputs[1]), part.keys(inputs[2])
    output, weights = map(part.queries, results)
    of_output, of_weights = (None if grad is None else part.queries(grad) for grad in grads)
    for_query, for_key, for_value = part.queries(made[0]), part.keys(made[1]), part.keys(made[2])
    for own in _turns(query, key):
        for rows in _rows(weights):
            span = slice(rows.start, rows.stop)
            block = weights[:, own, span]
            delta = block.new_zeros(*block.shape[:-1], 1)
            if of_output is None:
                grad = torch.zeros_like(block)
            else:
                asked = of_output[:, own, span]
                grad = asked @ value.mT
                for_value += block.mT @ asked
                delta += (asked * output[:, own, span]).sum(-1, keepdim=True)
            if of_weights is not None:
                asked = of_weights[:, own, span]
                grad += asked
                delta += (asked * block).sum(-1, keepdim=True)
            grad.sub_(delta).mul_(block).mul_(request.scale)
            _product(grad, key, for_query[:, own, span])
            for_key += grad.mT @ query[:, own, span]


def _turns(query: torch.Tensor, key: torch.Tensor) -> list[slice]:
    """Heads that each have a key head of their own, in as many turns as heads share one."""
    group = query.shape[1] // key.shape[1]
    return [slice(first, None, group) for first in range(group)]


def _rows(weights: torch.Tensor, whole: bool = False) -> Iterator[range]:
    """Blocks of queries, of all heads together."""
    batch, heads, queries, keys = weights.shape
    return blocks(queries, queries if whole else max(16, CELLS // (batch * heads * keys)))


def _product(left: torch.Tensor, right: torch.Tensor, out: torch.Tensor) -> None:
    """Products of (batch, head) matrices, written where they belong."""
    flat = out.flatten(0, 1)
    torch.bmm(left.flatten(0, 1), right.flatten(0, 1), out=flat)
    if flat.data_ptr() != out.data_ptr():  # heads that lie between tokens
        out.copy_(flat.view(out.shape))
