"""The streaming engine for torch: forward and backward block by block, in O(T) memory.

Forward keeps the output and the log-sum-exp; backward computes the weights again from it (Dao et
al. 2022, arXiv 2205.14135). On the CPU every piece of the weights that torch's own kernel can
compute is left to it; the rest (softcap, dropout, the gradient of a bias, other devices) is
computed in blocks of torch operations. What the mask empties is skipped. Backward of backward
goes through the dense engine.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any

import torch

from atento.equation.computed import Computed
from atento.equation.dense import dense
from atento.equation.on_torch.autocast import without_autocast
from atento.equation.on_torch.bias import BiasTiles, DistanceTiles, bias_tiles, bias_values
from atento.equation.on_torch.blocks import backward_blocks, forward_blocks
from atento.equation.on_torch.by_rows import backward_by_rows, forward_by_rows
from atento.equation.on_torch.flash import (
    additive,
    backward_piece,
    forward_piece,
    join,
    pad_features,
)
from atento.equation.on_torch.layout import Part, four_axes, may_be_spoilt, parts
from atento.equation.on_torch.plan import is_causal
from atento.equation.on_torch.workers import share_out
from atento.equation.request import Request
from atento.equation.schedule import Piece, blocks, blocks_of, pieces, tall_pieces
from atento.positions.distance_bias import DistanceBias

__all__ = ["stream"]

LOW, HIGH = 256, 1024
"""Queries in a block, where much of it is masked and where little is; keys are looked at by LOW."""

EVERYTHING = slice(None)

MADE = 2048
"""Keys in a piece at most where the bias is made for it from distances."""


def stream(request: Request) -> Computed:
    """Output and log-sum-exp of a request, with their gradients where tensors ask for them."""
    if 0 in (*request.output_shape, request.key.shape[-2]):
        return dense(request, with_lse=True)
    values = bias_values(request.bias)
    output, lse = _Streaming.apply(  # type: ignore[no-untyped-call]
        request.query, request.key, request.value, values, request.sinks, request
    )
    return Computed(output, lse)


class _Streaming(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        bias: torch.Tensor | None,
        sinks: torch.Tensor | None,
        request: Request,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        ctx.set_materialize_grads(False)
        with without_autocast(request.query.device.type):
            ctx.finite = not may_be_spoilt(request)
            output, lse = _forward(request) if ctx.finite else forward_by_rows(request)
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(query, key, value, bias, sinks, output, lse)
            ctx.request = replace(request, query=None, key=None, value=None, bias=None, sinks=None)
            ctx.distances = request.bias if isinstance(request.bias, DistanceBias) else None
        return output, lse

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        *inputs, output, lse = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:5]
        if grads[0] is None and grads[1] is None:
            return (None,) * 6
        request = _restored(ctx, inputs)
        if torch.is_grad_enabled():  # backward of backward
            return (*_through_dense(request, inputs, wanted, grads), None)
        with without_autocast(request.query.device.type):
            if ctx.finite:
                made = _backward(request, inputs, wanted, output, lse, grads)
            else:
                leaves = [
                    tensor.detach().requires_grad_() if want else tensor
                    for tensor, want in zip(inputs, wanted, strict=True)
                ]
                asked = [leaf for leaf, want in zip(leaves, wanted, strict=True) if want]
                found = iter(backward_by_rows(_restored(ctx, leaves), asked, *grads))
                made = tuple(next(found) if want else None for want in wanted)
        return (*made, None)


def _restored(ctx: Any, inputs: list[Any]) -> Request:
    query, key, value, bias, sinks = inputs
    if ctx.distances is not None:
        bias = DistanceBias(bias, ctx.distances.lengths)
    without: Request = ctx.request
    return replace(without, query=query, key=key, value=value, bias=bias, sinks=sinks)


def _through_dense(
    request: Request, inputs: list[Any], wanted: tuple[bool, ...], grads: tuple[Any, ...]
) -> tuple[torch.Tensor | None, ...]:
    made = dense(request, with_lse=True)
    asked = [
        (value, grad)
        for value, grad in zip((made.output, made.lse), grads, strict=True)
        if grad is not None
    ]
    found = iter(
        torch.autograd.grad(
            [value for value, _ in asked],
            [tensor for tensor, want in zip(inputs, wanted, strict=True) if want],
            [grad for _, grad in asked],
            create_graph=True,
            allow_unused=True,
        )
    )
    return tuple(next(found) if want else None for want in wanted)


def by_kernel(request: Request) -> bool:
    """Whether torch's CPU kernel computes the pieces of this request, forward."""
    return request.query.device.type == "cpu" and request.softcap is None and not request.dropout


