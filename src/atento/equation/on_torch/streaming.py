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
from math import prod
from typing import Any

import torch

from atento.equation.computed import Computed
from atento.equation.dense import dense, dense_mask
from atento.equation.on_torch.again import differentiable_gradients
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
from atento.equation.on_torch.layout import Part, four_axes, may_be_spoilt, parts, penalty
from atento.equation.on_torch.plan import by_kernel, is_causal
from atento.equation.on_torch.workers import run_all, share_out
from atento.equation.request import Request
from atento.equation.schedule import Piece, blocks, blocks_of, pieces, tall_pieces
from atento.positions.distance_bias import DistanceBias

__all__ = ["stream"]

LOW, HIGH = 256, 1024
"""Queries in a block, where much of it is masked and where little is; keys are looked at by LOW."""

SHORT = 2**18
"""Queries × keys up to which the masks of a batch are written out, all items together."""

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
            output, lse = (
                _forward(_mask_as_bias(request)) if ctx.finite else forward_by_rows(request)
            )
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
            again = dense(request, with_lse=True)
            both = (again.output, again.lse)
            return (*differentiable_gradients(both, grads, inputs, wanted), None)
        with without_autocast(request.query.device.type):
            if ctx.finite:
                request = _mask_as_bias(request, bias_learns=wanted[3])
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


def _mask_as_bias(request: Request, bias_learns: bool = False) -> Request:
    """The request with a small mask that differs from item to item written out, as 0 and −∞.

    Item by item, short sentences would cost more to hand out than to compute.
    """
    Tq, Tk = request.weights_shape[-2:]
    differs = request.mask is not None and prod(request.mask.leading) > 1
    if not differs or Tq * Tk > SHORT or bias_learns or isinstance(request.bias, DistanceBias):
        return request
    added = penalty(dense_mask(request).to(request.compute_dtype))
    return replace(request, mask=None, bias=added if request.bias is None else request.bias + added)


