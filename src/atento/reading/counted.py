"""Which queries the numbers of a head are means of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from atento.equation.schedule import blocks
from atento.masks import Coverage, Mask

if TYPE_CHECKING:
    from atento.reading.layer import LayerRecord

__all__ = ["SKIPPED", "counted"]

SKIPPED = 4
"""Queries at the first positions see so few keys that every pattern looks like every other."""

ROWS = 256
"""Queries whose mask is looked at together."""

Bools = npt.NDArray[np.bool_]


def counted(layer: LayerRecord) -> Bools:
    """Which queries count, (batch, head, query).

    Those that see a key and are no padding, without the first few. In self-attention a query whose
    own key is hidden is padding (unless all are so, as where a mask hides the diagonal).
    """
    sees: Bools = ~np.isneginf(layer.lse)
    for further in (~_hidden_from_themselves(layer), _positions(layer) >= SKIPPED):
        fewer = sees & further
        # A text of a few tokens has no other queries than the first.
        enough = fewer.any(axis=(0, 2), keepdims=True)
        sees = np.where(enough, fewer, sees)
    return sees


def _positions(layer: LayerRecord) -> npt.NDArray[np.int64]:
    return layer.first_query + np.arange(layer.queries)


def _hidden_from_themselves(layer: LayerRecord) -> Bools:
    """(batch, head, query), axes of size 1 where all are alike."""
    if layer.mask is None or layer.kind != "self":
        return np.zeros((1, 1, layer.queries), bool)
    sizes = (1,) * (2 - len(layer.mask.leading)) + tuple(layer.mask.leading)
    hidden = np.zeros((*sizes, layer.queries), bool)
    for index in np.ndindex(*sizes):
        hidden[index] = ~_diagonal(
            layer.mask.at(index), layer.queries, layer.keys, layer.first_query
        )
    return hidden


def _diagonal(mask: Mask, queries: int, keys: int, first: int) -> Bools:
    """Whether query i may see key ``first + i``; True where there is no such key."""
    visible = np.ones(queries, bool)
    for rows in blocks(min(queries, max(keys - first, 0)), ROWS):
        cols = range(first + rows.start, first + rows.stop)
        tile = mask.block(rows, cols)
        visible[rows.start : rows.stop] = (
            tile.value if isinstance(tile, Coverage) else tile.diagonal()
        )
    return visible
