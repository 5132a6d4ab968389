"""What torch's kernel does not offer, block by block: softcap, dropout, the gradient of the bias.

For each block of queries the blocks of keys pass by with a running maximum and sum, as in the
streaming engine for NumPy; backward computes each block of weights again from the log-sum-exp
(Dao et al. 2022, arXiv 2205.14135, algorithm 4). Every operation writes into a buffer that serves
for all blocks: fresh memory would cost more than the arithmetic.
"""

from collections.abc import Iterator
from functools import partial

import array_api_compat.torch as xp
import torch

from atento.equation.dropout import kept
from atento.equation.on_torch.bias import BiasTiles
from atento.equation.on_torch.layout import Part, ones_where
from atento.equation.on_torch.units import Unit, add_product, cut, gather, product
from atento.equation.on_torch.workers import run_all, share_out
from atento.equation.request import Request
from atento.equation.schedule import Piece, pieces

__all__ = ["backward_blocks", "forward_blocks"]

ROWS, COLS = 256, 512
"""Queries × keys of a block: the three buffers of backward, 0.5 MB each in float32, stay in a
core's second-level cache."""

Gradients = tuple[Unit, tuple[torch.Tensor, torch.Tensor], torch.Tensor | None]
"""What one unit leaves: the gradients of its keys and values, and of a bias that is no matrix."""

LOWEST = {torch.float32: -87.0, torch.float64: -708.0}
"""exp of these is close to the last normal number; exp is tens of times slower below."""


class _Buffer:
    """Memory for one block of scores, weights or gradients, used again for every block."""

    def __init__(self, like: torch.Tensor) -> None:
        self.memory = like.new_empty(like.shape[0] * ROWS * COLS)

    def block(self, heads: int, rows: int, cols: int) -> torch.Tensor:
        return self.memory[: heads * rows * cols].view(heads, rows, cols)


class _Scores:
    """The scores of a block, on their way to weights, and back."""

    def __init__(self, request: Request, part: Part, unit: Unit, bias: BiasTiles | None) -> None:
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
        product(query, key.mT, out)
        if self.request.softcap is not None:
            out.tanh_()
            if slope is not None:
                torch.mul(out, out, out=slope).neg_().add_(1)
            out *= self.request.softcap
        visible = None
        if piece.visible is not None:
            visible = ones_where(piece.visible, out)
        if self.bias is not None:
            tile = self.bias.tile(self.part, rows, cols, unit.at)
            out += tile
            if tile.amin() == -torch.inf:  # a mask written as a bias
                seen = (tile != -torch.inf).to(out.dtype)
                visible = seen if visible is None else visible * seen
        return out, visible

    def keep(self, rows: range, cols: range) -> torch.Tensor:
        """1 where dropout keeps the pair, otherwise 0."""
        request, device = self.request, self.unit.query.device
        query = torch.arange(rows.start, rows.stop, device=device)[:, None]
        key = torch.arange(cols.start, cols.stop, device=device)
        units = self.unit.units.to(device)[:, None, None]
        pairs: torch.Tensor = kept(request.seed, request.dropout, units, query, key, xp)
        return pairs.to(self.unit.query.dtype)


def forward_blocks(
    request: Request,
    part: Part,
    inputs: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    bias: BiasTiles | None,
    output: torch.Tensor,
    lse: torch.Tensor,
) -> None:
    """Fill output and log-sum-exp of one part, sinks left out."""
    output, lse = part.queries(output), part.queries(lse)

    def attend(unit: Unit) -> None:
        scores, buffer = _Scores(request, part, unit, bias), _Buffer(unit.query)
        for rows in unit.rows:
            summed, total, top = _pass(scores, rows, buffer)
            empty = total == 0
            span = slice(rows.start, rows.stop)
            total_kept = total * (1 - request.dropout)  # what is kept grows by this much
            output[unit.at][:, span] = summed / torch.where(empty, 1, total_kept)
            lse[unit.at][:, span] = torch.where(empty, -torch.inf, top + total.log())[..., 0]

    run_all(partial(attend, unit) for unit in cut(request, part, inputs, ROWS))


