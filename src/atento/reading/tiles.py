"""Weights computed again from q, k and log-sum-exp: a rectangle, as it is or pooled.

    weight = exp( softcap(q · k · scale) + bias − lse ), and 0 where the mask hides

A pooled tile at zoom z shows cells of 2^z × 2^z weights by their mean or their maximum. Up to
`MOST_PAIRS` weights are computed when they are asked for, in strips that stay in the cache. A tile
that covers more is pooled from the overview that was folded while the model ran: bins of w × w
weights, w a power of two, hold the mean and the maximum of each.

How fine that overview has to be. On two cores some 2^24 weights can be computed in 50 ms, which is
a tile of 256 × 256 cells at zoom 4. From zoom 5 on the overview serves, so w = 2^5 = 32, and

    bytes per head = 2 maps × 4 bytes × (T / w)²       T 16,384: 2 MB    T 131,072: 134 MB

`overview_size` takes w = 32 as long as the two maps need at most 1024 bytes per token (twice those
of q and k with 64 features in float32), which is so up to T = 131,072, and doubles w beyond: the
memory grows with T, not T². Short texts need no overview: up to T = 4096 every tile is computed.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from atento._errors import ShapeError
from atento.equation.blas import available_cores, one_blas_thread
from atento.equation.schedule import blocks_of
from atento.masks import ALL, NONE, Coverage, Mask
from atento.positions.distance_bias import DistanceBias

__all__ = [
    "MOST_PAIRS",
    "HeadWeights",
    "Overview",
    "bias_of",
    "overview_of",
    "overview_size",
    "pooled",
]

Array = npt.NDArray[Any]
BiasTile = Callable[[range, range], Array]

ROWS, COLS = 256, 1024
"""Queries × keys that are computed at a time: 1 MB in float32, within a core's own cache."""

MOST_PAIRS = 2**24
"""A tile of more weights comes from the overview, where there is one that is fine enough."""

SHARED_FROM = 2**20
"""From so many weights on a tile is shared out to threads."""

GROUP = 16
"""So many numbers are added up in the weights' own precision, the sums of these in float64."""

NARROW = 8
"""Up to so many neighbouring columns are pooled by slices with that step."""

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

    def fill(self, rows: range, cols: range, out: Array) -> bool:
        """Write the weights of a rectangle into ``out`` (len(rows), len(cols)).

        Returns:
            False when the mask hides all of it: then ``out`` is left as it was.
        """
        seen = ALL if self.mask is None else self._seen(self.mask, rows, cols)
        if seen is NONE:
            return False
        own, lse = slice(rows.start, rows.stop), self.lse[rows.start : rows.stop]
        empty = np.isneginf(lse)
        # NaN and ∞ are passed on as numbers are, without NumPy's warnings.
        with np.errstate(all="ignore"):
            self._shifted_scores(own, slice(cols.start, cols.stop), np.where(empty, 0, lse), out)
            if self.bias is not None:
                out += self.bias(rows, cols)
            _exp(out)
        if not isinstance(seen, Coverage):
            np.copyto(out, 0, where=~seen)
        if empty.any():
            out[empty] = 0
        return True

    def _shifted_scores(self, rows: slice, cols: slice, lse: Array, out: Array) -> None:
        """Softcap(Q Kᵀ · scale) − lse, written into ``out``."""
        query, key = self.query[rows], self.key[cols]
        if self.softcap is None:
            # One feature more, −lse · 1: a fifth of the time of subtracting it after.
            np.matmul(_widened(query, self.scale, -lse, out), _widened(key, 1, 1, out).T, out=out)
            return
        scaled = np.multiply(query, self.scale / self.softcap, dtype=out.dtype)
        np.matmul(scaled, key.astype(out.dtype, copy=False).T, out=out)
        np.tanh(out, out=out)
        out *= self.softcap
        out -= lse.astype(out.dtype, copy=False)[:, None]

    def _seen(self, mask: Mask, rows: range, cols: range) -> Coverage | npt.NDArray[np.bool_]:
        covered = mask.coverage(rows, cols)
        return mask.block(rows, cols) if covered is None else covered

    def rectangle(self, rows: range, cols: range) -> Array:
        """The weights of a rectangle (len(rows), len(cols)); memory: those, and one strip."""
        result = np.zeros((len(rows), len(cols)), self.dtype)
        for own in blocks_of(rows, ROWS):
            for wide in blocks_of(cols, COLS):
                at = slice(own.start - rows.start, own.stop - rows.start)
                to = slice(wide.start - cols.start, wide.stop - cols.start)
                self.fill(own, wide, result[at, to])
        return result


