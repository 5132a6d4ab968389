"""Output and weights together: one T×T matrix, the one that is asked for.

The formula makes a new matrix at every step, and backward two more. Here scores become weights in
the place where they are returned, some queries at a time while they are in the cache; backward
reads the weights once.
"""

from dataclasses import replace
from functools import partial
from typing import Any

import torch

from atento.equation.computed import Computed
from atento.equation.dense import dense
from atento.equation.on_torch.again import differentiable_gradients
from atento.equation.on_torch.layout import Part, four_axes, may_be_spoilt, ones_where, parts, penalty
from atento.equation.on_torch.memory import fresh
from atento.equation.on_torch.units import Unit, add_product, cut, gather, product
from atento.equation.on_torch.workers import run_all, share_out
from atento.equation.request import Request
from atento.masks import NONE, Coverage

__all__ = ["fits_in_place", "in_place"]

CELLS = 2**18
"""Weights of a head at a time: 1 MB in float32, half of a core's second-level cache."""


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


def _size(keys: int) -> int:
    return min(256, max(16, CELLS // keys))


def _weigh(
    request: Request,
    part: Part,
    inputs: tuple[torch.Tensor, ...],
    output: torch.Tensor,
    weights: torch.Tensor,
) -> None:
    output, weights = part.queries(output), part.queries(weights)
    keys = weights.shape[-1]

    def weigh(unit: Unit) -> None:
        for rows in unit.rows:
            span = slice(rows.start, rows.stop)
            block = weights[unit.at][:, span]
            tile = None if part.mask is None else part.mask.block(rows, range(keys))
            if tile is NONE:
                block.zero_()
                output[unit.at][:, span] = 0
                continue
            product(unit.query[:, span], unit.key.mT, block)
            if tile is None or isinstance(tile, Coverage):
                torch.softmax(block, -1, out=block)
            else:
                block += penalty(ones_where(tile, block))
                torch.softmax(block, -1, out=block)
                empty = ~tile.any(-1)
                if empty.any():  # the softmax of nothing but −inf is NaN
                    block[:, torch.from_numpy(empty).to(block.device)] = 0
            product(block, unit.value, output[unit.at][:, span])

    run_all(partial(weigh, unit) for unit in cut(request, part, inputs, _size(keys), CELLS))


def _differentiate(
    request: Request,
    part: Part,
    inputs: tuple[torch.Tensor, ...],
    results: tuple[torch.Tensor, torch.Tensor],
    grads: list[torch.Tensor | None],
    made: list[torch.Tensor],
) -> None:
    output, weights = map(part.queries, results)
    of_output, of_weights = (None if grad is None else part.queries(grad) for grad in grads)
    for_query, for_key, for_value = part.queries(made[0]), part.keys(made[1]), part.keys(made[2])
    keys = weights.shape[-1]

    def differentiate(unit: Unit) -> tuple[Unit, tuple[torch.Tensor, torch.Tensor]]:
        own_key, own_value = torch.zeros_like(unit.key), torch.zeros_like(unit.value)
        for rows in unit.rows:
            span = slice(rows.start, rows.stop)
            block = weights[unit.at][:, span]
            grad = torch.empty_like(block)
            delta = block.new_zeros(*block.shape[:2], 1)
            if of_output is None:
                grad.zero_()
            else:
                own = of_output[unit.at][:, span]
                product(own, unit.value.mT, grad)
                add_product(own_value, block.mT, own)
                delta += (own * output[unit.at][:, span]).sum(-1, keepdim=True)
            if of_weights is not None:
                asked = of_weights[unit.at][:, span]
                grad += asked
                delta += (asked * block).sum(-1, keepdim=True)
            grad.sub_(delta).mul_(block)
            add_product(for_query[unit.at][:, span], grad, unit.key)
            for_query[unit.at][:, span] *= request.scale
            add_product(own_key, grad.mT, unit.query[:, span])
        return unit, (own_key, own_value)

    units = cut(request, part, inputs, _size(keys), CELLS)
    for unit, of_keys in share_out(partial(differentiate, unit) for unit in units):
        gather((for_key, for_value), of_keys, unit)
