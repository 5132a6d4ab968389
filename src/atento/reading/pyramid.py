"""The overview of a head's weights: bins of w × w, and every coarser level pooled from them.

A tile that covers more than 2^24 weights is not computed when it is asked for. It is pooled from
the overview that was folded while the model ran: the mean and the maximum of bins of w × w weights,
w a power of two. On two cores some 2^24 weights can be computed in 50 ms, which is a tile of
256 × 256 cells at zoom 4. From zoom 5 on the overview serves, so w = 2^5 = 32, and

    bytes per head = 2 maps × 4 bytes × (T / w)²       T 16,384: 2 MB    T 131,072: 134 MB

`bin_width` takes w = 32 as long as the two maps need at most 1024 bytes per token (twice those of q
and k with 64 features in float32), which is so up to T = 131,072, and doubles w beyond. Where only
statistics are kept, tiles are for pictures alone, and the maps take 8 bytes per token, as much as
two numbers for each query. Short texts have at most 64 × 64 bins. So the memory grows with T, not
T², and never finer bins follow coarser ones as a text grows: what is there is pooled 2 × 2.

The calls of cached decoding are joined: sums of cut bins are added. The bins of each call begin
where those of the record do (`overview_statistic`), and the record's maps have room to grow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from atento.reading.pooling import pair_counts, pool_axis
from atento.statistics.overview import Overview

if TYPE_CHECKING:
    from atento.reading.layer import LayerRecord

__all__ = ["MAPS", "Pyramid", "bin_width", "joined_overview", "overview_statistic", "pyramid_of"]

Array = npt.NDArray[Any]

MAPS = {"mean": "overview_mean", "max": "overview_max"}
"""The statistic that holds each pool's bins."""

FINEST = 32
"""Bins narrower than this are kept of short texts alone."""

FEWEST = 64
"""So many bins a side may always be there."""


def bin_width(length: int, kept: bool = True) -> int:
    """How wide the overview's bins should be, a power of two; see the top of this file.

    Args:
        length: T, the larger of queries and keys.
        kept: whether queries and keys are kept, so that smaller tiles can be computed.

    >>> [bin_width(T) for T in (60, 2048, 4096, 131_072, 131_073)]
    [1, 32, 32, 32, 64]
    >>> [bin_width(T, kept=False) for T in (2048, 4096, 16_384, 131_072)]
    [32, 64, 128, 512]
    """
    width = 1
    while length > FEWEST * width and not _small_enough(length, width, kept):
        width *= 2
    return width


def _small_enough(length: int, width: int, kept: bool) -> bool:
    # bytes: 8 · (T / w)² <= 1024 · T, and 8 · (T / w)² <= 8 · T
    return width >= FINEST and length <= (128 if kept else 1) * width * width


@dataclass(frozen=True, eq=False)
class Pyramid:
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

    @property
    def finest(self) -> int:
        """The first zoom that it serves."""
        return max(self.widths).bit_length() - 1

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
            cells = cells * (area / pair_counts(self.lengths, row0, col0, side, shape))
        return cells.astype(self.mean.dtype, copy=False)


def _pool_bins(cells: Array, axis: int, count: int, pool: str, share: float) -> Array:
    """Sums (or maxima) of ``count`` bins along an axis, the last of them counting for ``share``."""
    if share == 1.0:
        return pool_axis(cells, axis, count, pool)
    n = cells.shape[axis]
    body, last = np.split(cells, [n - 1], axis=axis)
    sums = pool_axis(body, axis, count, pool)
    tail = last * np.float64(share)
    if (n - 1) % count == 0:
        return np.concatenate([sums, tail], axis=axis)
    end = (slice(-1, None), slice(None)) if axis == 0 else (slice(None), slice(-1, None))
    sums[end] += tail
    return sums


