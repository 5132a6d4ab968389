"""Both pictures of a tile at once: its weights are computed once and pooled twice.

A strip of weights is pooled while it is in the core's cache, by one thread: the server works on as
many tiles at a time as it has cores for, and the whole of a tile's weights never exists.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from atento.reading.layer import LayerRecord
from atento.reading.pooling import pair_counts, pool_axis
from atento.reading.pyramid import MAPS, Pyramid, pyramid_of
from atento.reading.tiles import COLS, ROWS, HeadWeights, tile_shape

__all__ = ["both_pools"]

Array = npt.NDArray[Any]


def both_pools(
    layer: LayerRecord,
    head: int,
    row0: int,
    col0: int,
    zoom: int,
    size: int,
    check: Callable[[], None] = lambda: None,
) -> tuple[Array, Array]:
    """Means and maxima of a tile, as `LayerRecord.tile` gives them, in half the time.

    The overview serves wherever it is fine enough, for there its bins are the cells.

    Args:
        layer: of which layer.
        head: its number in the model.
        row0: the first query.
        col0: the first key.
        zoom: cells have 2**zoom × 2**zoom weights.
        size: cells a side at most.
        check: called every half a millisecond or so; what it raises ends the work.

    Returns:
        Two arrays (row, column).

    Raises:
        InputError, ShapeError: as `LayerRecord.tile`.
    """
    pyramid = _pyramid(layer, head) if zoom else None
    shape = tile_shape(row0, col0, zoom, size, (layer.queries, layer.keys))
    if pyramid is not None and pyramid.serves(row0, col0, zoom):
        mean, most = (pyramid.tile(row0, col0, zoom, shape, pool) for pool in MAPS)
        return mean, most
    if layer.query is None or 1 << zoom > min(ROWS, COLS):  # cells wider than a strip
        mean, most = (layer.tile(head, row0, col0, zoom, size, pool) for pool in MAPS)
        return mean, most
    return _folded(layer.head_weights(head), row0, col0, zoom, shape, check)


def _folded(
    head: HeadWeights,
    row0: int,
    col0: int,
    zoom: int,
    shape: tuple[int, int],
    check: Callable[[], None],
) -> tuple[Array, Array]:
    """Strip by strip; strips begin and end where cells do."""
    side = 1 << zoom
    rows, cols = (
        range(start, min(start + cells * side, length))
        for start, cells, length in zip((row0, col0), shape, head.lengths, strict=True)
    )
    sums, most = np.zeros(shape), np.zeros(shape, head.dtype)
    buffer = np.empty(ROWS * COLS, head.dtype)
    for own, wide, fill in head.strips(rows, cols, head.ready()):
        check()
        weights = buffer[: len(own) * len(wide)].reshape(len(own), len(wide))
        if not fill(weights):
            continue
        first, left = (own.start - row0) >> zoom, (wide.start - col0) >> zoom
        for cells, pool in ((sums, "mean"), (most, "max")):
            part = pool_axis(pool_axis(weights, 0, side, pool), 1, side, pool)
            cells[first : first + len(part), left : left + part.shape[1]] = part
    mean = sums / pair_counts(head.lengths, row0, col0, side, shape)
    return mean.astype(head.dtype), most


def _pyramid(layer: LayerRecord, head: int) -> Pyramid | None:
    if not set(MAPS.values()) <= set(layer.statistics):
        return None
    at = layer.head_numbers.index(head)
    mean, most = (layer.statistics[name][0, at] for name in MAPS.values())
    return pyramid_of(mean, most, (layer.queries, layer.keys), layer.bin_width)
