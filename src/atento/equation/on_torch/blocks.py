"""What torch's kernel does not offer, block by block: softcap, dropout, the gradient of the bias.

For each block of queries the blocks of keys pass by with a running maximum and sum, as in the
streaming engine for NumPy; backward computes each block of weights again from the log-sum-exp
(Dao et al. 2022, arXiv 2205.14135, algorithm 4). Every operation writes into a buffer that serves
for all blocks: fresh memory would cost more than the arithmetic.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import array_api_compat.torch as xp
import torch

from atento.equation.dropout import kept
from atento.equation.on_torch.bias import BiasTiles
from atento.equation.on_torch.layout import Part, ones_where
from atento.equation.request import Request
from atento.equation.schedule import Piece, blocks, pieces

__all__ = ["backward_blocks", "forward_blocks"]

ROWS, COLS = 256, 512
"""Queries × keys of a block: the three buffers of backward, 0.5 MB each in float32, stay in a
core's second-level cache."""

LOWEST = {torch.float32: -87.0, torch.float64: -708.0}
"""exp of these is close to the last normal number; exp is tens of times slower below."""


@dataclass(frozen=True, eq=False)
class _Unit:
    """Some heads of one batch item that share a key head, or have one each: (heads, token, ·)."""

    batch: int
    heads: slice
    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    units: torch.Tensor


class _Buffers:
    """Memory for one block of scores, weights or gradients, used again for every block."""

    def __init__(self, like: torch.Tensor, heads: int) -> None:
        self.memory = like.new_empty(heads * ROWS * COLS)

    def block(self, heads: int, rows: int, cols: int) -> torch.Tensor:
        return self.memory[: heads * rows * cols].view(heads, rows, cols)


