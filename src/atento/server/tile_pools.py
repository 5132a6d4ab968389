"""Both pictures of a tile at once: its weights are computed once and pooled twice."""

from typing import Any

import numpy as np
import numpy.typing as npt

from atento.reading.layer import LayerRecord
from atento.reading.pooling import pair_counts, pool_axis
from atento.reading.pyramid import MAPS, Pyramid, pyramid_of
from atento.reading.tiles import tile_shape

__all__ = ["both_pools"]

Array = npt.NDArray[Any]

AT_ONCE = 2**22
"""Weights that are held for a tile: 16 MB. Tiles of more are computed once for each pool."""


def both_pools(
    layer: LayerRecord, head: int, row0: int, col0: int, zoom: int, size: int
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
    side = 1 << zoom
    if layer.query is None or shape[0] * shape[1] * side * side > AT_ONCE:
        mean, most = (layer.tile(head, row0, col0, zoom, size, pool) for pool in MAPS)
        return mean, most
    rows = slice(row0, row0 + shape[0] * side)
    weights = layer.weights(head, rows, slice(col0, col0 + shape[1] * side))
    if zoom == 0:
        return weights, weights
    sums, most = (pool_axis(pool_axis(weights, 0, side, p), 1, side, p) for p in ("mean", "max"))
    mean = sums / pair_counts((layer.queries, layer.keys), row0, col0, side, shape)
    return mean.astype(np.float32), most


def _pyramid(layer: LayerRecord, head: int) -> Pyramid | None:
    if not set(MAPS.values()) <= set(layer.statistics):
        return None
    at = layer.head_numbers.index(head)
    mean, most = (layer.statistics[name][0, at] for name in MAPS.values())
    return pyramid_of(mean, most, (layer.queries, layer.keys), layer.bin_width)
