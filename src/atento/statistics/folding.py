"""Statistics folded over exact weights, block by block, in O(T) memory.

Once the log-sum-exp of every row is known, each block of weights can be computed by itself and let
go: ``weights = exp(score − lse)``, as the backward pass of attention does (Dao et al. 2022, arXiv
2205.14135, algorithm 4). Blocks that the mask empties are skipped.

Threads take some heads of a batch item each, and fold parts of their own. Those are merged in the
order in which the work was cut, so that the same bits come each time.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, TypeVar

import numpy as np

from atento._arrays import dtype_name, is_numpy, is_torch, library_name, to_numpy
from atento._errors import DTypeError, EngineError, InputError, ShapeError
from atento.equation.blas import available_cores, one_blas_thread
from atento.equation.request import Request
from atento.equation.schedule import blocks, pieces
from atento.masks import Mask
from atento.masks.band import Band
from atento.masks.mask import Both, Either, Not
from atento.positions.distance_bias import DistanceBias
from atento.statistics.block import Block, Extent
from atento.statistics.statistic import Statistic

__all__ = [
    "Rectangle",
    "Share",
    "check_foldable",
    "default_first_query",
    "fold",
    "fold_share",
    "is_tame",
    "merged",
    "result_axes",
    "shares",
]

ROWS, COLS = 256, 512
"""Queries × keys in a block: half a MB in float32."""

CELLS = 2**18
"""Weights in a block: several heads fill it, so that little time goes into calling operations.
In float32 a MB, so that weights and their logarithms lie in a core's caches."""

FINE = 128
"""Keys in the smallest block that is skipped when the mask empties it."""

LOWEST = {"float32": -87.0, "float64": -708.0}
"""exp of these is close to the last normal number; exp is tens of times slower below."""

HIGHEST = 1.0
"""A logarithm behind the mask is held below this. A weight's own is at most 0."""

Array = Any
Blocks = Callable[["Rectangle"], Iterator[tuple[range, Array, Array]]]
"""The heads, weights and log-weights of one rectangle, some heads at a time."""

Parts = list[Statistic]
Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class Share:
    """What one thread folds: some heads of one batch item, and some of their queries.

    Attributes:
        item: the number of the batch item, counted in row-major order.
        heads: its query heads.
        index: where each of those heads stands in the query's leading axes.
        mask: bound, without leading axes; the same for all these heads.
        rows: the blocks of queries.
    """

    item: int
    heads: range
    index: list[tuple[int, ...]]
    mask: Mask | None
    rows: list[range]


@dataclass(frozen=True, eq=False)
class Rectangle:
    """Queries × keys of one block, and where in it the mask hides some.

    Attributes:
        rows, cols: which queries and keys.
        masked: columns, counted within the block, and who attends there: (query, key) bools.
    """

    rows: range
    cols: range
    masked: list[tuple[slice, Array]]


def fold(
    request: Request,
    lse: Array,
    statistics: Sequence[Statistic],
    *,
    tokens: Any = None,
    first_query: int | None = None,
) -> dict[str, Array]:
    """Fold statistics over the exact weights of a request; the weights are never held.

    They are those before dropout. NaN in a query or in a key that it may see shows as NaN in what
    is folded of that pair; behind the mask it adds nothing.

    Args:
        request: checked, its mask bound.
        lse: (..., head, query), the log-sum-exp of each row, sinks included; −inf for a query that
            sees no key.
        statistics: instances of subclasses of `Statistic`.
        tokens: token ids, (token,) or (batch, token), of the keys; the queries' are those from
            ``first_query`` on. Or a pair: (query tokens, key tokens).
        first_query: the position of query 0 on the keys' axis. Left out: keys − queries where there
            are at least as many keys as queries and no mask aligned at the start, otherwise 0.

    Returns:
        Each result by name, in the inputs' library: the axes that the statistic names, with the
        query's batch axes in front, and without "head" where the query has no such axis.

    Raises:
        ShapeError, InputError, DTypeError: for tokens, a log-sum-exp or a position that do not fit.
        EngineError: for arrays that are neither NumPy's nor PyTorch's, or cannot be looked at.
    """
    extents = _extents(request, tokens, _first_query(request, first_query))
    if tuple(lse.shape) != tuple(request.query.shape[:-1]):
        raise ShapeError(
            f"lse must hold one number per query, {tuple(request.query.shape[:-1])}; "
            f"got {tuple(lse.shape)}."
        )
    if not statistics:
        return {}
    if is_torch(request.query):
        from atento.statistics.on_torch import fold_on_torch

        items = fold_on_torch(request, lse, statistics, extents)
    else:
        items = _fold_on_numpy(request, lse, statistics, extents)
    if not items:  # an empty batch: the shapes are those of a part that has seen nothing
        items = [_results(s.start(extents(0)) for s in statistics)]
    return {name: _batched(request, items, name, axes) for name, axes in _axes(statistics)}