def _prepared(request: Request) -> tuple[torch.Tensor, ...]:
    """Queries, keys and values on four axes, in the dtype that is computed in."""
    prepared = tuple(
        four_axes(array).to(request.compute_dtype)
        for array in (request.query, request.key, request.value)
    )
    return tuple(a if a.stride(-1) == 1 else a.contiguous() for a in prepared)


def _forward(request: Request) -> tuple[torch.Tensor, torch.Tensor]:
    query, key, value = _prepared(request)
    output = query.new_zeros(*query.shape[:-1], value.shape[-1])
    lse = query.new_full(query.shape[:-1], -torch.inf)
    bias = _bias(request, with_grad=False)
    for part in parts(request):
        if by_kernel(request):
            _forward_by_kernel(request, part, query, key, value, bias, output, lse)
        else:
            forward_blocks(request, part, (query, key, value), bias, output, lse)
    if request.sinks is not None:
        sinks = _sinks(request)
        with_sink = torch.where(lse == -torch.inf, lse, torch.logaddexp(lse, sinks))
        output *= torch.where(lse == -torch.inf, 0, lse - with_sink).exp()[..., None]
        lse = with_sink
    return (
        output.to(request.query.dtype).reshape(request.output_shape),
        lse.reshape(request.output_shape[:-1]),
    )


def _sinks(request: Request) -> torch.Tensor:
    """(Hq, 1) or (1, 1), to stand beside (batch, head, query)."""
    sinks: torch.Tensor = request.sinks
    return sinks.reshape(-1, 1)


def _bias(request: Request, with_grad: bool) -> BiasTiles | None:
    if request.bias is None:
        return None
    return bias_tiles(request.bias, request.weights_shape, with_grad)


def _forward_by_kernel(
    request: Request,
    part: Part,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bias: BiasTiles | None,
    output: torch.Tensor,
    lse: torch.Tensor,
) -> None:
    features = max(query.shape[-1], value.shape[-1])
    query, key, value = (
        pad_features(array, features)
        for array in (part.queries(query), part.keys(key), part.keys(value))
    )
    output, lse = part.queries(output), part.queries(lse)
    before = None
    for piece in _kernel_pieces(part, query.shape[2], key.shape[2], bias):
        rows, cols = _slice(piece.rows), _slice(piece.cols)
        tile = None if bias is None else bias.tile(part, piece.rows, piece.cols)
        more, more_lse = forward_piece(
            query[:, :, rows],
            key[:, :, cols],
            value[:, :, cols],
            request.scale,
            additive(piece, tile, query),
            piece.causal,
        )
        more = more[..., : output.shape[-1]]
        if piece.rows == before:
            join(output[:, :, rows], lse[:, :, rows], more, more_lse)
        else:
            output[:, :, rows], lse[:, :, rows] = more, more_lse
        before = piece.rows


def _backward(
    request: Request,
    inputs: list[Any],
    wanted: tuple[bool, ...],
    output: torch.Tensor,
    lse: torch.Tensor,
    grads: tuple[torch.Tensor | None, ...],
) -> tuple[torch.Tensor | None, ...]:
    """The gradients of query, key, value, bias and sinks, where wanted."""
    query, key, value = _prepared(request)
    output, lse = four_axes(output).to(query.dtype), four_axes(lse[..., None])[..., 0]
    grad_output, grad_lse = grads
    if grad_output is None:
        grad_output = torch.zeros_like(output)
    grad_output = four_axes(grad_output).to(query.dtype)
    delta = (grad_output * output).sum(-1)
    if grad_lse is not None:
        delta -= four_axes(grad_lse[..., None])[..., 0]
    made = [torch.zeros_like(array) for array in (query, key, value)]
    bias = _bias(request, with_grad=wanted[3])
    kernel = by_kernel(request) and not wanted[3] and grad_lse is None
    for part in parts(request):
        if kernel:
            _backward_by_kernel(
                request, part, (query, key, value), bias, grad_output, output, lse, made
            )
        else:
            backward_blocks(request, part, (query, key, value), bias, grad_output, lse, delta, made)
    grad_sinks = None
    if wanted[4]:
        share = torch.where(lse == -torch.inf, 0, _sinks(request) - lse).exp()
        grad = torch.where(lse == -torch.inf, 0, -delta * share).sum((0, 2))
        grad_sinks = grad.sum_to_size(request.sinks.shape) if request.sinks.ndim else grad.sum()
    found = [
        grad.to(given.dtype).reshape(given.shape) for grad, given in zip(made, inputs, strict=False)
    ]
    return (*found, None if bias is None else bias.gathered(), grad_sinks)


