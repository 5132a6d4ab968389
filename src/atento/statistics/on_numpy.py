"""Statistics folded over weights in NumPy: threads over heads, one BLAS thread each."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, TypeVar

import numpy as np

from atento._arrays import dtype_name
from atento.equation.blas import available_cores, one_blas_thread
from atento.equation.request import Request
from atento.positions.distance_bias import DistanceBias
from atento.statistics.block import Extent
from atento.statistics.compiled import Packed, Scored, is_worth_compiling, packs, reduced
from atento.statistics.finite import HIGHEST, LOWEST, is_tame
from atento.statistics.folding import Weighed, fold_share
from atento.statistics.gathering import Parts, gathered
from atento.statistics.reducer import Asks, Wanted
from atento.statistics.sharing import Rectangle, Share, block_size, shares
from atento.statistics.statistic import Statistic

__all__ = ["fold_on_numpy"]

Array = Any
Result = TypeVar("Result")


def fold_on_numpy(
    request: Request,
    lse: Array,
    statistics: Sequence[Statistic],
    extents: Callable[[int], Extent],
) -> dict[str, Array]:
    """Each result, (batch item, ...); nothing for an empty batch."""
    threads = available_cores()
    tame = is_tame(request, _largest)
    compiled = is_worth_compiling(request)

    def work(share: Share) -> tuple[int, Parts]:
        extent = extents(share.item)
        weights = partial(_Weights, request, lse, share, tame, compiled, extent)
        # NaN and ∞ in the inputs are passed on as numbers are, without NumPy's warnings.
        with np.errstate(all="ignore"):
            return fold_share(share, extent, statistics, weights)

    tasks = [partial(work, share) for share in shares(request, threads, block_size(compiled)[0])]
    with one_blas_thread():
        *batches, heads = request.query.shape[:-2] or (1,)
        return gathered(_in_order(tasks, threads), heads, prod(batches))


def _in_order(tasks: Sequence[Callable[[], Result]], threads: int) -> Iterator[Result]:
    """Run the tasks on threads; their results in the order of the tasks."""
    if threads == 1 or len(tasks) < 2:
        yield from (task() for task in tasks)
        return
    with ThreadPoolExecutor(min(threads, len(tasks))) as pool:
        futures = [pool.submit(task) for task in tasks]
        futures.reverse()
        try:
            while futures:  # a result that was taken is not held any longer
                yield futures.pop().result()
        finally:
            for future in futures:
                future.cancel()


def _largest(array: Array) -> float:
    """The largest magnitude; NaN when there is one."""
    return float(np.maximum(array.max(), -array.min()))


class _Weights:
    """The weights of a share in NumPy, block by block, in memory that serves for all blocks."""

    def __init__(
        self,
        request: Request,
        lse: Array,
        share: Share,
        tame: bool,
        compiled: bool,
        extent: Extent,
        asks: list[Asks],
    ) -> None:
        self.share, self.softcap, self.tame = share, request.softcap, tame
        self.lowest = LOWEST[dtype_name(np.empty(0, request.compute_dtype))]
        apart = compiled or request.softcap is not None
        packed = compiled and packs(request)
        self.heads = [] if packed else [_head(request, lse, at, apart) for at in share.index]
        self.packed = _packed(request, lse, share) if packed else []
        tall, self.widest = block_size(compiled)
        size = min(tall, request.query.shape[-2]), min(self.widest, request.key.shape[-2])
        self.memory = [
            np.empty(prod(size), request.compute_dtype) for _ in range(1 if compiled else 2)
        ]
        self.wanted = Wanted(frozenset().union(*asks), extent) if compiled else None
        self.makes: Asks = self.wanted.asks if self.wanted else frozenset()
        self.reads = not all(names <= self.makes for names in asks)

    def __call__(self, rows: range, rectangles: list[Rectangle]) -> Iterator[Weighed]:
        """Weights and log-weights (1, query, key), or reductions, of each head in turn."""
        if self.wanted:
            units: Iterable[Packed | Scored] = self.packed or self._scored()
            yield from reduced(rows, rectangles, self.wanted, units, self.reads)
            return
        for block in rectangles:
            for number, head in zip(self.share.heads, self.heads, strict=True):
                scores, visible = self._scores(head, block)
                weights = self._exp(head, block, scores, visible)
                yield range(number, number + 1), block.cols, weights[None], scores[None], None

    def _scored(self) -> Iterator[Scored]:
        """What the kernel asks of each head."""
        for number, head in zip(self.share.heads, self.heads, strict=True):
            yield Scored(number, head.lse[:, 0], partial(self._scores, head))

    def _scores(self, head: "_Head", block: Rectangle) -> tuple[Array, Array | None]:
        """Scores, less the log-sum-exp where it is a feature; where the bias lets see, or None."""
        rows, cols = _slice(block.rows), _slice(block.cols)
        shape = (len(block.rows), len(block.cols))
        scores = self.memory[0][: prod(shape)].reshape(shape)
        np.matmul(head.query[rows], head.key[cols].T, out=scores)
        if self.softcap is not None:
            np.tanh(scores, out=scores)
            scores *= self.softcap
        if head.bias is None:
            return scores, None
        tile = head.tile(block)
        scores += tile
        return scores, tile != -np.inf if head.hides else None

    def _exp(self, head: "_Head", block: Rectangle, logs: Array, visible: Array | None) -> Array:
        """Weights from scores, which become their logarithms."""
        rows = _slice(block.rows)
        weights = self.memory[1][: logs.size].reshape(logs.shape)
        masked = block.masked if visible is None else [*block.masked, (slice(None), visible)]
        if self.softcap is not None:
            logs -= np.where(head.seen[rows], head.lse[rows], 0)
        np.maximum(logs, self.lowest, out=logs)
        if masked:
            np.minimum(logs, HIGHEST, out=logs)
        np.exp(logs, out=weights)
        if not self.tame:
            masked = [*masked, (slice(None), head.seen[rows])]
        for own, pairs in masked:
            if self.tame:
                weights[:, own] *= pairs
            else:  # 0 · NaN is NaN
                np.copyto(weights[:, own], 0, where=~pairs)
                np.copyto(logs[:, own], self.lowest, where=~pairs)
        return weights


@dataclass(frozen=True, eq=False)
class _Head:
    """One (batch, head), in the dtype that is computed in.

    Where nothing comes between the product and the log-sum-exp, ``−lse`` is one more feature of the
    query, and 1 of the key: their product is the log-weight at once.

    Attributes:
        query: (query, feature), times the scale.
        key: (key, feature).
        lse: (query, 1), −∞ for a query that sees no key.
        seen: (query, 1), whether it sees any.
        bias: that of this head.
        hides: whether −∞ stands in it: a mask written as a bias.
    """

    query: Array
    key: Array
    lse: Array
    seen: Array
    bias: Any
    hides: bool

    def tile(self, block: Rectangle) -> Array:
        if isinstance(self.bias, DistanceBias):
            return self.bias.tile(block.rows, block.cols)
        return self.bias[_slice(block.rows), _slice(block.cols)]


def _head(request: Request, lse: Array, at: tuple[int, ...], apart: bool) -> _Head:
    """One head; `apart`: the log-sum-exp is subtracted later."""
    dtype = request.compute_dtype
    query = request.query[at].astype(dtype) * (request.scale / (request.softcap or 1.0))
    key = request.key[(*at[:-1], at[-1] // request.group) if at else ()].astype(dtype, copy=False)
    own = np.array(lse[at], dtype)[:, None]
    seen = own != -np.inf
    if not apart:
        query = np.concatenate([query, -np.where(seen, own, 0)], axis=-1)
        key = np.concatenate([key, np.ones_like(key[:, :1])], axis=-1)
    bias = _bias(request, at)
    numbers = bias.values if isinstance(bias, DistanceBias) else bias
    hides = numbers is not None and numbers.size > 0 and not numbers.min() > -np.inf
    return _Head(query, key, own, seen, bias, hides)


def _packed(request: Request, lse: Array, share: Share) -> list[Packed]:
    """The heads of a share, for products in the kernel; heads of a group have the same keys."""
    made: list[Packed] = []
    of_group: dict[tuple[int, ...], Packed] = {}
    for number, at in zip(share.heads, share.index, strict=True):
        group = (*at[:-1], at[-1] // request.group) if at else ()
        key = of_group[group] if group in of_group else request.key[group]
        own = np.asarray(lse[at], np.float32)
        made.append(Packed(number, own, request.query[at], key, request.scale))
        of_group[group] = made[-1]
    return made


def _bias(request: Request, at: tuple[int, ...]) -> Any:
    """The bias of one (batch, head)."""
    bias = request.bias
    if isinstance(bias, DistanceBias):
        values = np.broadcast_to(bias.values, (*request.weights_shape[:-2], bias.values.shape[-1]))
        return DistanceBias(values[at], bias.lengths)
    return None if bias is None else np.broadcast_to(bias, request.weights_shape)[at]


def _slice(span: range) -> slice:
    return slice(span.start, span.stop)