def _widened(rows: Array, factor: float, last: Any, like: Array) -> Array:
    """The rows times a factor, and one more feature."""
    wide = np.empty((rows.shape[0], rows.shape[1] + 1), like.dtype)
    np.multiply(rows, factor, out=wide[:, :-1], dtype=wide.dtype)
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


@dataclass(frozen=True, eq=False)
class Overview:
    """Means and maxima of bins of weights of one head.

    Attributes:
        mean, maximum: (row bin, column bin).
        widths: queries and keys of a bin, powers of two; the last bin may be narrower.
        lengths: (Tq, Tk).
    """

    mean: Array
    maximum: Array
    widths: tuple[int, int]
    lengths: tuple[int, int]

    def serves(self, row0: int, col0: int, zoom: int) -> bool:
        """Whether the cells of such a tile are made of whole bins."""
        side = 1 << zoom
        return all(
            side >= width and start % width == 0
            for width, start in zip(self.widths, (row0, col0), strict=True)
        )

    def tile(self, row0: int, col0: int, zoom: int, shape: tuple[int, int], pool: str) -> Array:
        """Bins pooled to cells of 2**zoom × 2**zoom weights: exact, as bins are."""
        side = 1 << zoom
        cells = self.mean if pool == "mean" else self.maximum
        for axis, start in enumerate((row0, col0)):
            width, length = self.widths[axis], self.lengths[axis]
            first, stop = start // width, -(-min(start + shape[axis] * side, length) // width)
            cells = cells[first:stop] if axis == 0 else cells[:, first:stop]
            last = length - (stop - 1) * width  # how many are in the last bin of the tile
            share = last / width if pool == "mean" and last < width else 1.0
            cells = _pool_bins(cells, axis, side // width, pool, share)
        if pool == "mean":
            area = self.widths[0] * self.widths[1]
            cells = cells * (area / _counts(self.lengths, row0, col0, side, shape))
        return cells.astype(self.mean.dtype, copy=False)


def _pool_bins(cells: Array, axis: int, count: int, pool: str, share: float) -> Array:
    """Sums (or maxima) of ``count`` bins along an axis, the last of them counting for ``share``."""
    if share == 1.0:
        return _reduced(cells, axis, count, pool)
    n = cells.shape[axis]
    body, last = np.split(cells, [n - 1], axis=axis)
    sums = _reduced(body, axis, count, pool)
    tail = last * np.float64(share)
    if (n - 1) % count == 0:
        return np.concatenate([sums, tail], axis=axis)
    end = (slice(-1, None), slice(None)) if axis == 0 else (slice(None), slice(-1, None))
    sums[end] += tail
    return sums


def overview_of(
    mean: Array | None, maximum: Array | None, lengths: tuple[int, int]
) -> Overview | None:
    """The overview that these two maps are, or None when their bins are no powers of two.

    Bins of width ceil(T / size) are n = ceil(T / width) in number, and width = ceil(T / n) follows.
    """
    if mean is None or maximum is None or 0 in lengths or not mean.size:
        return None
    if mean.shape != maximum.shape or mean.ndim != 2:
        return None
    rows, cols = (-(-T // n) for T, n in zip(lengths, mean.shape, strict=True))
    fits = all(
        -(-T // width) == n for T, width, n in zip(lengths, (rows, cols), mean.shape, strict=True)
    )
    if not fits or rows & (rows - 1) or cols & (cols - 1):
        return None
    return Overview(mean, maximum, (rows, cols), lengths)


def overview_size(length: int, bytes_per_token: int = 1024) -> int | None:
    """How many bins a side the overview of so many tokens should have; None when it needs none.

    Args:
        length: T, the larger of queries and keys.
        bytes_per_token: what both maps of one head may take, divided by T.

    Returns:
        ceil(T / w) for the width w (see the top of this file), so that ceil(T / size) = w.

    >>> overview_size(131_072), overview_size(16_384), overview_size(4096)
    (4096, 512, None)
    """
    if length * length <= MOST_PAIRS:
        return None
    width = 32
    while 8 * length > bytes_per_token * width * width:
        width *= 2
    return -(-length // width)


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
    cells = np.zeros(shape, np.float64 if pool == "mean" else head.dtype)
    tasks = list(blocks_of(rows, max(side, ROWS)))

    def work(mine: list[range]) -> None:
        buffer = np.empty(ROWS * COLS, head.dtype)
        for task in mine:
            _pool_into(cells, head, task, cols, row0, side, pool, buffer)

    threads = min(available_cores(), len(tasks)) if len(rows) * len(cols) >= SHARED_FROM else 1
    if threads == 1:
        work(tasks)
    else:
        with one_blas_thread(), ThreadPoolExecutor(threads) as threadpool:
            list(threadpool.map(work, (tasks[i::threads] for i in range(threads))))
    if pool == "mean":
        cells /= _counts(head.lengths, row0, col0, side, shape)
    return cells.astype(head.dtype, copy=False)


def _pool_into(
    cells: Array,
    head: HeadWeights,
    rows: range,
    cols: range,
    row0: int,
    side: int,
    pool: str,
    buffer: Array,
) -> None:
    """Fold the weights of whole rows of cells into them, strip by strip."""
    for own, wide in _strips(rows, cols):
        out = buffer[: len(own) * len(wide)].reshape(len(own), len(wide))
        if not head.fill(own, wide, out):
            continue
        part = _reduced(_reduced(out, 0, side, pool), 1, side, pool)
        first, left = (own.start - row0) // side, (wide.start - cols.start) // side
        mine = cells[first : first + part.shape[0], left : left + part.shape[1]]
        if pool == "mean":
            mine += part
        else:
            np.maximum(mine, part, out=mine)


def _strips(rows: range, cols: range) -> Iterator[tuple[range, range]]:
    for own in blocks_of(rows, ROWS):
        for wide in blocks_of(cols, COLS):
            yield own, wide


def _reduced(block: Array, axis: int, count: int, pool: str) -> Array:
    """Sums or maxima of ``count`` neighbours along an axis; the last may be of fewer.

    Sums of more than GROUP numbers, and all along axis 1, are in float64.
    """
    if pool == "max":
        return _neighbours(block, axis, count, np.maximum, None)
    group = min(count, GROUP) if axis == 0 else 1
    sums = _neighbours(block, axis, group, np.add, None)
    if count == group > 1:
        return sums
    return _neighbours(sums, axis, count // group, np.add, np.float64)


def _neighbours(block: Array, axis: int, count: int, fold: np.ufunc, dtype: Any) -> Array:
    n = block.shape[axis]
    if count == 1:
        return block if dtype is None else block.astype(dtype, copy=False)
    options: dict[str, Any] = {} if dtype is None else {"dtype": dtype}
    whole = n - n % count
    if axis == 0:
        parts = [fold.reduce(block[:whole].reshape(-1, count, block.shape[1]), axis=1, **options)]
        if whole < n:
            parts.append(fold.reduce(block[whole:], axis=0, **options)[None])
    else:
        parts = [_neighbour_columns(block[:, :whole], count, fold, dtype)]
        if whole < n:
            parts.append(fold.reduce(block[:, whole:], axis=1, **options)[:, None])
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=axis)


def _neighbour_columns(block: Array, count: int, fold: np.ufunc, dtype: Any) -> Array:
    if count > NARROW:
        options: dict[str, Any] = {} if dtype is None else {"dtype": dtype}
        own = block.reshape(block.shape[0], -1, count)
        pooled: Array = fold.reduce(own, axis=2, **options)
        return pooled
    # Many short sums are slower than a few long ones.
    total = block[:, ::count].astype(block.dtype if dtype is None else dtype)
    for i in range(1, count):
        fold(total, block[:, i::count], out=total)
    return total


def _counts(
    lengths: tuple[int, int], row0: int, col0: int, side: int, shape: tuple[int, int]
) -> Array:
    """How many real pairs each cell has: (rows, columns)."""
    sizes = []
    for start, length, cells in zip((row0, col0), lengths, shape, strict=True):
        firsts = start + side * np.arange(cells)
        sizes.append(np.minimum(firsts + side, length) - firsts)
    return np.multiply.outer(*sizes).astype(np.float64)


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
