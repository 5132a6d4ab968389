"""Statistics folded over exact weights, block by block, in O(T) memory.

Once the log-sum-exp of every row is known, each block of weights can be computed by itself and let
go: ``weights = exp(score − lse)``, as the backward pass of attention does (Dao et al. 2022, arXiv
2205.14135, algorithm 4). Blocks that the mask empties are skipped.

Threads take some heads of a batch item each, and fold parts of their own. Those are merged in the
order in which the work was cut, so that the same bits come each time.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from math import prod
from typing import Any, Protocol

from atento._arrays import is_torch
from atento._errors import ShapeError
from atento.equation.request import Request
from atento.statistics.block import Block, Extent
from atento.statistics.extents import default_first_query, extents_of, position_of_query_0
from atento.statistics.sharing import Rectangle, Share, rectangles
from atento.statistics.statistic import Statistic

__all__ = ["check_foldable", "default_first_query", "fold", "fold_share", "merged", "result_axes"]

Array = Any
Asks = frozenset[Hashable]
"""Names of reductions that the statistics of a fold ask of each block."""

Weighed = tuple[range, range, Any, Any, dict[Hashable, Any] | None]
"""Heads and keys; weights and log-weights of a rectangle, or reductions of several."""


class Engine(Protocol):
    """What makes the weights of a share."""

    widest: int
    """Keys in a rectangle at most."""

    reduces: bool
    """Whether it makes reductions too: then statistics that ask for nothing else get those alone,
    for several rectangles at once."""

    def __call__(self, rows: range, rectangles: list[Rectangle]) -> Iterator[Weighed]:
        """What is known of these queries."""


Parts = list[Statistic]


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
    extents = extents_of(request, tokens, position_of_query_0(request, first_query))
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
        from atento.statistics.on_numpy import fold_on_numpy

        items = fold_on_numpy(request, lse, statistics, extents)
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


def check_foldable(request: Request, tokens: Any = None) -> None:
    """Raise what `fold` would, before anything is computed."""
    extents_of(request, tokens, default_first_query(request))


def fold_share(
    share: Share,
    extent: Extent,
    statistics: Sequence[Statistic],
    engine: Callable[[Asks], Engine],
) -> tuple[int, Parts]:
    """Parts that have seen all blocks of a share, and the number of its batch item.

    Args:
        share: what to fold.
        extent: that of its batch item.
        statistics: as they were asked for.
        engine: makes, knowing what the statistics ask for, what makes the weights.
    """
    parts = [statistic.start(extent) for statistic in statistics]
    compute = engine(frozenset(name for part in parts for name in part.asks() or ()))
    by_reductions = [part for part in parts if compute.reduces and part.asks() is not None]
    by_weights = [part for part in parts if not compute.reduces or part.asks() is None]
    for rows in share.rows:
        cut = list(rectangles(share, rows, extent.keys, compute.widest))
        for heads, *known in compute(rows, cut):
            block = Block(extent, heads, rows, *known)
            for part in by_reductions if block.weights is None else by_weights:
                part.update(block)
    return share.item, parts


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


def _axes(statistics: Sequence[Statistic]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for statistic in statistics:
        yield from statistic.results.items()


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