def result_axes(request: Request, statistics: Sequence[Statistic]) -> dict[str, tuple[str, ...]]:
    """The name of each axis of each result of `fold`."""
    ahead = request.leading_axes[:-1]
    headless = request.query.ndim == 2
    return {
        name: (*ahead, *(axis for axis in axes if not (headless and axis == "head")))
        for name, axes in _axes(statistics)
    }


def _axes(statistics: Sequence[Statistic]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for statistic in statistics:
        yield from statistic.results.items()


def _check_library(request: Request) -> None:
    if not (is_torch(request.query) or is_numpy(request.query)):
        raise EngineError(
            "statistics are folded over NumPy arrays and PyTorch tensors; got "
            f"{library_name(request.query)} arrays. Convert query, key and value to one of these."
        )
    if request.opaque:
        raise EngineError(
            "statistics are folded over numbers and the mask, block by block, which cannot be done "
            "while torch traces the call or without numbers (meta device, torch.func). "
            "Call it outside of torch.compile, torch.export and torch.func."
        )


def default_first_query(request: Request) -> int:
    """The position of query 0 where none is said.

    Keys − queries, so that the last of both stand together, as in decoding with a cache; 0 where a
    mask is aligned at the start, or there are more queries than keys.
    """
    Tq, Tk = request.weights_shape[-2:]
    return 0 if Tq > Tk or _starts_together(request.mask) else Tk - Tq


def _starts_together(mask: Mask | None) -> bool:
    if isinstance(mask, Both | Either):
        return _starts_together(mask.first) or _starts_together(mask.second)
    if isinstance(mask, Not):
        return _starts_together(mask.rule)
    return isinstance(mask, Band) and getattr(mask.rule, "align", None) == "start"


def _first_query(request: Request, given: int | None) -> int:
    if given is None:
        return default_first_query(request)
    if isinstance(given, bool) or not hasattr(given, "__index__"):
        raise InputError(
            "first_query must be a whole number, the position of query 0 on the keys' axis; "
            f"got {given!r}."
        )
    return int(given)


def check_foldable(request: Request, tokens: Any = None) -> None:
    """Raise what `fold` would, before anything is computed."""
    _extents(request, tokens, default_first_query(request))


def _extents(request: Request, tokens: Any, first_query: int) -> Callable[[int], Extent]:
    """The extent of each batch item, by its number."""
    _check_library(request)
    *batches, heads = request.query.shape[:-2] or (1,)
    Tq, Tk = request.weights_shape[-2:]
    of_query, of_key = _pair_of_tokens(tokens, first_query, Tq, Tk)
    ids = [
        None if own is None else _checked_tokens(request, name, own, tuple(batches), length)
        for name, own, length in (("query", of_query, Tq), ("key", of_key, Tk))
    ]

    def extent(item: int) -> Extent:
        own = [None if array is None else array[item] for array in ids]
        return Extent(
            heads=heads,
            queries=Tq,
            keys=Tk,
            first_query=first_query,
            xp=request.xp,
            dtype=request.compute_dtype,
            device=request.device,
            query_tokens=own[0],
            key_tokens=own[1],
        )

    return extent


def _pair_of_tokens(tokens: Any, first_query: int, Tq: int, Tk: int) -> tuple[Any, Any]:
    """Token ids of the queries and of the keys, from one array or from a pair."""
    if tokens is None:
        return None, None
    if (
        isinstance(tokens, tuple)
        and len(tokens) == 2
        and not isinstance(tokens[0], int | np.integer)
    ):
        return tokens
    ids = _whole_numbers("tokens", tokens)
    if ids.ndim and ids.shape[-1] == Tk and 0 <= first_query <= Tk - Tq:
        return ids[..., first_query : first_query + Tq], ids
    raise ShapeError(
        f"tokens must hold one id per key, and the queries' from position {first_query} on: "
        f"there are {Tq} queries and {Tk} keys; got tokens {tuple(ids.shape)}. "
        "Where queries and keys are different tokens, give both: tokens=(query_ids, key_ids)."
    )


def _whole_numbers(name: str, tokens: Any) -> Any:
    try:
        ids = to_numpy(tokens)
    except ValueError:
        raise ShapeError(f"{name} must be (token,) or (batch, token), not ragged.") from None
    if not dtype_name(ids).startswith(("int", "uint")) and ids.size:
        raise DTypeError(
            f"{name} must be token ids, whole numbers as a tokenizer gives them; "
            f"got {dtype_name(ids)}."
        )
    return ids.astype(np.int64)


def _checked_tokens(
    request: Request, name: str, tokens: Any, batches: tuple[int, ...], length: int
) -> Array:
    """Token ids (batch item, token), in the request's library."""
    ids = _whole_numbers(f"the {name} tokens", tokens)
    if ids.shape not in ((length,), (*batches, length)):
        wanted = f"({length},)" + (f" or {(*batches, length)}" if batches else "")
        raise ShapeError(
            f"the {name} tokens must be one id per {name}, {wanted}; got {tuple(ids.shape)}."
        )
    each = np.broadcast_to(ids, (*batches, length)).reshape(prod(batches), length)
    if not len(each):
        each = np.zeros((1, length), np.int64)  # of an empty batch
    return request.xp.asarray(np.array(each), device=request.device)


def shares(request: Request, threads: int) -> Iterator[Share]:
    """The work, cut so that no thread is idle: by batch item, by heads, and then by queries."""
    *batches, heads = request.query.shape[:-2] or (1,)
    mask, axes = request.mask, request.query.ndim - 2
    spans = list(blocks(request.query.shape[-2], ROWS))
    units = prod(batches) * heads
    by_head = mask is not None and bool(mask.leading) and mask.leading[-1] > 1
    per_item = -(-2 * threads // max(prod(batches), 1))
    size = 1 if by_head else max(1, -(-heads // per_item))
    ways = max(1, min(-(-threads // max(units, 1)), len(spans)))
    for item, batch in enumerate(np.ndindex(*batches)):
        for own in blocks(heads, size) if heads else [range(0)]:
            index = [(*batch, head)[:axes] for head in own]
            for way in range(ways):
                yield Share(
                    item=item,
                    heads=own,
                    index=index,
                    mask=None if mask is None or not index else mask.at(index[0]),
                    rows=spans[way::ways] if index else [],
                )


def fold_share(
    share: Share, extent: Extent, statistics: Sequence[Statistic], compute: Blocks
) -> tuple[int, Parts]:
    """Parts that have seen all blocks of a share, and the number of its batch item."""
    parts = [statistic.start(extent) for statistic in statistics]
    for rows in share.rows:
        for rectangle in _rectangles(share.mask, rows, extent.keys):
            for heads, weights, log_weights in compute(rectangle):
                block = Block(extent, heads, rows, rectangle.cols, weights, log_weights)
                for part in parts:
                    part.update(block)
    return share.item, parts


def _rectangles(mask: Mask | None, rows: range, keys: int) -> Iterator[Rectangle]:
    """What these queries look at, in blocks of at most COLS keys.

    Neighbours become one block where they fit: fewer blocks, less time that goes into calls.
    """
    masked: list[tuple[slice, Array]] = []
    cols = range(0)
    for run in pieces(mask, rows, keys, FINE):
        for piece in run.cut(COLS):
            if piece.cols.start != cols.stop or len(cols) + len(piece.cols) > COLS:
                if cols:
                    yield Rectangle(rows, cols, masked)
                cols, masked = range(piece.cols.start, piece.cols.start), []
            cols = range(cols.start, piece.cols.stop)
            if piece.visible is not None:
                own = slice(piece.cols.start - cols.start, piece.cols.stop - cols.start)
                masked.append((own, piece.visible))
    if cols:
        yield Rectangle(rows, cols, masked)


def merged(made: Iterator[tuple[int, Parts]]) -> Iterator[dict[str, Array]]:
    """The results of each batch item, from the parts of its shares in their order."""
    parts: Parts = []
    before = -1
    for item, own in made:
        if item != before:
            if parts:
                yield _results(parts)
            before, parts = item, own
            continue
        for part, other in zip(parts, own, strict=True):
            part.merge(other)
    if parts:
        yield _results(parts)


def _results(parts: Any) -> dict[str, Array]:
    return {name: array for part in parts for name, array in part.result().items()}


def _batched(
    request: Request, items: list[dict[str, Array]], name: str, axes: tuple[str, ...]
) -> Array:
    """One result of all batch items, with the query's batch axes in front."""
    own = [item.pop(name) for item in items]
    if any(array.ndim != len(axes) for array in own):
        raise ShapeError(
            f"the statistic {name!r} says its axes are {axes}, and its result has "
            f"{own[0].ndim}: {tuple(own[0].shape)}."
        )
    array = request.xp.stack(own, axis=0)
    if request.query.ndim == 2:
        at = tuple(0 if axis == "head" else slice(None) for axis in axes)
        return array[0][at]
    batches = request.query.shape[:-3]
    return request.xp.reshape(array[: prod(batches)], (*batches, *own[0].shape))


def is_tame(request: Request, largest: Callable[[Array], float]) -> bool:
    """Whether no score can be NaN or ∞, seen or behind the mask.

    ``|q · k| <= d · max |q| · max |k|``; the comparison is False where a maximum is NaN. A bias
    may hold −∞, as a mask written as one does.
    """
    query, key, bias = request.query, request.key, request.bias
    if isinstance(bias, DistanceBias):
        bias = bias.values
    if 0 in (*query.shape, *key.shape) or (bias is not None and 0 in bias.shape):
        return True
    limit = 1e30 if dtype_name(query) != "float64" else 1e300
    scores = query.shape[-1] * largest(query) * largest(key) * max(abs(request.scale), 1.0)
    with np.errstate(all="ignore"):
        # A sum is NaN where a number is; −∞ alone leaves it −∞.
        sums = [float(added.sum()) for added in (bias, request.sinks) if added is not None]
    return scores < limit and all(total < np.inf for total in sums)


def _fold_on_numpy(
    request: Request,
    lse: Array,
    statistics: Sequence[Statistic],
    extents: Callable[[int], Extent],
) -> list[dict[str, Array]]:
    """The results of each batch item."""
    threads = available_cores()
    tame = is_tame(request, _largest)

    def work(share: Share) -> tuple[int, Parts]:
        weights = _Weights(request, lse, share, tame)
        # NaN and ∞ in the inputs are passed on as numbers are, without NumPy's warnings.
        with np.errstate(all="ignore"):
            return fold_share(share, extents(share.item), statistics, weights)

    tasks = [partial(work, share) for share in shares(request, threads)]
    with one_blas_thread():
        return list(merged(_in_order(tasks, threads)))


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

    def __init__(self, request: Request, lse: Array, share: Share, tame: bool) -> None:
        self.share, self.softcap, self.tame = share, request.softcap, tame
        self.lowest = LOWEST[dtype_name(np.empty(0, request.compute_dtype))]
        self.heads = [_head(request, lse, at) for at in share.index]
        size = min(ROWS, request.query.shape[-2]) * min(COLS, request.key.shape[-2])
        self.memory = [np.empty(size, request.compute_dtype) for _ in range(2)]

    def __call__(self, block: Rectangle) -> Iterator[tuple[range, Array, Array]]:
        """Weights and log-weights (1, query, key) of each head in turn."""
        for number, head in zip(self.share.heads, self.heads, strict=True):
            weights, logs = self._of(head, block)
            yield range(number, number + 1), weights[None], logs[None]

    def _of(self, head: "_Head", block: Rectangle) -> tuple[Array, Array]:
        rows, cols = _slice(block.rows), _slice(block.cols)
        shape = (len(block.rows), len(block.cols))
        weights, logs = (array[: prod(shape)].reshape(shape) for array in self.memory)
        masked = block.masked
        np.matmul(head.query[rows], head.key[cols].T, out=logs)
        if self.softcap is not None:
            np.tanh(logs, out=logs)
            logs *= self.softcap
            logs -= head.lse[rows]
        if head.bias is not None:
            tile = head.tile(block)
            logs += tile
            if head.hides:
                masked = [*masked, (slice(None), tile != -np.inf)]
        np.maximum(logs, self.lowest, out=logs)
        if masked:
            np.minimum(logs, HIGHEST, out=logs)
        np.exp(logs, out=weights)
        if not self.tame:
            masked = [*masked, (slice(None), head.seen[rows])]
        for own, visible in masked:
            if self.tame:
                weights[:, own] *= visible
            else:  # 0 · NaN is NaN
                np.copyto(weights[:, own], 0, where=~visible)
                np.copyto(logs[:, own], self.lowest, where=~visible)
        return weights, logs


@dataclass(frozen=True, eq=False)
class _Head:
    """One (batch, head), in the dtype that is computed in.

    Without a softcap, ``−lse`` is one more feature of the query, and 1 of the key: their product is
    the log-weight at once.

    Attributes:
        query: (query, feature), times the scale.
        key: (key, feature).
        lse: (query, 1), and 0 for a query that sees no key.
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


def _head(request: Request, lse: Array, at: tuple[int, ...]) -> _Head:
    dtype = request.compute_dtype
    query = request.query[at].astype(dtype) * (request.scale / (request.softcap or 1.0))
    key = request.key[(*at[:-1], at[-1] // request.group) if at else ()].astype(dtype, copy=False)
    own = lse[at].astype(dtype)[:, None]
    seen = own != -np.inf
    own = np.where(seen, own, 0)
    if request.softcap is None:
        query = np.concatenate([query, -own], axis=-1)
        key = np.concatenate([key, np.ones_like(key[:, :1])], axis=-1)
    bias = _bias(request, at)
    numbers = bias.values if isinstance(bias, DistanceBias) else bias
    hides = numbers is not None and numbers.size > 0 and not numbers.min() > -np.inf
    return _Head(query, key, own, seen, bias, hides)


def _bias(request: Request, at: tuple[int, ...]) -> Any:
    """The bias of one (batch, head)."""
    bias = request.bias
    if isinstance(bias, DistanceBias):
        values = np.broadcast_to(bias.values, (*request.weights_shape[:-2], bias.values.shape[-1]))
        return DistanceBias(values[at], bias.lengths)
    return None if bias is None else np.broadcast_to(bias, request.weights_shape)[at]


def _slice(span: range) -> slice:
    return slice(span.start, span.stop)
