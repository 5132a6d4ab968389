"""What torch's kernel does not offer, block by block: softcap, dropout, the gradient of the bias.

For each block of queries the blocks of keys pass by with a running maximum and sum, as in the
streaming engine for NumPy; backward computes each block of weights again from the log-sum-exp
(Dao et al. 2022, arXiv 2205.14135, algorithm 4). Every operation writes into memory that serves
for all blocks: fresh memory would cost more than the arithmetic.
"""

from collections.abc import Iterator
from functools import partial

import torch

from atento.equation.on_torch.bias import BiasTiles
from atento.equation.on_torch.compiled import is_compiled
from atento.equation.on_torch.compiled_blocks import unit_gradients, weigh_unit
from atento.equation.on_torch.keep import Keep
from atento.equation.on_torch.layout import Part, ones_where, penalty
from atento.equation.on_torch.units import Unit, add_product, cut, gather, product
from atento.equation.on_torch.workers import run_all, share_out
from atento.equation.request import Request
from atento.equation.schedule import Piece, pieces

__all__ = ["LOWEST", "Memory", "Scores", "backward_blocks", "forward_blocks"]

COMPILED_FORWARD, COMPILED_BACKWARD = (256, 1024), (512, 512)
"""Queries × keys of a block where kernels of Numba do what stands between the products."""

FORWARD, BACKWARD = (128, 1024), (256, 512)
"""Queries × keys of a block: in float32 half a MB, so that the three or four that are at work stay
in a core's second-level cache. Forward has one sum per row to keep, backward two per column."""

Gradients = tuple[Unit, tuple[torch.Tensor, torch.Tensor], torch.Tensor | None]
"""What one unit leaves: the gradients of its keys and values, and of a bias that is no matrix."""

Weighed = tuple[range, torch.Tensor, torch.Tensor, torch.Tensor]
"""Some queries, and their Σ exp(score − m) value, Σ exp(score − m) and m: (head, query, ...)."""

LOWEST = {torch.float32: -87.0, torch.float64: -708.0}
"""exp of these is close to the last normal number; exp is tens of times slower below."""


class Memory:
    """Room for one block of scores, weights or gradients, used again for every block."""

    def __init__(self, like: torch.Tensor, size: tuple[int, int]) -> None:
        self.numbers = like.new_empty(like.shape[0] * size[0] * size[1])

    def block(self, heads: int, rows: int, cols: int) -> torch.Tensor:
        return self.numbers[: heads * rows * cols].view(heads, rows, cols)


class Scores:
    """The scores of a unit, block by block, on their way to weights and back."""

    def __init__(
        self,
        request: Request,
        part: Part,
        unit: Unit,
        bias: BiasTiles | None,
        size: tuple[int, int],
    ) -> None:
        self.part, self.unit, self.bias, self.softcap = part, unit, bias, request.softcap
        self.lowest = LOWEST[unit.query.dtype]
        self.scale, self.size = request.scale, size
        self.keep = Keep(request, unit, size) if request.dropout else None

    def pieces(self, rows: range) -> Iterator[Piece]:
        """The blocks of keys that a block of queries looks at."""
        for piece in pieces(self.part.mask, rows, self.unit.key.shape[1], self.size[1]):
            yield from piece.cut(self.size[1])

    def compute(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        piece: Piece,
        out: torch.Tensor,
        slope: torch.Tensor | None = None,
    ) -> torch.Tensor | None:
        """Fill ``out`` with scores without the mask; the mask as 0 and 1 (None where all attend).

        ``slope`` is filled with the derivative of the softcap, 1 − tanh².
        """
        product(query, key.mT, out)
        self.cap(out, slope)
        visible = None
        if piece.visible is not None:
            visible = ones_where(piece.visible, out)
        if self.bias is not None:
            tile = self.bias.tile(self.part, piece.rows, piece.cols, self.unit.at)
            out += tile
            if self.bias.hides:
                seen = (tile != -torch.inf).to(out.dtype)
                visible = seen if visible is None else visible * seen
        return visible

    def cap(self, scores: torch.Tensor, slope: torch.Tensor | None = None) -> None:
        """Softcap, in place, and its derivative in ``slope``."""
        if self.softcap is not None:
            scores.tanh_()
            if slope is not None:
                torch.mul(scores, scores, out=slope).neg_().add_(1)
            scores *= self.softcap


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

    compiled = is_compiled(request)
    size = COMPILED_FORWARD if compiled else FORWARD
    weigh = weigh_unit if compiled else _weigh_unit

    def attend(unit: Unit) -> None:
        scores = Scores(request, part, unit, bias, size)
        own, own_lse = output[unit.at], lse[unit.at]
        for rows, summed, total, top in weigh(scores):
            own_lse[:, rows.start : rows.stop] = (top + total.log())[..., 0]
            total *= 1 - request.dropout  # what is kept grows by this much
            total.clamp_min_(torch.finfo(total.dtype).tiny)  # nothing over nothing is 0
            torch.div(summed, total, out=own[:, rows.start : rows.stop])

    run_all(partial(attend, unit) for unit in cut(request, part, inputs, size[0]))


def _weigh_unit(scores: Scores) -> Iterator[Weighed]:
    memory = Memory(scores.unit.query, scores.size)
    for rows in scores.unit.rows:
        yield rows, *_weigh_rows(scores, rows, memory)


