"""Statistics folded over exact weights, block by block, in O(T) memory.

Once the log-sum-exp of every row is known, each block of weights can be computed by itself and let
go: ``weights = exp(score − lse)``, as the backward pass of attention does (Dao et al. 2022, arXiv
2205.14135, algorithm 4). Blocks that the mask empties are skipped.

Threads take some heads of a batch item each, and fold parts of their own. Those of the same heads
are merged in the order in which the work was cut, so that the same bits come each time; those of
others are put side by side (`gathering.py`).
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from math import prod
from typing import Any, Protocol

from atento._arrays import is_torch
from atento._errors import ShapeError
from atento.equation.request import Request
from atento.statistics.block import Block, Extent
from atento.statistics.extents import default_first_query, extents_of, position_of_query_0
from atento.statistics.gathering import Parts, gathered, is_by_head
from atento.statistics.reducer import Asks
from atento.statistics.sharing import Rectangle, Share, rectangles
from atento.statistics.statistic import Statistic

__all__ = ["check_foldable", "default_first_query", "fold", "fold_share", "result_axes"]

Array = Any
Weighed = tuple[range, range, Any, Any, dict[Hashable, Any] | None]
"""Heads and keys; weights and log-weights of a rectangle, or reductions of several."""


class Engine(Protocol):
    """What makes the weights of a share."""

    widest: int
    """Keys in a rectangle at most."""

    makes: Asks
    """The reductions that it makes too: statistics that ask for no others get those alone, for
    several rectangles at once."""

    def __call__(self, rows: range, rectangles: list[Rectangle]) -> Iterator[Weighed]:
        """What is known of these queries."""


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

        found = fold_on_torch(request, lse, statistics, extents)
    else:
        from atento.statistics.on_numpy import fold_on_numpy

        found = fold_on_numpy(request, lse, statistics, extents)
    if not found:  # an empty batch: the shapes are those of a part that has seen nothing
        found = gathered(iter([(0, [s.start(extents(0)) for s in statistics])]), extents(0).heads)
    return {name: _batched(request, found[name], axes) for name, axes in _axes(statistics)}


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
    engine: Callable[[list[Asks]], Engine],
) -> tuple[int, Parts]:
    """Parts that have seen all blocks of a share, and the number of its batch item.

    Args:
        share: what to fold.
        extent: that of its batch item.
        statistics: as they were asked for.
        engine: makes, knowing what each of the statistics asks for, what makes the weights.
    """
    own = extent.of_heads(share.heads)
    by_head = [is_by_head(statistic) for statistic in statistics]
    parts = [
        statistic.start(own if apart else extent)
        for statistic, apart in zip(statistics, by_head, strict=True)
    ]
    asked = [_asked(part) for part in parts]
    compute = engine(asked)
    from_reductions = [asks <= compute.makes for asks in asked]
    for rows in share.rows:
        cut = list(rectangles(share, rows, extent.keys, compute.widest))
        for heads, *known in compute(rows, cut):
            block = Block(own, _within(heads, share.heads), rows, *known)
            whole = Block(extent, heads, rows, *known)
            whole.cache = block.cache
            for part, apart, reduced in zip(parts, by_head, from_reductions, strict=True):
                if reduced == (block.weights is None):
                    part.update(block if apart else whole)
    return share.item, parts


def _asked(part: Statistic) -> Asks:
    """What it asks for; a name that no engine knows where it reads the weights."""
    asks = part.asks()
    return frozenset(["weights"]) if asks is None else frozenset(asks)


def _within(heads: range, own: range) -> range:
    return range(heads.start - own.start, heads.stop - own.start)


def _axes(statistics: Sequence[Statistic]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for statistic in statistics:
        yield from statistic.results.items()


def _batched(request: Request, array: Array, axes: tuple[str, ...]) -> Array:
    """A result (batch item, ...) with the query's batch axes in front."""
    if request.query.ndim == 2:
        at = tuple(0 if axis == "head" else slice(None) for axis in axes)
        return array[0][at]
    batches = request.query.shape[:-3]
    return request.xp.reshape(array[: prod(batches)], (*batches, *array.shape[1:]))