def pyramid_of(
    mean: Array, maximum: Array, lengths: tuple[int, int], width: int | None = None
) -> Pyramid | None:
    """What these two maps are, or None when their bins are no powers of two.

    Args:
        mean: (row bin, column bin) of one head.
        maximum: the same.
        lengths: (Tq, Tk).
        width: of a bin; None where it is to be told from the number of bins: bins of width
            ceil(T / size) are n = ceil(T / width) in number, and width = ceil(T / n) follows.
    """
    if 0 in lengths or mean.ndim != 2 or mean.shape != maximum.shape or not mean.size:
        return None
    rows, cols = (width or -(-T // n) for T, n in zip(lengths, mean.shape, strict=True))
    fits = all(
        -(-T // wide) == n for T, wide, n in zip(lengths, (rows, cols), mean.shape, strict=True)
    )
    if not fits or rows & (rows - 1) or cols & (cols - 1):
        return None
    return Pyramid(mean, maximum, (rows, cols), lengths)


def overview_statistic(width: int, above: int = 0) -> Overview:
    """The statistic that folds bins of width × width.

    Args:
        width: queries and keys of a bin.
        above: how many queries of earlier calls the record has that this call continues: the
            first bin begins with those of them that are in one bin with the call's first query.
    """
    return Overview(width=width, first_row=above % width)


def joined_overview(record: LayerRecord, new: LayerRecord) -> dict[str, Array]:
    """The overview of a record with the queries of a further call below; see `grow`.

    Memory that doubles is behind it: a call of one query costs O(T / w). Where the call's bins are
    wider than the record's, the record's are pooled first.

    Returns:
        Both maps, (batch, head, row bin, column bin); none where their bins do not fit together.
    """
    width, start = new.bin_width, record.queries
    if not _fit_together(record, new) or width is None or record.bin_width is None:
        return {}
    old = {pool: record.statistics[name] for pool, name in MAPS.items()}
    if record.bin_width < width:
        old = _coarser(record, width)
    lengths = start + new.queries, new.keys
    bins = -(-lengths[0] // width), -(-lengths[1] // width)
    first, inside = divmod(start, width)
    before, after = _sizes(record.keys, width, bins[1]), _sizes(new.keys, width, bins[1])
    mean, maximum = (_with_room(record, name, old[pool], bins) for pool, name in MAPS.items())
    own = {pool: np.asarray(new.statistics[name]) for pool, name in MAPS.items()}

    # Keys that came later are 0 to earlier queries: their means are over more pairs now.
    grown = (before > 0) & (before < after)
    mean[..., :first, grown] *= (before / after)[grown]
    held = min(width, inside + new.queries)  # queries in the bin that both are in
    share = inside * before / (held * after)
    mean[..., first, :] = mean[..., first, :] * share + own["mean"][..., 0, :]
    np.maximum(maximum[..., first, :], own["max"][..., 0, :], out=maximum[..., first, :])
    mean[..., first + 1 :, :] = own["mean"][..., 1:, :]
    maximum[..., first + 1 :, :] = own["max"][..., 1:, :]
    return {MAPS["mean"]: mean, MAPS["max"]: maximum}


def _fit_together(record: LayerRecord, new: LayerRecord) -> bool:
    if new.bin_width is None or record.bin_width is None or new.bin_width % record.bin_width:
        return False
    if any(name not in each.statistics for each in (record, new) for name in MAPS.values()):
        return False
    inside = record.queries % new.bin_width
    bins = -(-(inside + new.queries) // new.bin_width)
    return bool(new.queries) and new.statistics[MAPS["mean"]].shape[-2] == bins


def _sizes(length: int, width: int, bins: int) -> Array:
    """How many of the first ``length`` keys are in each bin."""
    return np.clip(length - width * np.arange(bins), 0, width).astype(np.float64)


def _coarser(record: LayerRecord, width: int) -> dict[str, Array]:
    """The record's maps in wider bins."""
    zoom = width.bit_length() - 1
    bins = -(-record.queries // width), -(-record.keys // width)
    return {
        pool: np.array(
            [
                [_one_head(record, b, h).tile(0, 0, zoom, bins, pool) for h in range(record.heads)]
                for b in range(record.batch)
            ]
        )
        for pool in MAPS
    }


def _one_head(record: LayerRecord, batch: int, head: int) -> Pyramid:
    mean, maximum = (record.statistics[name][batch, head] for name in MAPS.values())
    width = record.bin_width or 1
    return Pyramid(mean, maximum, (width, width), (record.queries, record.keys))


def _with_room(record: LayerRecord, name: str, old: Any, bins: tuple[int, ...]) -> Array:
    """The map with further bins of 0, in memory that doubles."""
    room: Any = record.room.get(name)
    # What has another array behind it was replaced since: by wider bins, or read from a file.
    if room is None or old.base is not room or np.less(room.shape[2:], bins).any():
        shape = [max(n, 2 * m) for n, m in zip(bins, old.shape[2:], strict=True)]
        record.room[name] = room = np.zeros((*old.shape[:2], *shape), old.dtype)
        room[:, :, : old.shape[2], : old.shape[3]] = old
    view: Array = room[:, :, : bins[0], : bins[1]]
    return view