def _weigh_rows(
    scores: Scores, rows: range, memory: Memory
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Σ exp(score − m) value, Σ exp(score − m) and m for one block of queries."""
    unit = scores.unit
    heads, lowest = unit.query.shape[0], torch.finfo(unit.query.dtype).min
    query = unit.query[:, rows.start : rows.stop]
    summed = unit.value.new_zeros(heads, len(rows), unit.value.shape[-1])
    total = summed.new_zeros(heads, len(rows), 1)
    top = torch.full_like(total, -torch.inf)
    for piece in scores.pieces(rows):
        keys = slice(piece.cols.start, piece.cols.stop)
        block = memory.block(heads, len(rows), len(piece.cols))
        visible = scores.compute(query, unit.key[:, keys], piece, block)
        if visible is not None:
            block += penalty(visible.clone())
        higher = torch.maximum(top, block.amax(-1, keepdim=True))
        shift = higher.clamp_min(lowest)  # −∞ − (−∞) would be NaN where nothing was seen
        shrink = top.sub_(shift).exp_()
        block.sub_(shift).clamp_min_(scores.lowest).exp_()
        if visible is not None:
            block *= visible
        total = total.mul_(shrink).add_(block.sum(-1, keepdim=True))
        if scores.keep is not None:
            block = scores.keep.only(block, scores.keep.pairs(rows, piece.cols), out=block)
        add_product(summed.mul_(shrink), block, unit.value[:, keys])
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
    if request.dropout:
        grad_output = grad_output / (1 - request.dropout)
    lse = torch.where(lse == -torch.inf, 0, lse).contiguous()
    delta = delta.contiguous()

    compiled = is_compiled(request)
    size = COMPILED_BACKWARD if compiled else BACKWARD
    add_gradients = unit_gradients if compiled else _unit_gradients

    def differentiate(units: list[Unit]) -> list[Gradients]:
        return [of_unit(unit) for unit in units]

    def of_unit(unit: Unit) -> Gradients:
        scores = Scores(request, part, unit, bias, size)
        of_key, of_value = torch.zeros_like(unit.key), torch.zeros_like(unit.value)
        of_bias = None if bias is None else bias.region(part, unit.at)
        if bias is not None and of_bias is not None and not bias.is_matrix:
            of_bias = torch.zeros_like(of_bias)
        own = tuple(array[unit.at] for array in (grad_output, lse, delta))
        add_gradients(scores, own, (grad_query[unit.at], of_key, of_value), of_bias)
        if request.softcap is not None:
            of_key *= request.softcap
        return unit, (of_key, of_value), of_bias

    if bias is not None and bias.grad is not None and bias.is_matrix and bias.is_shared:
        # Heads that share a T×T gradient take turns; threads have queries of their own.
        cuts = list(cut(request, part, inputs, size[0], ways=torch.get_num_threads()))
        shares = [
            [unit for unit in cuts if unit.way == way] for way in sorted({u.way for u in cuts})
        ]
    else:
        shares = [[unit] for unit in cut(request, part, inputs, size[0])]
    for made in share_out(partial(differentiate, units) for units in shares):
        for unit, of_keys, of_bias in made:
            gather((grad_key, grad_value), of_keys, unit)
            total = None if bias is None or bias.is_matrix else bias.region(part, unit.at)
            if total is not None and of_bias is not None:
                total += of_bias


def _unit_gradients(
    scores: Scores,
    given: tuple[torch.Tensor, ...],
    into: tuple[torch.Tensor, ...],
    of_bias: torch.Tensor | None,
) -> None:
    """Add a unit's gradients of query, key, value and bias.

    ``given``: output gradient, log-sum-exp and Σ output · gradient. ``into``: where the gradients
    of query, key and value gather.
    """
    unit, of_output = scores.unit, given[0]
    row_lse, row_delta = (array[..., None] for array in given[1:])
    of_query, of_key, of_value = into
    memory = [Memory(unit.query, scores.size) for _ in range(2 + (scores.softcap is not None))]
    columns: dict[range, tuple[torch.Tensor, ...]] = {}
    for rows in unit.rows:
        span = slice(rows.start, rows.stop)
        row = tuple(
            array[:, span] for array in (unit.query, of_output, row_lse, row_delta, of_query)
        )
        for piece in scores.pieces(rows):
            column = columns.get(piece.cols)
            if column is None:
                keys = slice(piece.cols.start, piece.cols.stop)
                column = tuple(array[:, keys] for array in (unit.key, unit.value, of_key, of_value))
                columns[piece.cols] = column
            _block_gradients(scores, piece, row, column, memory, of_bias)
        row[-1].mul_(scores.scale)


def _block_gradients(
    scores: Scores,
    piece: Piece,
    row: tuple[torch.Tensor, ...],
    column: tuple[torch.Tensor, ...],
    memory: list[Memory],
    of_bias: torch.Tensor | None,
) -> None:
    """Add one block's part of the gradients of query, key, value and bias."""
    query, of_output, lse, delta, of_query = row
    key, value, of_key, of_value = column
    size = (query.shape[0], len(piece.rows), len(piece.cols))
    slope = None if scores.softcap is None else memory[2].block(*size)
    weights, grad = memory[0].block(*size), memory[1].block(*size)
    visible = scores.compute(query, key, piece, weights, slope)
    weights.sub_(lse).clamp_(scores.lowest, 1.0).exp_()
    if visible is not None:
        weights *= visible
    product(of_output, value.mT, grad)
    if scores.keep is None:
        add_product(of_value, weights.mT, of_output)
    else:
        pairs = scores.keep.pairs(piece.rows, piece.cols)
        scores.keep.only(grad, pairs, out=grad)
        add_product(of_value, scores.keep.only(weights, pairs).mT, of_output)
    grad.sub_(delta).mul_(weights)
    if scores.bias is not None and of_bias is not None:
        scores.bias.add_grad(of_bias, piece.rows, piece.cols, grad)
    if slope is not None:
        grad *= slope
    add_product(of_query, grad, key)
    add_product(of_key, grad.mT, query)