def _pass(
    scores: _Scores, rows: range, buffer: _Buffer
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Σ exp(score − m) value, Σ exp(score − m) and m for one block of queries."""
    unit = scores.unit
    heads, keys = unit.query.shape[0], unit.key.shape[1]
    summed = unit.value.new_zeros(heads, len(rows), unit.value.shape[-1])
    total = summed.new_zeros(heads, len(rows), 1)
    top = torch.full_like(total, -torch.inf)
    for piece in _small_pieces(scores, rows, keys):
        cols = piece.cols
        block, visible = scores.compute(piece, buffer.block(heads, len(rows), len(cols)))
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
        add_product(summed.mul_(shrink), block, value)
        top = higher
    return summed, total, top


def _small_pieces(scores: _Scores, rows: range, keys: int) -> Iterator[Piece]:
    for piece in pieces(scores.part.mask, rows, keys, COLS):
        yield from piece.cut(COLS)


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
    if request.dropout:
        grad_output = grad_output / (1 - request.dropout)
    lse = torch.where(lse == -torch.inf, 0, lse)

    def differentiate(units: list[Unit]) -> list[Gradients]:
        return [of_unit(unit) for unit in units]

    def of_unit(unit: Unit) -> Gradients:
        scores = _Scores(request, part, unit, bias)
        memory = [_Buffer(unit.query) for _ in range(2 + (request.softcap is not None))]
        own_key, own_value = torch.zeros_like(unit.key), torch.zeros_like(unit.value)
        region = None if bias is None else bias.region(part, unit.at)
        if bias is not None and region is not None and not bias.is_matrix:
            region = torch.zeros_like(region)
        for rows in unit.rows:
            span = slice(rows.start, rows.stop)
            row = (
                grad_output[unit.at][:, span],
                lse[unit.at][:, span, None],
                delta[unit.at][:, span, None],
            )
            into = (grad_query[unit.at][:, span], own_key, own_value, region)
            for piece in _small_pieces(scores, rows, unit.key.shape[1]):
                _block_gradients(scores, piece, row, memory, into)
            into[0].mul_(request.scale)
        if request.softcap is not None:
            own_key *= request.softcap
        return unit, (own_key, own_value), region

    if bias is not None and bias.grad is not None and bias.is_matrix and bias.is_shared:
        # Heads that share a T×T gradient take turns; threads have queries of their own.
        cuts = list(cut(request, part, inputs, ROWS, ways=torch.get_num_threads()))
        shares = [
            [unit for unit in cuts if unit.way == way] for way in sorted({u.way for u in cuts})
        ]
    else:
        shares = [[unit] for unit in cut(request, part, inputs, ROWS)]
    for made in share_out(partial(differentiate, units) for units in shares):
        for unit, of_keys, of_bias in made:
            gather((grad_key, grad_value), of_keys, unit)
            total = None if bias is None or bias.is_matrix else bias.region(part, unit.at)
            if total is not None and of_bias is not None:
                total += of_bias


def _block_gradients(
    scores: _Scores,
    piece: Piece,
    row: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    memory: list[_Buffer],
    into: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None],
) -> None:
    """Add one block's part of the gradients of (query, key, value, bias)."""
    request, unit, rows, cols = scores.request, scores.unit, piece.rows, piece.cols
    grad_rows, lse, delta = row
    own_query, own_key, own_value, region = into
    keys = slice(cols.start, cols.stop)
    size = (unit.query.shape[0], len(rows), len(cols))
    slope = memory[2].block(*size) if request.softcap is not None else None
    weights, visible = scores.compute(piece, memory[0].block(*size), slope)
    weights.sub_(lse).clamp_(scores.lowest, 1.0).exp_()
    if visible is not None:
        weights *= visible
    grad = memory[1].block(*size)
    product(grad_rows, unit.value[:, keys].mT, grad)
    if request.dropout:
        keep = scores.keep(rows, cols)
        grad *= keep
        keep *= weights
        add_product(own_value[:, keys], keep.mT, grad_rows)
    else:
        add_product(own_value[:, keys], weights.mT, grad_rows)
    grad.sub_(delta).mul_(weights)
    if scores.bias is not None and region is not None:
        scores.bias.add_grad(region, rows, cols, grad)
    if slope is not None:
        grad *= slope
    add_product(own_query, grad, unit.key[:, keys])
    add_product(own_key[:, keys], grad.mT, unit.query[:, rows.start : rows.stop])
