"""Statistics folded over weights in torch: the only file of this room that names torch.

Threads of our own run many short operations on one core each, as in the blocks of the streaming
engine; on other devices one operation takes all heads of a share. On the CPU statistics get
the blocks as NumPy arrays over the same memory: NumPy's calls cost half of torch's.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from atento.equation.blas import one_blas_thread
from atento.equation.on_torch import without_autocast
from atento.equation.on_torch.bias import BiasTiles, bias_tiles
from atento.equation.on_torch.blocks import Memory, Scores
from atento.equation.on_torch.layout import Part, four_axes, ones_where
from atento.equation.on_torch.units import Unit
from atento.equation.on_torch.workers import share_out
from atento.equation.request import Request
from atento.equation.schedule import Piece, blocks_of
from atento.statistics import folding
from atento.statistics.block import Extent
from atento.statistics.folding import (
    HIGHEST,
    Parts,
    Rectangle,
    Share,
    fold_share,
    is_tame,
    merged,
    shares,
)
from atento.statistics.statistic import Statistic

__all__ = ["fold_on_torch"]

HEADS = 64
"""Heads in a block at most, on other devices than the CPU."""

Weighed = tuple[range, Any, Any]


def fold_on_torch(
    request: Request,
    lse: torch.Tensor,
    statistics: Sequence[Statistic],
    extents: Callable[[int], Extent],
) -> list[dict[str, torch.Tensor]]:
    """The results of each batch item, without autograd."""
    with without_autocast(request.query.device.type), torch.no_grad():
        tame = is_tame(request, _largest)
        bias = bias_tiles(request, with_grad=False)
        flat = replace(
            request,
            query=four_axes(request.query),
            key=four_axes(request.key),
            bias=None,
            dropout=0.0,
            seed=None,
        )
        rows = four_axes(lse.to(flat.compute_dtype)[..., None])

        on_cpu = request.query.device.type == "cpu"

        def work(share: Share) -> tuple[int, Parts]:
            weights = _Weights(flat, bias, rows, share, tame)
            extent = extents(share.item)
            return fold_share(share, _in_numpy(extent) if on_cpu else extent, statistics, weights)

        threads = torch.get_num_threads() if on_cpu else 1
        tasks = (partial(work, share) for share in shares(request, threads))
        with one_blas_thread() if on_cpu else nullcontext():
            return [
                {name: torch.as_tensor(array) for name, array in results.items()}
                for results in merged(share_out(tasks))
            ]


def _in_numpy(extent: Extent) -> Extent:
    """The same extent for blocks that are NumPy's, over torch's memory."""
    tokens = [
        None if ids is None else ids.numpy() for ids in (extent.query_tokens, extent.key_tokens)
    ]
    return replace(
        extent,
        xp=np,
        dtype=np.dtype(str(extent.dtype).removeprefix("torch.")),
        device="cpu",
        query_tokens=tokens[0],
        key_tokens=tokens[1],
    )


def _largest(array: torch.Tensor) -> float:
    """The largest magnitude; NaN when there is one."""
    least, most = array.aminmax()
    return float(torch.maximum(most, -least))


class _Weights:
    """The weights of a share, block by block, in memory that serves for all blocks."""

    def __init__(
        self,
        request: Request,
        bias: BiasTiles | None,
        lse: torch.Tensor,
        share: Share,
        tame: bool,
    ) -> None:
        self.tame = tame
        size = (folding.ROWS, folding.COLS)
        everything = slice(None)
        whole = Part(everything, everything, everything, share.mask, torch.empty(0))
        on_cpu = request.query.device.type == "cpu"
        size = (min(size[0], request.query.shape[2]), min(size[1], request.key.shape[2]))
        together = max(1, folding.CELLS // max(1, size[0] * size[1])) if on_cpu else HEADS
        self.heads = [
            _Heads(request, whole, bias, lse, share.item, own, size)
            for own in blocks_of(share.heads, together)
        ]
        if self.heads:
            self.memory = [Memory(self.heads[0].scores.unit.query, size) for _ in range(2)]

    def __call__(self, block: Rectangle) -> Iterator[Weighed]:
        """Weights and log-weights (head, query, key), some heads at a time."""
        masked = [
            (own, ones_where(visible, self.memory[0].numbers)) for own, visible in block.masked
        ]
        for heads in self.heads:
            weights, logs = self._of(heads, block, masked)
            if weights.device.type == "cpu":
                yield heads.numbers, weights.numpy(), logs.numpy()
            else:
                yield heads.numbers, weights, logs

    def _of(
        self, heads: "_Heads", block: Rectangle, masked: list[tuple[slice, torch.Tensor]]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        weights, logs = (
            memory.block(len(heads.numbers), len(block.rows), len(block.cols))
            for memory in self.memory
        )
        seen = heads.logarithms(block, out=logs)
        if seen is not None:
            masked = [*masked, (slice(None), seen)]
        lowest = heads.scores.lowest
        if masked:
            logs.clamp_(lowest, HIGHEST)
        else:
            logs.clamp_min_(lowest)
        torch.exp(logs, out=weights)
        if not self.tame:
            seen = heads.seen[:, block.rows.start : block.rows.stop]
            masked = [*masked, (slice(None), seen)]
        for own, visible in masked:
            if self.tame:
                weights[..., own].mul_(visible)
            else:  # 0 · NaN is NaN
                hidden = visible == 0
                weights[..., own].masked_fill_(hidden, 0)
                logs[..., own].masked_fill_(hidden, lowest)
        return weights, logs


class _Heads:
    """Some heads of one batch item.

    Without a softcap, ``−lse`` is one more feature of the query, and 1 of the key: their product is
    the log-weight at once.
    """

    def __init__(
        self,
        request: Request,
        whole: Part,
        bias: BiasTiles | None,
        lse: torch.Tensor,
        item: int,
        numbers: range,
        size: tuple[int, int],
    ) -> None:
        own = slice(numbers.start, numbers.stop)
        dtype = request.compute_dtype
        key_heads = [number // request.group for number in numbers]
        query = request.query[item, own].to(dtype)
        key = request.key[item, key_heads].to(dtype)
        self.numbers = numbers
        self.capped = request.softcap is not None
        self.seen = (lse[item, own] != -torch.inf).to(dtype)
        self.lse = torch.where(self.seen == 0, 0, lse[item, own])
        query = query * (request.scale / (request.softcap or 1.0))
        if not self.capped:
            query = torch.cat([query, -self.lse], dim=-1)
            key = torch.cat([key, torch.ones_like(key[..., :1])], dim=-1)
        unit = Unit(
            query=query,
            key=key,
            value=key,
            rows=[],
            at=(item, own),
            units=whole.units,
            way=0,
            group=request.group,
        )
        self.scores = Scores(request, whole, unit, bias, size)

    def logarithms(self, block: Rectangle, out: torch.Tensor) -> torch.Tensor | None:
        """Fill ``out`` with score − lse; 1 and 0 where the bias lets see and hides, or None."""
        unit = self.scores.unit
        rows = slice(block.rows.start, block.rows.stop)
        key = unit.key[:, block.cols.start : block.cols.stop]
        everywhere = Piece(block.rows, block.cols, None)
        seen = self.scores.compute(unit.query[:, rows], key, everywhere, out)
        if self.capped:
            out -= self.lse[:, rows]
        return seen
