"""What a figure shows of a record: one head at a time, in one form for all records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from atento._arrays import to_numpy
from atento._errors import InputError
from atento.views.figures.seen import seen_cells

if TYPE_CHECKING:
    from atento.reading.layer import LayerRecord

__all__ = ["Cells", "Dense", "Head", "Overviewed", "Recorded"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Cells:
    """Weights of one head, pooled where there are too many to be drawn.

    Attributes:
        weights: (row cell, column cell).
        seen: the same shape; False where no pair of the cell may be seen.
        corner: (query, key) of the first pair.
        sides: how many queries and keys a cell has.
    """

    weights: Array
    seen: npt.NDArray[np.bool_]
    corner: tuple[int, int]
    sides: tuple[int, int]

    @property
    def visible(self) -> Array:
        """The weights, NaN where nothing may be seen."""
        wide: Array = np.where(self.seen, self.weights, np.nan).astype(np.float64, copy=False)
        return wide


class Source(Protocol):
    """Where the weights of a head come from."""

    @property
    def lengths(self) -> tuple[int, int]:
        """(Tq, Tk)."""

    def cells(self, rows: range, cols: range, most: int, pool: str) -> Cells:
        """The weights of these queries and keys in at most ``most`` cells a side."""


@dataclass(frozen=True, eq=False)
class Head:
    """One head, and what it is called.

    Attributes:
        layer: its number, or its name where it stands alone; None where there is one layer.
        number: of the head, as the record counts.
        tokens, key_tokens: a name for each query and key; None where they are not known.
        source: the weights.
        role: as `Recording.summary` has it, or None.
        statistics: by name: (``"query"`` or ``"key"``, an array of that axis).
        first: the position of query 0 on the keys' axis.
    """

    layer: int | str | None
    number: int
    tokens: Sequence[str] | None
    key_tokens: Sequence[str] | None
    source: Source
    role: str | None = None
    statistics: Mapping[str, tuple[str, Array]] = field(default_factory=dict)
    first: int = 0


@dataclass(frozen=True, eq=False)
class Dense:
    """Weights that are all there: (query, key), and which of them may be seen."""

    weights: Array
    seen: npt.NDArray[np.bool_] | None

    @property
    def lengths(self) -> tuple[int, int]:
        """(Tq, Tk)."""
        return self.weights.shape[0], self.weights.shape[1]

    def cells(self, rows: range, cols: range, most: int, pool: str) -> Cells:
        """Cells of 2**zoom × 2**zoom weights, as those of a recording."""
        from atento.reading.pooling import pair_counts, pool_axis

        side = 1 << zoom_for(rows, cols, most)
        at = _whole(rows, cols, side, self.lengths)
        block = np.asarray(self.weights[at], np.float64)
        seen = np.ones(block.shape, bool) if self.seen is None else self.seen[at]
        corner = rows.start, cols.start
        for axis in (0, 1):
            block = pool_axis(block, axis, side, pool)
            seen = pool_axis(seen.view(np.uint8), axis, side, "max").astype(bool)
        if pool == "mean":
            shape = block.shape[0], block.shape[1]
            block = block / pair_counts(self.lengths, *corner, side, shape)
        return Cells(block, seen, corner, (side, side))


@dataclass(frozen=True, eq=False)
class Recorded:
    """A head of a recorded layer: its weights are computed again, tile by tile."""

    record: "LayerRecord"
    head: int
    batch: int

    @property
    def lengths(self) -> tuple[int, int]:
        """(Tq, Tk)."""
        return self.record.queries, self.record.keys

    def cells(self, rows: range, cols: range, most: int, pool: str) -> Cells:
        """A tile of the layer; where only statistics were kept, of cells that these can serve."""
        zoom = zoom_for(rows, cols, most)
        tile, zoom = self._tile(rows, cols, zoom, pool)
        side = 1 << zoom
        shape = tuple(-(-len(span) // side) for span in (rows, cols))
        tile = tile[: shape[0], : shape[1]]
        corner = rows.start, cols.start
        return Cells(tile, self._seen(corner, side, tile.shape), corner, (side, side))

    def _tile(self, rows: range, cols: range, zoom: int, pool: str) -> tuple[Array, int]:
        refused = None
        longest = max(len(rows), len(cols))
        while True:
            size = -(-longest >> zoom) or 1
            try:
                tile = self.record.tile(
                    self.head, rows.start, cols.start, zoom, size, pool, self.batch
                )
            except InputError as error:
                refused = refused or error
                zoom += 1
                if self.record.query is not None or longest >> zoom == 0:
                    raise refused from None
            else:
                return tile, zoom

    def _seen(
        self, corner: tuple[int, int], side: int, shape: tuple[int, ...]
    ) -> npt.NDArray[np.bool_]:
        record, cells = self.record, (shape[0], shape[1])
        at = record.head_numbers.index(self.head)
        mask = None if record.mask is None else record.mask.at((self.batch, at))
        seen = seen_cells(mask, corner, side, cells, self.lengths)
        if side == 1 and record.bias is not None:
            from atento.reading.tiles import bias_of

            tile = bias_of(record.bias, self.batch, at)
            rows, cols = (
                range(start, start + size) for start, size in zip(corner, cells, strict=True)
            )
            if tile is not None:
                seen &= np.asarray(tile(rows, cols)) != -np.inf
        return seen


@dataclass(frozen=True, eq=False)
class Overviewed:
    """A head of which bins alone are known: mean and maximum, (row bin, column bin)."""

    mean: Array
    maximum: Array
    lengths: tuple[int, int]

    def cells(self, rows: range, cols: range, most: int, pool: str) -> Cells:
        """The bins, as they are."""
        del most
        if len(rows) != self.lengths[0] or len(cols) != self.lengths[1]:
            raise InputError(
                "a survey keeps an overview of all weights and no part of them: leave out rows= "
                "and cols=, or record with atento.capture."
            )
        if not self.mean.size:
            raise InputError(
                'of these weights no picture was kept: ask survey for the statistic "overview", or '
                "record with atento.capture."
            )
        bins = self.mean if pool == "mean" else self.maximum
        high, wide = (
            -(-length // count) for length, count in zip(self.lengths, bins.shape, strict=True)
        )
        return Cells(bins, np.ones(bins.shape, bool), (0, 0), (high, wide))


def zoom_for(rows: range, cols: range, most: int) -> int:
    """The power of two that a cell's sides are, so that there are at most so many cells.

    >>> zoom_for(range(512), range(512), 128), zoom_for(range(6), range(6), 128)
    (2, 0)
    """
    zoom = 0
    while -(-max(len(rows), len(cols)) >> zoom) > most:
        zoom += 1
    return zoom


def _whole(rows: range, cols: range, side: int, lengths: tuple[int, int]) -> tuple[slice, slice]:
    """The pairs of whole cells, where there are so many."""
    first, second = (
        slice(span.start, min(span.start + -(-len(span) // side) * side, length))
        for span, length in zip((rows, cols), lengths, strict=True)
    )
    return first, second


def seen_of(steps: Mapping[str, Array], before: str) -> npt.NDArray[np.bool_] | None:
    """What may be seen, from the step before the weights: a mask and a bias of −∞ close a place."""
    if before in ("scores", "scaled", "capped"):
        return None
    seen: npt.NDArray[np.bool_] = to_numpy(steps[before]) != -np.inf
    return seen
