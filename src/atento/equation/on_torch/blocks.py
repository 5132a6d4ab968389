"""What torch's kernel does not offer, block by block: softcap, dropout, the gradient of the bias.

For each block of queries the blocks of keys pass by with a running maximum and sum, as in the
streaming engine for NumPy; backward computes each block of weights again from the log-sum-exp
(Dao et al. 2022, arXiv 2205.14135, algorithm 4). Every operation writes into a buffer that serves
for all blocks: fresh memory would cost more than the arithmetic.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from threading import Lock

import array_api_compat.torch as xp
import torch

from atento.equation.dropout import kept
from atento.equation.on_torch.bias import BiasTiles
from atento.equation.on_torch.layout import Part, ones_where
from atento.equation.on_torch.workers import share_out
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
    """Some heads of one batch item, and some of their queries: what one thread computes.

    Attributes:
        query, key, value: (head, token, feature), a key head for each query head.
        rows: the blocks of queries.
        at: where these heads stand in the part's (batch, head).
        units: their numbers in the whole request.
    """

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    rows: list[range]
    at: tuple[int, slice]
    units: torch.Tensor


class _Buffer:
    """Memory for one block of scores, weights or gradients, used again for every block."""

    def __init__(self, like: torch.Tensor) -> None:
        self.memory = like.new_empty(like.shape[0] * ROWS * COLS)

    def block(self, heads: int, rows: int, cols: int) -> torch.Tensor:
        return self.memory[: heads * rows * cols].view(heads, rows, cols)


def _units(
    request: Request, part: Part, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> Iterator[_Unit]:
    """The part, cut so that every thread has something to do: by head, and then by queries."""
    query, key, value = part.queries(query), part.keys(key), part.keys(value)
    batch, heads = query.shape[:2]
    group = heads // key.shape[1]
    on_cpu = query.device.type == "cpu"
    width = 1 if on_cpu else heads
    ways = -(-torch.get_num_threads() // (batch * heads)) if on_cpu else 1
    factor = request.scale / (request.softcap or 1.0)
    rows = list(blocks(query.shape[2], ROWS))
    for n in range(batch):
        for some in blocks(heads, width):
            own = slice(some.start, some.stop)
            shared = key_heads(own, group, key.device)
            for way in range(min(ways, len(rows))):
                yield _Unit(
                    query=query[n, own] * factor,
                    key=key[n, shared],
                    value=value[n, shared],
                    rows=rows[way::ways],
                    at=(n, own),
                    units=part.units[n, own],
                )


def key_heads(heads: slice, group: int, device: torch.device) -> slice | torch.Tensor:
    """The key head of each of these query heads."""
    if group == 1:
        return heads
    return torch.arange(heads.start, heads.stop, device=device) // group


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

    def attend(unit: _Unit) -> None:
        scores, buffer = _Scores(request, part, unit, bias), _Buffer(unit.query)
        for rows in unit.rows:
            summed, total, top = _pass(scores, rows, buffer)
            empty = total == 0
            span = slice(rows.start, rows.stop)
            total_kept = total * (1 - request.dropout)  # what is kept grows by this much
            output[unit.at][:, span] = summed / torch.where(empty, 1, total_kept)
            lse[unit.at][:, span] = torch.where(empty, -torch.inf, top + total.log())[..., 0]

    share_out(partial(attend, unit) for unit in _units(request, part, *inputs))


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
    group = grad_query.shape[1] // grad_key.shape[1]
    lock = Lock()

    def differentiate(unit: _Unit) -> None:
        scores = _Scores(request, part, unit, bias)
        memory = [_Buffer(unit.query) for _ in range(2 + (request.softcap is not None))]
        own_key, own_value = torch.zeros_like(unit.key), torch.zeros_like(unit.value)
        for rows in unit.rows:
            span = slice(rows.start, rows.stop)
            row = (
                grad_output[unit.at][:, span],
                lse[unit.at][:, span, None],
                delta[unit.at][:, span, None],
            )
            own_query = grad_query[unit.at][:, span]
            for piece in _small_pieces(scores, rows, unit.key.shape[1]):
                _block_gradients(scores, piece, row, memory, (own_query, own_key, own_value), lock)
            own_query *= request.scale
        if request.softcap is not None:
            own_key *= request.softcap
        n, heads = unit.at
        shared = key_heads(heads, group, grad_key.device)
        with lock:
            for into, own in ((grad_key[n], own_key), (grad_value[n], own_value)):
                if isinstance(shared, slice):
                    into[shared] += own
                else:
                    into.index_add_(0, shared, own)

    share_out(partial(differentiate, unit) for unit in _units(request, part, *inputs))


def _block_gradients(
    scores: _Scores,
    piece: Piece,
    row: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    memory: list[_Buffer],
    into: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    lock: Lock,
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
    product(grad_rows, unit.value[:, keys].mT, grad)
    if request.dropout:
        keep = scores.keep(rows, cols)
        grad *= keep
        keep *= weights
        add_product(own_value[:, keys], keep.mT, grad_rows)
    else:
        add_product(own_value[:, keys], weights.mT, grad_rows)
    grad.sub_(delta).mul_(weights)
    if scores.bias is not None and scores.bias.grad is not None:
        with lock:  # heads and batch items may share a bias
            scores.bias.add_grad(scores.part, rows, cols, grad, unit.at)
    if slope is not None:
        grad *= slope
    add_product(own_query, grad, unit.key[:, keys])
    add_product(own_key[:, keys], grad.mT, unit.query[:, rows.start : rows.stop])


def product(left: torch.Tensor, right: torch.Tensor, out: torch.Tensor) -> None:
    """Products head by head; for one head without the detour over batches, a tenth faster."""
    if len(left) == 1:
        torch.mm(left[0], right[0], out=out[0])
    else:
        torch.bmm(left, right, out=out)


def add_product(into: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> None:
    """Add products head by head, in place."""
    if len(left) == 1:
        into[0].addmm_(left[0], right[0])
    else:
        into.baddbmm_(left, right)
