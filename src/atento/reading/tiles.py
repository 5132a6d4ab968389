"""Weights computed again from q, k and log-sum-exp: a rectangle, as it is or pooled.

    weight = exp( softcap(q · k · scale) + bias − lse ), and 0 where the mask hides

A pooled tile at zoom z shows cells of 2^z × 2^z weights by their mean or their maximum. Up to
`MOST_PAIRS` weights are computed when they are asked for, in strips that stay in the cache. A tile
that covers more is pooled from the overview that was folded while the model ran: `pyramid.py`.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from atento._errors import ShapeError
from atento.equation.blas import available_cores, one_blas_thread
from atento.equation.schedule import blocks_of
from atento.masks import ALL, NONE, Coverage, Mask
from atento.positions.distance_bias import DistanceBias
from atento.reading.pooling import pair_counts, pool_axis

__all__ = ["MOST_PAIRS", "BiasTile", "HeadWeights", "bias_of", "pooled", "tile_shape"]

Array = npt.NDArray[Any]
BiasTile = Callable[[range, range], Array]
Fill = Callable[[Array], bool]
Ready = Callable[[range], "_Keys"]
Tasks = Iterator[tuple[range, range]]

ROWS, COLS = 256, 512
"""Queries × keys that are computed at a time: half a MB in float32, within a core's own cache."""

BAND, SPAN = 512, 4096
"""Queries × keys that a thread takes at a time. Whoever is done takes the next, so that a core that
others use as well holds up only what is on it."""

READY = 32
"""So many blocks of COLS keys are kept ready for the bands that look at them next."""

MOST_PAIRS = 2**24
"""A tile of more weights comes from the overview, where there is one that is fine enough."""

SHARED_FROM = 2**20
"""From so many weights on a tile is shared out to threads."""

LOWEST = {"f": -87.0, "d": -708.0}
"""exp of these is close to the last normal number; below, exp is tens of times slower."""


@dataclass(frozen=True, eq=False)
class HeadWeights:
    """The weights of one head, not computed yet.

    Attributes:
        query: (query, feature). key: (key, feature). lse: (query,).
        mask: without leading axes, or None. bias: called with rows and columns, or None.
        dtype: float32 or float64, in which weights are computed.
    """

    query: Array
    key: Array
    lse: Array
    mask: Mask | None
    bias: BiasTile | None
    scale: float
    softcap: float | None
    dtype: npt.DTypeLike

    @property
    def lengths(self) -> tuple[int, int]:
        """(Tq, Tk)."""
        return self.query.shape[0], self.key.shape[0]

    def rectangle(self, rows: range, cols: range) -> Array:
        """The weights of a rectangle (len(rows), len(cols)); memory: those, and a few strips."""
        result, keys = np.zeros((len(rows), len(cols)), self.dtype), self.ready()

        def work(tasks: Tasks) -> None:
            for own, wide, fill in (strip for task in tasks for strip in self.strips(*task, keys)):
                at = slice(own.start - rows.start, own.stop - rows.start)
                to = slice(wide.start - cols.start, wide.stop - cols.start)
                fill(result[at, to])

        _share(work, rows, cols, 1)
        return result

    def ready(self) -> Ready:
        """What makes keys ready, for all strips of a rectangle and in all threads."""
        return lru_cache(READY)(partial(_Keys, self))

    def strips(
        self, rows: range, cols: range, keys: Ready, logarithms: bool = False
    ) -> Iterator[tuple[range, range, Fill]]:
        """The rectangle in strips of at most ROWS × COLS, and what computes each.

        Args:
            rows: the queries.
            cols: the keys.
            keys: of `ready`.
            logarithms: whether those of the weights are computed, −∞ behind the mask.

        Yields:
            Queries, keys, and a function that writes their weights into an array of that shape.
            It answers False when the mask hides all of them: then the array is left as it was.
        """
        queries = _Queries(self, rows)
        for wide in blocks_of(cols, COLS):
            for own in blocks_of(rows, ROWS):
                yield own, wide, partial(self._fill, queries, keys(wide), own, logarithms)

    def _fill(
        self, queries: "_Queries", keys: "_Keys", rows: range, logarithms: bool, out: Array
    ) -> bool:
        cols, hidden = keys.cols, -np.inf if logarithms else 0.0
        seen = ALL if self.mask is None else self._seen(self.mask, rows, cols)
        if seen is NONE:
            return False
        own = slice(rows.start - queries.rows.start, rows.stop - queries.rows.start)
        # NaN and ∞ are passed on as numbers are, without NumPy's warnings.
        with np.errstate(all="ignore"):
            np.matmul(queries.scaled[own], keys.transposed, out=out)
            if self.softcap is not None:
                np.tanh(out, out=out)
                out *= self.softcap
                out -= queries.lse[own, None]
            if self.bias is not None:
                out += self.bias(rows, cols)
            if not logarithms:
                _exp(out)
        if not isinstance(seen, Coverage):
            np.copyto(out, hidden, where=~seen)
        if queries.some_empty and queries.empty[own].any():
            out[queries.empty[own]] = hidden
        return True

    def _seen(self, mask: Mask, rows: range, cols: range) -> Coverage | npt.NDArray[np.bool_]:
        covered = mask.coverage(rows, cols)
        return mask.block(rows, cols) if covered is None else covered