def _backward_by_kernel(
    request: Request,
    part: Part,
    inputs: tuple[torch.Tensor, ...],
    bias: BiasTiles | None,
    grad_output: torch.Tensor,
    output: torch.Tensor,
    lse: torch.Tensor,
    made: list[torch.Tensor],
) -> None:
    features = max(inputs[0].shape[-1], inputs[2].shape[-1])
    query, output, grad_output = (
        pad_features(part.queries(array), features) for array in (inputs[0], output, grad_output)
    )
    key, value = (pad_features(part.keys(array), features) for array in inputs[1:])
    lse = part.queries(lse)
    lse = torch.where(lse == -torch.inf, 0, lse)
    grads = [part.queries(made[0]), part.keys(made[1]), part.keys(made[2])]
    batch, heads = query.shape[:2]
    group = heads // key.shape[1]

    def differentiate(
        n: slice, own: slice, shared: slice, pieces: Iterable[Piece]
    ) -> tuple[slice, slice, torch.Tensor, torch.Tensor]:
        """Add the gradients of some heads' queries; return those of their keys and values."""
        alone = n != EVERYTHING
        of_key, of_value = (
            torch.zeros_like(grad[n, shared]) if alone else grad for grad in grads[1:]
        )
        for piece in pieces:
            rows, cols = _slice(piece.rows), _slice(piece.cols)
            tile = None if bias is None else bias.tile(part, piece.rows, piece.cols)
            if tile is not None and alone:
                tile = tile.expand(batch, heads, *tile.shape[2:])[n, own]
            for_query, for_key, for_value = backward_piece(
                grad_output[n, own, rows],
                query[n, own, rows],
                key[n, shared, cols],
                value[n, shared, cols],
                output[n, own, rows],
                lse[n, own, rows],
                request.scale,
                additive(piece, tile, query),
                piece.causal,
            )
            grads[0][n, own, rows] += for_query[..., : grads[0].shape[-1]]
            of_key[:, :, cols] += for_key[..., : of_key.shape[-1]]
            of_value[:, :, cols] += for_value[..., : of_value.shape[-1]]
        return n, shared, of_key, of_value

    lengths = query.shape[2], key.shape[2]
    ways = torch.get_num_threads() // max(batch * heads, 1)
    if ways < 2:
        whole = _kernel_pieces(part, *lengths, bias)
        differentiate(EVERYTHING, EVERYTHING, EVERYTHING, whole)
        return
    # The kernel works on one core per head. With fewer heads than cores the queries are shared out.
    talls = list(blocks(lengths[0], HIGH))
    tasks = []
    for n in range(batch):
        for head in range(heads):
            kv = head // group
            for way in range(ways):
                # Early and late queries in turn: under a causal mask the late ones see more.
                some = [*talls[way :: 2 * ways], *talls[2 * ways - 1 - way :: 2 * ways]]
                units = slice(n, n + 1), slice(head, head + 1), slice(kv, kv + 1)
                own = chain.from_iterable(_row_pieces(part, t, lengths[1], bias) for t in some)
                tasks.append(partial(differentiate, *units, own))
    for items, shared, of_key, of_value in share_out(tasks):
        grads[1][items, shared] += of_key
        grads[2][items, shared] += of_value


def _kernel_pieces(part: Part, queries: int, keys: int, bias: BiasTiles | None) -> Iterator[Piece]:
    """The rectangles to hand to the kernel, those of the same queries one after the other."""
    made = isinstance(bias, DistanceTiles)  # its tiles are made, so they must be small
    if part.mask is None and not made:
        yield Piece(range(queries), range(keys), None)
    elif bias is None and is_causal(part.mask):
        yield Piece(range(queries), range(keys), None, causal=True)
    else:
        for tall in blocks(queries, HIGH):
            yield from _row_pieces(part, tall, keys, bias)


def _row_pieces(part: Part, tall: range, keys: int, bias: BiasTiles | None) -> Iterator[Piece]:
    """The same, for some of the queries."""
    if isinstance(bias, DistanceTiles):
        for rows in blocks_of(tall, LOW):
            for piece in pieces(part.mask, rows, keys, LOW):
                yield from piece.cut(MADE)
    elif bias is None and is_causal(part.mask):
        if tall.start:
            yield Piece(tall, range(min(tall.start, keys)), None)
        if tall.start < keys:
            yield Piece(tall, range(tall.start, min(tall.stop, keys)), None, causal=True)
    else:
        yield from tall_pieces(part.mask, tall, keys, LOW)


def _slice(span: range) -> slice:
    return slice(span.start, span.stop)