def _units(
    request: Request, part: Part, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> Iterator[_Unit]:
    """The part, in as many heads at a time as there are threads."""
    query, key, value = part.queries(query), part.keys(key), part.keys(value)
    factor = request.scale / (request.softcap or 1.0)
    group = query.shape[1] // key.shape[1]
    width = max(1, torch.get_num_threads())
    width = min(width, group) if group > 1 else width
    for n in range(query.shape[0]):
        for heads in blocks(query.shape[1], width):
            own = slice(heads.start, heads.stop)
            index = torch.arange(heads.start, heads.stop, device=key.device) // group
            yield _Unit(
                batch=n,
                heads=own,
                query=query[n, own] * factor,
                key=key[n].index_select(0, index) if group > 1 else key[n, own],
                value=value[n].index_select(0, index) if group > 1 else value[n, own],
                units=part.units[n, own],
            )


class _Scores:
    """The scores of a block, on their way to weights, and back."""

    def __init__(self, request: Request, part: Part, unit: _Unit, bias: BiasTiles | None) -> None:
        self.request, self.part, self.unit, self.bias = request, part, unit, bias
        self.lowest = LOWEST[unit.query.dtype]

    def compute(
        self, piece: Piece, out: torch.Tensor, slope: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Scores without the mask, and the mask as 0 and 1 (None where all attend).

        ``slope`` is filled with the derivative of the softcap, 1 − tanh².
        """
        unit, rows, cols = self.unit, piece.rows, piece.cols
        query = unit.query[:, rows.start : rows.stop]
        key = unit.key[:, cols.start : cols.stop]
        torch.bmm(query, key.mT, out=out)
        if self.request.softcap is not None:
            out.tanh_()
            if slope is not None:
                torch.mul(out, out, out=slope).neg_().add_(1)
            out *= self.request.softcap
        visible = None
        if piece.visible is not None:
            visible = ones_where(piece.visible, out)
        if self.bias is not None:
            tile = self.bias.tile(self.part, rows, cols, (unit.batch, unit.heads))
            out += tile
            if tile.amin() == -torch.inf:  # a mask written as a bias
                seen = (tile != -torch.inf).to(out.dtype)
                visible = seen if visible is None else visible * seen
        return out, visible

    def keep(self, rows: range, cols: range) -> torch.Tensor:
        """1 / (1 − dropout) where dropout keeps the pair, otherwise 0."""
        request, device = self.request, self.unit.query.device
        query = torch.arange(rows.start, rows.stop, device=device)[:, None]
        key = torch.arange(cols.start, cols.stop, device=device)
        units = self.unit.units.to(device)[:, None, None]
        pairs = kept(request.seed, request.dropout, units, query, key, xp)
        factor: torch.Tensor = pairs.to(self.unit.query.dtype)
        return factor.mul_(1 / (1 - request.dropout))


def forward_blocks(
    request: Request,
    part: Part,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bias: BiasTiles | None,
    output: torch.Tensor,
    lse: torch.Tensor,
) -> None:
    """Fill output and log-sum-exp of one part, sinks left out."""
    own_output, own_lse = part.queries(output), part.queries(lse)
    buffers = _Buffers(query, max(1, torch.get_num_threads()))
    for unit in _units(request, part, query, key, value):
        scores = _Scores(request, part, unit, bias)
        for rows in blocks(query.shape[2], ROWS):
            span = slice(rows.start, rows.stop)
            summed, total, top = _pass(scores, rows, buffers)
            empty = total == 0
            own_output[unit.batch, unit.heads, span] = summed / torch.where(empty, 1, total)
            own_lse[unit.batch, unit.heads, span] = torch.where(
                empty, -torch.inf, top + total.log()
            )[..., 0]


def _pass(
    scores: _Scores, rows: range, buffers: _Buffers
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Σ exp(score − m) value, Σ exp(score − m) and m for one block of queries."""
    unit = scores.unit
    heads, keys = unit.query.shape[0], unit.key.shape[1]
    summed = unit.value.new_zeros(heads, len(rows), unit.value.shape[-1])
    total = summed.new_zeros(heads, len(rows), 1)
    top = torch.full_like(total, -torch.inf)
    for piece in pieces(scores.part.mask, rows, keys, COLS):
        for small in piece.cut(COLS):
            cols = small.cols
            block, visible = scores.compute(small, buffers.block(heads, len(rows), len(cols)))
            if visible is not None:
                block += 1 - 1 / visible  # −inf where hidden: the maximum is that of what is seen
            higher = torch.maximum(top, block.amax(-1, keepdim=True))
            shift = torch.where(higher == -torch.inf, 0, higher)
            shrink = torch.exp(top - shift)
            block.sub_(shift).clamp_min_(scores.lowest).exp_()
            if visible is not None:
                block *= visible
            total = total.mul_(shrink).add_(block.sum(-1, keepdim=True))
            if scores.request.dropout:
                block *= scores.keep(rows, cols)
            value = unit.value[:, cols.start : cols.stop]
            torch.baddbmm(summed.mul_(shrink), block, value, out=summed)
            top = higher
    return summed, total, top


def backward_blocks(
    request: Request,
    part: Part,
    inputs: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    bias: BiasTiles | None,
    grad_output: torch.Tensor,
    lse: torch.Tensor,
    delta: torch.Tensor,
    grads: list[torch.Tensor],
) -> None:
    """Add one part's gradients of query, key and value, and of the bias, where they gather.

    ``delta`` is Σ output · grad_output less the gradient of the log-sum-exp: (batch, head, query).
    """
    grad_query, grad_key, grad_value = (
        part.queries(grads[0]),
        part.keys(grads[1]),
        part.keys(grads[2]),
    )
    grad_output, lse, delta = map(part.queries, (grad_output, lse, delta))
    query, key, value = inputs
    group = grad_query.shape[1] // grad_key.shape[1]
    width = max(1, torch.get_num_threads())
    memory = [_Buffers(query, width) for _ in range(2 + (request.softcap is not None))]
    for unit in _units(request, part, query, key, value):
        at = (unit.batch, unit.heads)
        scores = _Scores(request, part, unit, bias)
        own_key, own_value = torch.zeros_like(unit.key), torch.zeros_like(unit.value)
        own_query = grad_query[at]
        row_lse = torch.where(lse[at] == -torch.inf, 0, lse[at])[..., None]
        for rows in blocks(query.shape[2], ROWS):
            span = slice(rows.start, rows.stop)
            grad_rows = grad_output[at][:, span]
            for piece in pieces(part.mask, rows, unit.key.shape[1], COLS):
                for small in piece.cut(COLS):
                    _block_gradients(
                        scores,
                        small,
                        (grad_rows, row_lse[:, span], delta[at][:, span, None]),
                        memory,
                        (own_query[:, span], own_key, own_value),
                    )
        own_query *= request.scale
        if request.softcap is not None:
            own_key *= request.softcap
        _gather(grad_key[unit.batch], own_key, unit.heads, group)
        _gather(grad_value[unit.batch], own_value, unit.heads, group)


def _block_gradients(
    scores: _Scores,
    piece: Piece,
    row: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    memory: list[_Buffers],
    into: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    """Add one block's part of the gradients of (query, key, value)."""
    request, unit, rows, cols = scores.request, scores.unit, piece.rows, piece.cols
    grad_rows, lse, delta = row
    own_query, own_key, own_value = into
    keys = slice(cols.start, cols.stop)
    size = (unit.query.shape[0], len(rows), len(cols))
    slope = memory[2].block(*size) if request.softcap is not None else None
    weights, visible = scores.compute(piece, memory[0].block(*size), slope)
    weights.sub_(lse).clamp_(scores.lowest, 1.0).exp_()
    if visible is not None:
        weights *= visible
    grad = memory[1].block(*size)
    torch.bmm(grad_rows, unit.value[:, keys].mT, out=grad)
    if request.dropout:
        keep = scores.keep(rows, cols)
        grad *= keep
        keep *= weights
        own_value[:, keys].baddbmm_(keep.mT, grad_rows)
    else:
        own_value[:, keys].baddbmm_(weights.mT, grad_rows)
    grad.sub_(delta).mul_(weights)
    if scores.bias is not None and scores.bias.grad is not None:
        scores.bias.add_grad(scores.part, rows, cols, grad, (unit.batch, unit.heads))
    if slope is not None:
        grad *= slope
    own_query.baddbmm_(grad, unit.key[:, keys])
    own_key[:, keys].baddbmm_(grad.mT, unit.query[:, rows.start : rows.stop])


def _gather(into: torch.Tensor, grads: torch.Tensor, heads: slice, group: int) -> None:
    """Add the gradients of some query heads' keys or values to those of their key heads."""
    if group == 1:
        into[heads] += grads
    else:
        index = torch.arange(heads.start, heads.stop, device=into.device) // group
        into.index_add_(0, index, grads)