class _Queries:
    """Some queries, times the scale, ready for products with `_Keys`.

    Without a softcap they have one feature more, −lse, and keys have 1 there: the product is the
    logarithm of the weight at once, in a fifth of the time of subtracting it after.
    """

    def __init__(self, head: HeadWeights, rows: range) -> None:
        at = slice(rows.start, rows.stop)
        lse = head.lse[at]
        self.rows, self.empty = rows, np.isneginf(lse)
        self.some_empty = bool(self.empty.any())
        self.lse = np.where(self.empty, 0, lse).astype(head.dtype)
        factor = head.scale / (head.softcap or 1.0)
        self.scaled = _widened(head.query[at], factor, -self.lse, head)


class _Keys:
    """Some keys, ready for products with `_Queries`."""

    def __init__(self, head: HeadWeights, cols: range) -> None:
        self.cols = cols
        self.transposed = _widened(head.key[cols.start : cols.stop], 1.0, 1.0, head).T


def _widened(rows: Array, factor: float, last: Any, head: HeadWeights) -> Array:
    """The rows times a factor, and one more feature unless there is a softcap."""
    more = head.softcap is None
    wide = np.empty((rows.shape[0], rows.shape[1] + more), head.dtype)
    with np.errstate(all="ignore"):
        np.multiply(rows, factor, out=wide[:, : rows.shape[1]], dtype=wide.dtype)
    if more:
        wide[:, -1] = last
    return wide


def _exp(scores: Array) -> None:
    """Replace scores by exp(scores); what is no normal number of the dtype becomes 0."""
    lowest = LOWEST[scores.dtype.char]
    if scores.size and not scores.min() >= lowest:  # NaN is not >=
        np.maximum(scores, lowest, out=scores)
        np.exp(scores, out=scores)
        scores -= np.exp(np.asarray(lowest, scores.dtype))
    else:
        np.exp(scores, out=scores)


def bias_of(bias: Any, batch: int, head: int) -> BiasTile | None:
    """The bias of one head, asked for by rows and columns.

    Args:
        bias: an array that broadcasts to (batch, head, query, key), a `DistanceBias`, anything
            with ``at(batch, head)`` that returns such a function, or None.
        batch: of which batch item.
        head: of which query head.
    """
    if bias is None:
        return None
    if hasattr(bias, "at"):
        own: BiasTile = bias.at(batch, head)
        return own
    if isinstance(bias, DistanceBias):
        distances = DistanceBias(_one_of(np.asarray(bias.values), 1, batch, head), bias.lengths)
        return distances.tile
    array = np.asarray(bias)
    pairs = _one_of(array.reshape((1,) * (2 - array.ndim) + array.shape), 2, batch, head)

    def tile(rows: range, cols: range) -> Array:
        query = slice(None) if pairs.shape[0] == 1 else slice(rows.start, rows.stop)
        key = slice(None) if pairs.shape[1] == 1 else slice(cols.start, cols.stop)
        return pairs[query, key]

    return tile


