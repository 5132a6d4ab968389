"""Statistics folded over weights in torch: the only file of this room that names torch.

Threads of our own run many short operations on one core each, as in the blocks of the streaming
engine; on other devices one operation takes all heads of a share. On the CPU statistics get
the blocks as NumPy arrays over the same memory: NumPy's calls cost half of torch's.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
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
from atento.statistics.block import Extent
from atento.statistics.compiled import Packed, Scored, is_worth_compiling, packs, reduced
from atento.statistics.finite import HIGHEST, is_tame
from atento.statistics.folding import Weighed, fold_share
from atento.statistics.gathering import Parts, gathered
from atento.statistics.reducer import Asks, Wanted
from atento.statistics.sharing import CELLS, Rectangle, Share, block_size, shares
from atento.statistics.statistic import Statistic

__all__ = ["fold_on_torch"]

HEADS = 64
"""Heads in a block at most, on other devices than the CPU."""


def fold_on_torch(
    request: Request,
    lse: torch.Tensor,
    statistics: Sequence[Statistic],
    extents: Callable[[int], Extent],
) -> dict[str, torch.Tensor]:
    """Each result, (batch item, ...), without autograd; nothing for an empty batch."""
    with without_autocast(request.query.device.type), torch.no_grad():
        tame = is_tame(request, _largest)
        compiled = is_worth_compiling(request)
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
            extent = extents(share.item)
            extent = _in_numpy(extent) if on_cpu else extent
            weights = partial(_Weights, flat, bias, rows, share, tame, compiled, extent)
            return fold_share(share, extent, statistics, weights)

        threads = torch.get_num_threads() if on_cpu else 1
        tasks = (
            partial(work, share) for share in shares(request, threads, block_size(compiled)[0])
        )
        with one_blas_thread() if on_cpu else nullcontext():
            found = gathered(share_out(tasks), flat.query.shape[1], flat.query.shape[0])
            return {name: torch.as_tensor(array) for name, array in found.items()}


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
        compiled: bool,
        extent: Extent,
        asks: list[Asks],
    ) -> None:
        self.tame = tame
        size = block_size(compiled)
        self.widest = size[1]
        everything = slice(None)
        whole = Part(everything, everything, everything, share.mask, torch.empty(0))
        on_cpu = request.query.device.type == "cpu"
        size = (min(size[0], request.query.shape[2]), min(size[1], request.key.shape[2]))
        together = max(1, CELLS // max(1, size[0] * size[1])) if on_cpu else HEADS
        if compiled:  # one product after the other is faster
            together = 1
        packed = compiled and bias is None and packs(request)
        self.packed = _packed(request, lse, share) if packed else []
        self.heads = [
            _Heads(request, whole, bias, lse, share.item, own, size, compiled)
            for own in blocks_of(share.heads, together)
            if not self.packed
        ]
        if self.heads:
            like = self.heads[0].scores.unit.query
            self.memory = [Memory(like, size) for _ in range(1 if compiled else 2)]
        self.wanted = Wanted(frozenset().union(*asks), extent) if compiled else None
        self.makes: Asks = self.wanted.asks if self.wanted else frozenset()
        self.reads = not all(names <= self.makes for names in asks)

    def __call__(self, rows: range, rectangles: list[Rectangle]) -> Iterator[Weighed]:
        """Weights and log-weights (head, query, key), or reductions, some heads at a time."""
        if self.wanted:
            units: Iterable[Packed | Scored] = self.packed or self._scored()
            yield from reduced(rows, rectangles, self.wanted, units, self.reads)
            return
        for block in rectangles:
            masked = [
                (own, ones_where(visible, self.memory[0].numbers)) for own, visible in block.masked
            ]
            for heads in self.heads:
                made: Any = self._exp(heads, block, masked)
                if made[0].device.type == "cpu":
                    made = (array.numpy() for array in made)
                yield heads.numbers, block.cols, *made, None

    def _scored(self) -> Iterator[Scored]:
        """What the kernel asks of each head."""
        for heads in self.heads:

            def scores(block: Rectangle, heads: _Heads = heads) -> tuple[Any, Any]:
                made = self._room(0, heads, block)
                seen = heads.scores_of(block, out=made)
                return made[0].numpy(), None if seen is None else seen[0].numpy() != 0

            yield Scored(heads.numbers.start, heads.lse[0, :, 0].numpy(), scores)

    def _room(self, number: int, heads: "_Heads", block: Rectangle) -> torch.Tensor:
        return self.memory[number].block(len(heads.numbers), len(block.rows), len(block.cols))

    def _exp(
        self, heads: "_Heads", block: Rectangle, masked: list[tuple[slice, torch.Tensor]]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights and their logarithms."""
        logs, weights = self._room(0, heads, block), self._room(1, heads, block)
        seen = heads.scores_of(block, out=logs)
        if heads.capped:
            logs -= heads.finite_lse[:, block.rows.start : block.rows.stop]
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


def _packed(request: Request, lse: torch.Tensor, share: Share) -> list[Packed]:
    """The heads of a share, for products in the kernel; heads of a group have the same keys."""
    made: list[Packed] = []
    of_group: dict[int, Packed] = {}

    def plain(tensor: torch.Tensor) -> Any:
        return tensor.detach().to(torch.float32).numpy()

    for number in share.heads:
        group = number // request.group
        key = of_group[group] if group in of_group else plain(request.key[share.item, group])
        query = plain(request.query[share.item, number])
        own = lse[share.item, number, :, 0].detach().numpy()
        made.append(Packed(number, own, query, key, request.scale))
        of_group[group] = made[-1]
    return made


class _Heads:
    """Some heads of one batch item.

    Where nothing comes between the product and the log-sum-exp, ``−lse`` is one more feature of the
    query, and 1 of the key: their product is the log-weight at once.
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
        compiled: bool,
    ) -> None:
        own = slice(numbers.start, numbers.stop)
        dtype = request.compute_dtype
        key_heads = [number // request.group for number in numbers]
        query = request.query[item, own].to(dtype)
        key = request.key[item, key_heads].to(dtype)
        self.numbers = numbers
        self.capped = request.softcap is not None
        self.lse = lse[item, own]
        self.seen = (self.lse != -torch.inf).to(dtype)
        self.finite_lse = torch.where(self.seen == 0, 0, self.lse)
        query = query * (request.scale / (request.softcap or 1.0))
        if not (self.capped or compiled):
            query = torch.cat([query, -self.finite_lse], dim=-1)
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

    def scores_of(self, block: Rectangle, out: torch.Tensor) -> torch.Tensor | None:
        """Fill ``out`` with scores, less the log-sum-exp where it is a feature.

        Returns 1 and 0 where the bias lets see and hides, or None.
        """
        unit = self.scores.unit
        rows = slice(block.rows.start, block.rows.stop)
        key = unit.key[:, block.cols.start : block.cols.stop]
        everywhere = Piece(block.rows, block.cols, None)
        return self.scores.compute(unit.query[:, rows], key, everywhere, out)