def _prepared(request: Request) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries, keys and values on four axes, in the dtype that is computed in."""

    def prepared(given: torch.Tensor) -> torch.Tensor:
        array = four_axes(given).to(request.compute_dtype)
        return array if array.stride(-1) == 1 else array.contiguous()

    return prepared(request.query), prepared(request.key), prepared(request.value)


def _forward(request: Request) -> tuple[torch.Tensor, torch.Tensor]:
    inputs = _prepared(request)
    query, key, value = inputs
    bias = bias_tiles(request, with_grad=False)
    whole = _whole(request, bias) if by_kernel(request) else None
    if whole is not None:  # the kernel shares it out by itself
        output, lse = _forward_whole(request, *whole, inputs, bias)
    else:
        output = query.new_zeros(*query.shape[:-1], value.shape[-1])
        lse = query.new_full(query.shape[:-1], -torch.inf)
        for part in parts(request):
            if by_kernel(request):
                _forward_by_kernel(request, part, query, key, value, bias, output, lse)
            else:
                forward_blocks(request, part, inputs, bias, output, lse)
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


def _forward_whole(
    request: Request,
    part: Part,
    piece: Piece,
    inputs: tuple[torch.Tensor, ...],
    bias: BiasTiles | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    features = max(inputs[0].shape[-1], inputs[2].shape[-1])
    tile = None if bias is None else bias.tile(part, piece.rows, piece.cols)
    query, key, value = (pad_features(array, features) for array in inputs)
    output, lse = forward_piece(query, key, value, request.scale, tile, piece.causal)
    return output[..., : inputs[2].shape[-1]], lse


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
    group = query.shape[1] // key.shape[1]

    def attend(n: slice, shared: slice, pieces: Iterable[Piece]) -> None:
        own = slice(shared.start * group, shared.stop * group)
        before = None
        for piece in pieces:
            rows, cols = _slice(piece.rows), _slice(piece.cols)
            tile = None if bias is None else bias.tile(part, piece.rows, piece.cols)
            more, more_lse = forward_piece(
                query[n, own, rows],
                key[n, shared, cols],
                value[n, shared, cols],
                request.scale,
                additive(piece, _share_of(tile, n, own), query),
                piece.causal,
            )
            more = more[..., : output.shape[-1]]
            if piece.rows == before:
                join(output[n, own, rows], lse[n, own, rows], more, more_lse)
            else:
                output[n, own, rows], lse[n, own, rows] = more, more_lse
            before = piece.rows

    lengths, threads = (query.shape[2], key.shape[2]), torch.get_num_threads()
    talls = list(blocks(lengths[0], HIGH))
    shares = _shares(query.shape[0], key.shape[1], -(-2 * threads // len(talls)))
    run_all(
        partial(attend, n, shared, _row_pieces(request, part, tall, bias))
        for tall in talls
        for n, shared in shares
    )


def _share_of(tile: torch.Tensor | None, n: slice, heads: slice) -> torch.Tensor | None:
    """The tile of some batch items and heads; an axis of size 1 serves all."""
    if tile is None:
        return None
    batch, own = (
        slice(None) if size == 1 else s for size, s in zip(tile.shape, (n, heads), strict=False)
    )
    return tile[batch, own]


def _shares(batch: int, kv_heads: int, wanted: int) -> list[tuple[slice, slice]]:
    """(batch, key head) in about as many shares as wanted, or as many as there are units."""
    per_item = min(kv_heads, max(1, -(-wanted // batch)))
    return [
        (_slice(items), _slice(heads))
        for items in blocks(batch, max(1, -(-batch // wanted)))
        for heads in blocks(kv_heads, -(-kv_heads // per_item))
    ]


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
    made: list[torch.Tensor] = []
    bias = bias_tiles(request, with_grad=wanted[3])
    # The kernel works on as many features in queries as in values: zeros, and time, for the rest.
    square = query.shape[-1] == value.shape[-1]
    kernel = by_kernel(request) and square and not wanted[3] and grad_lse is None
    whole = _whole(request, bias) if kernel else None
    if whole is not None and prod(lse.shape[:2]) >= torch.get_num_threads():
        part, piece = whole  # the kernel shares it out by itself, by heads
        made += backward_piece(
            grad_output,
            query,
            key,
            value,
            output,
            torch.where(lse == -torch.inf, 0, lse),
            request.scale,
            None if bias is None else bias.tile(part, piece.rows, piece.cols),
            piece.causal,
        )
    else:
        made += [torch.zeros_like(array) for array in (query, key, value)]
        for part in parts(request):
            if kernel:
                _backward_by_kernel(
                    request, part, (query, key, value), bias, grad_output, output, lse, made
                )
            else:
                backward_blocks(
                    request, part, (query, key, value), bias, grad_output, lse, delta, made
                )
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
    query, output, grad_output = map(part.queries, (inputs[0], output, grad_output))
    key, value = map(part.keys, inputs[1:])
    lse = part.queries(lse)
    lse = torch.where(lse == -torch.inf, 0, lse)
    grads = [part.queries(made[0]), part.keys(made[1]), part.keys(made[2])]
    group = query.shape[1] // key.shape[1]

    def differentiate(
        n: slice, shared: slice, pieces: Iterable[Piece]
    ) -> tuple[slice, slice, torch.Tensor, torch.Tensor]:
        """Add the gradients of some heads' queries; return those of their keys and values."""
        own = slice(shared.start * group, shared.stop * group)
        of_key, of_value = (torch.zeros_like(grad[n, shared]) for grad in grads[1:])
        for piece in pieces:
            rows, cols = _slice(piece.rows), _slice(piece.cols)
            tile = None if bias is None else bias.tile(part, piece.rows, piece.cols)
            for_query, for_key, for_value = backward_piece(
                grad_output[n, own, rows],
                query[n, own, rows],
                key[n, shared, cols],
                value[n, shared, cols],
                output[n, own, rows],
                lse[n, own, rows],
                request.scale,
                additive(piece, _share_of(tile, n, own), query),
                piece.causal,
            )
            grads[0][n, own, rows] += for_query
            of_key[:, :, cols] += for_key
            of_value[:, :, cols] += for_value
        return n, shared, of_key, of_value

    lengths, threads = (query.shape[2], key.shape[2]), torch.get_num_threads()
    tasks = []
    # It works on one core per head: with fewer key heads than cores queries are shared out.
    shares = _shares(query.shape[0], key.shape[1], 2 * threads)
    ways = -(-threads // len(shares))
    talls = list(blocks(lengths[0], HIGH))
    for n, shared in shares:
        for way in range(ways):
            # Early and late queries in turn: under a causal mask the late ones see more.
            some = [*talls[way :: 2 * ways], *talls[2 * ways - 1 - way :: 2 * ways]]
            own = chain.from_iterable(_row_pieces(request, part, t, bias) for t in some)
            tasks.append(partial(differentiate, n, shared, own))
    for n, shared, of_key, of_value in share_out(tasks):
        grads[1][n, shared] += of_key
        grads[2][n, shared] += of_value


def _whole(request: Request, bias: BiasTiles | None) -> tuple[Part, Piece] | None:
    """Everything as one rectangle, where the kernel computes it so."""
    causal = request.mask is not None
    if isinstance(bias, DistanceTiles) or (causal and bias is not None):
        return None
    if causal and not is_causal(request.mask, request.scale):
        return None
    Tq, Tk = request.weights_shape[-2:]
    return next(parts(request)), Piece(range(Tq), range(Tk), None, causal)


def _row_pieces(
    request: Request, part: Part, tall: range, bias: BiasTiles | None
) -> Iterator[Piece]:
    """The rectangles of some queries, those of the same queries one after the other."""
    keys = request.weights_shape[-1]
    if isinstance(bias, DistanceTiles):
        for rows in blocks_of(tall, LOW):
            for piece in pieces(part.mask, rows, keys, LOW):
                yield from piece.cut(MADE)
    elif bias is None and is_causal(part.mask, request.scale):
        if tall.start:
            yield Piece(tall, range(min(tall.start, keys)), None)
        if tall.start < keys:
            yield Piece(tall, range(tall.start, min(tall.stop, keys)), None, causal=True)
    else:
        yield from tall_pieces(part.mask, tall, keys, LOW)


def _slice(span: range) -> slice:
    return slice(span.start, span.stop)