def _one_of(array: Array, own: int, batch: int, head: int) -> Array:
    """The part of one (batch, head), where the last ``own`` axes are not these."""
    leading = array.shape[: array.ndim - own]
    index = (batch, head)[2 - len(leading) :]
    part: Array = array[
        tuple(0 if size == 1 else i for i, size in zip(index, leading, strict=True))
    ]
    return part


def pooled(
    head: HeadWeights, row0: int, col0: int, zoom: int, shape: tuple[int, int], pool: str
) -> Array:
    """A tile of cells (rows, columns), each the mean or maximum of 2**zoom × 2**zoom weights."""
    side = 1 << zoom
    Tq, Tk = head.lengths
    rows = range(row0, min(row0 + shape[0] * side, Tq))
    cols = range(col0, min(col0 + shape[1] * side, Tk))
    if zoom == 0:
        return head.rectangle(rows, cols)
    largest = pool == "max"
    cells, keys = np.zeros(shape, head.dtype if largest else np.float64), head.ready()

    def work(tasks: Tasks) -> None:
        buffer = np.empty(ROWS * COLS, head.dtype)
        for task in tasks:
            for own, wide, fill in head.strips(*task, keys, logarithms=largest):
                out = buffer[: len(own) * len(wide)].reshape(len(own), len(wide))
                if fill(out):
                    at = slice((own.start - row0) // side, -(-(own.stop - row0) // side))
                    to = slice((wide.start - col0) // side, -(-(wide.stop - col0) // side))
                    _pool_into(cells[at, to], out, side, pool)

    _share(work, rows, cols, side)
    if not largest:
        cells /= pair_counts(head.lengths, row0, col0, side, shape)
    return cells.astype(head.dtype, copy=False)


def _share(work: Callable[[Tasks], None], rows: range, cols: range, side: int) -> None:
    """Have a rectangle worked on by threads, in parts of whole cells.

    BLAS is on one thread in any case: where others use the cores, its own threads wait for each
    other for tens of milliseconds.
    """
    threads = available_cores() if len(rows) * len(cols) >= SHARED_FROM else 1
    tasks = list(_tasks(rows, cols, side))
    threads = min(threads, len(tasks))
    with one_blas_thread():
        if threads < 2:
            work(iter(tasks))
            return
        waiting = iter(tasks)  # of which all threads take
        with ThreadPoolExecutor(threads) as threadpool:
            list(threadpool.map(work, [waiting] * threads))


def _tasks(rows: range, cols: range, side: int) -> Tasks:
    """Whole cells for one thread at a time.

    Strips begin where they would in one task, so that sums are the same to the bit.
    """
    high, wide = max(side, ROWS), max(side, COLS)
    for span in blocks_of(cols, max(1, SPAN // wide) * wide):
        for own in blocks_of(rows, max(1, BAND // high) * high):
            yield own, span


def _pool_into(cells: Array, strip: Array, side: int, pool: str) -> None:
    """Fold a strip of weights into its cells; of their logarithms, where the largest is wanted.

    The largest weight is that of the largest logarithm: so there is one exponential a cell.
    """
    part = pool_axis(pool_axis(strip, 0, side, pool), 1, side, pool)
    if pool == "mean":
        cells += part
    else:
        _exp(part)
        np.maximum(cells, part, out=cells)


def tile_shape(
    row0: int, col0: int, zoom: int, size: int, lengths: tuple[int, int]
) -> tuple[int, int]:
    """Cells of a tile that hold at least one pair: (rows, columns).

    Raises:
        ShapeError: for a corner outside the weights.
    """
    for name, start, T, axis in (
        ("row0", row0, lengths[0], "queries"),
        ("col0", col0, lengths[1], "keys"),
    ):
        if not 0 <= start < T:
            raise ShapeError(
                f"{name} is the tile's first of {T} {axis}: from 0 to {T - 1}; got {start}. "
                "It counts weights, not cells, at every zoom."
            )
    side = 1 << zoom
    rows, cols = (
        min(size, -(-(T - start) // side)) for start, T in zip((row0, col0), lengths, strict=True)
    )
    return rows, cols
