"""What is kept of one layer: enough to compute any of its weights again, exactly."""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from atento._errors import InputError
from atento.masks import Mask
from atento.reading.layer_shapes import check_numbers, check_shapes
from atento.reading.patches import PatchGrid, as_grid
from atento.reading.pyramid import MAPS, Pyramid, pyramid_of
from atento.reading.spans import Span, position, positions, whole_number
from atento.reading.tiles import MOST_PAIRS, HeadWeights, bias_of, pooled, tile_shape
from atento.records import Pictured

__all__ = ["LayerRecord", "Span"]

Array = npt.NDArray[Any]

POOLS = ("mean", "max")


@dataclass(eq=False, repr=False)
class LayerRecord(Pictured):
    """One attention layer of a recording. Arrays are NumPy's.

    Attributes:
        layer, kind, side, way: as in `AttentionCall`.
        query: (batch, query head, query, feature), or None where only statistics were kept.
        key: (batch, key head, key, feature), or None.
        lse: (batch, query head, query), float32 or float64: the log-sum-exp of each row, sinks
            included, −inf for a query that sees no key.
        mask: the rule, bound to (batch, query head, query, key); None: everybody sees everybody.
        bias: broadcasts to (batch, head, query, key), or None; or a `DistanceBias`.
        scale, softcap: as in `atento.attention`.
        first_query: the position of query 0 on the keys' axis.
        statistics: results by name, each with a leading batch axis: (batch, head, query), ...
        axes: the axes of each statistic, without batch.
        key_length: the number of keys, where neither keys nor statistics of keys were kept.
        head_numbers: which query heads of the model these are; all functions take these numbers.
        key_prints: (batch, key), a number of each key, where the keys themselves were not kept.
        bin_width: queries and keys of a bin of the overview, where that can be joined with that of
            the calls that follow; None where it was asked for otherwise.
        room: spare memory behind arrays that grow while a model generates.
    """

    layer: str
    kind: str
    side: str | None
    way: str
    query: Any
    key: Any
    lse: Any
    mask: Mask | None
    scale: float
    bias: Any = field(default_factory=lambda: None)  # no default on the class: see `StoredLayer`
    softcap: float | None = None
    first_query: int = 0
    statistics: Mapping[str, Any] = field(default_factory=dict)
    axes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    key_length: int | None = None
    head_numbers: tuple[int, ...] = ()
    key_prints: Any = None
    bin_width: int | None = None
    room: dict[str, Any] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        """Heads have the numbers 0, 1, 2, ... where none are said."""
        if not self.head_numbers and len(self.lse.shape) > 1:
            self.head_numbers = tuple(range(self.lse.shape[1]))

    @property
    def batch(self) -> int:
        """The number of batch items."""
        return int(self.lse.shape[0])

    @property
    def heads(self) -> int:
        """The number of query heads."""
        return int(self.lse.shape[1])

    @property
    def queries(self) -> int:
        """Tq."""
        return int(self.lse.shape[2])

    @property
    def keys(self) -> int:
        """Tk."""
        if self.key is not None:
            return int(self.key.shape[2])
        for name, axes in self.axes.items():
            if "key" in axes and name in self.statistics:
                return int(self.statistics[name].shape[1 + axes.index("key")])
        if self.key_length is not None:
            return self.key_length
        return self.first_query + self.queries

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of the weights: (batch, head, query, key)."""
        return self.batch, self.heads, self.queries, self.keys

    @property
    def patches(self) -> PatchGrid | None:
        """How the tokens lie on an image; None where that is not known.

        Can be set to (rows, columns), where further tokens stand before the patches, (rows,
        columns, tokens before), (rows, columns, tokens before, tokens after), or None.

        Raises:
            InputError, ShapeError: when it is nothing of these, or does not fit the keys.
        """
        grid: PatchGrid | None = self.__dict__.get("_patches")
        return grid

    @patches.setter
    def patches(self, said: Any) -> None:
        self.__dict__["_patches"] = as_grid(said, self.keys, f"layer {self.layer!r}")

    def weights(
        self, head: int, rows: Span = None, cols: Span = None, batch: int = 0
    ) -> npt.NDArray[Any]:
        """The weights of one head: exp(softcap(q · k · scale) + bias − lse), 0 behind the mask.

        Exact, in the memory of the answer and one strip of it.

        Args:
            head: the query head, by its number in the model; −1 is the last that there is.
            rows: which queries: a slice, a range, (start, stop), one index, or None for all.
                Slices and pairs count and clip as Python's slices do; a range names its positions,
                those past the end left out.
            cols: which keys, the same.
            batch: which batch item.

        Returns:
            (rows, cols), float64 for a float64 query, otherwise float32.

        Raises:
            InputError: for a head, batch item or index that is not there, or when q and k were
                not kept.
        """
        batch, head = self._index(batch, head)
        own = positions("rows", rows, self.queries, "queries")
        wide = positions("cols", cols, self.keys, "keys")
        weights = self._head(batch, head)
        if own.step == wide.step == 1:
            return weights.rectangle(own, wide)
        return _picked(weights, own, wide)

    def tile(
        self,
        head: int,
        row0: int,
        col0: int,
        zoom: int,
        size: int = 256,
        pool: str = "mean",
        batch: int = 0,
    ) -> npt.NDArray[Any]:
        """A square of cells, each of which pools 2**zoom × 2**zoom weights; exact.

        Args:
            head: as in `weights`.
            row0: the query in the tile's first corner, at every zoom.
            col0: the key there.
            zoom: 0 for the weights themselves.
            size: cells a side; fewer come back where the weights end.
            pool: "mean" of the pairs that there are (0 behind the mask), or "max".
            batch: as in `weights`.

        Returns:
            (row cell, column cell). Where a tile covers more than 2**24 weights it comes from the
            overview, when one was kept that is fine enough and row0 and col0 are multiples of
            2**zoom; otherwise it is computed, which takes time in proportion to the weights.

        Raises:
            InputError: as in `weights`; for a corner outside, an unknown pool, or a tile that the
                overview cannot serve where only statistics were kept.
        """
        batch, head = self._index(batch, head)
        if pool not in POOLS:
            raise InputError(f'pool must be "mean" or "max"; got {pool!r}.')
        row0, col0 = whole_number("row0", row0, 0), whole_number("col0", col0, 0)
        zoom, size = whole_number("zoom", zoom, 0), whole_number("size", size, 1)
        if zoom > 62:
            raise InputError(f"zoom is a power of two, at most 62; got {zoom}.")
        lengths = (self.queries, self.keys)
        shape = tile_shape(row0, col0, zoom, size, lengths)
        if self.query is None or (shape[0] * shape[1]) << (2 * zoom) > MOST_PAIRS:
            pyramid = self._pyramid(batch, head)
            if pyramid is not None and pyramid.serves(row0, col0, zoom):
                return pyramid.tile(row0, col0, zoom, shape, pool)
            if self.query is None and pyramid is not None:
                raise self._not_served(pyramid, row0, col0, zoom)
        return pooled(self._head(batch, head), row0, col0, zoom, shape, pool)

    def head_weights(self, head: int, batch: int = 0) -> HeadWeights:
        """The weights of one head, not computed yet: for whoever folds them strip by strip.

        Args:
            head: as in `weights`.
            batch: as in `weights`.

        Raises:
            InputError: as in `weights`.
        """
        return self._head(*self._index(batch, head))

    def patch_weights(
        self, head: int, query: int | Sequence[int], batch: int = 0
    ) -> npt.NDArray[Any]:
        """What one query gives to each patch of the image: its weights, where the patches lie.

        The weights on special tokens are left out, so that the image need not sum to 1.

        Args:
            head: as in `weights`.
            query: a patch (row, column), or the number of a token: 0 is CLS in most models.
            batch: as in `weights`.

        Returns:
            (row, column).

        Raises:
            InputError: as in `weights`; when it is not known how the tokens lie on the image, or
                there is no such patch.
        """
        grid = self.patches
        if grid is None:
            raise InputError(
                f"how the tokens of layer {self.layer!r} lie on an image is not known. Say it: "
                "recording.patches = (rows, columns), or that of this layer alone."
            )
        if isinstance(query, Sequence) or (isinstance(query, np.ndarray) and query.ndim):
            if self.queries != grid.tokens:
                raise InputError(
                    f"the queries of layer {self.layer!r} are no patches of the image: give the "
                    "number of a token."
                )
            query = grid.token(query)
        row = position("query", query, self.queries, "queries")
        weights = self.weights(head, row, grid.span, batch)
        return weights.reshape(grid.rows, grid.columns)

    def _pyramid(self, batch: int, head: int) -> Pyramid | None:
        if not set(MAPS.values()) <= set(self.statistics):
            return None
        mean, maximum = (self.statistics[name][batch, head] for name in MAPS.values())
        return pyramid_of(mean, maximum, (self.queries, self.keys), self.bin_width)

    def _not_served(self, pyramid: Pyramid, row0: int, col0: int, zoom: int) -> InputError:
        return InputError(
            f"of layer {self.layer!r} only statistics were kept. Their overview serves tiles from "
            f"zoom {pyramid.finest} on, whose row0 and col0 are multiples of 2**zoom; got zoom "
            f'{zoom}, row0 {row0} and col0 {col0}. For others record with keep="qk".'
        )

    def _head(self, batch: int, head: int) -> HeadWeights:
        if self.query is None or self.key is None:
            raise InputError(
                f"the queries and keys of layer {self.layer!r} were not kept, only statistics: "
                'record with keep="qk" to read weights.'
            )
        group = self.heads // self.key.shape[1]
        return HeadWeights(
            query=self.query[batch, head],
            key=self.key[batch, head // group],
            lse=self.lse[batch, head],
            mask=None if self.mask is None else self.mask.at((batch, head)),
            bias=bias_of(self.bias, batch, head),
            scale=self.scale,
            softcap=self.softcap,
            dtype=np.float64 if self.query.dtype == np.float64 else np.float32,
        )

    def _index(self, batch: int, head: int) -> tuple[int, int]:
        """Where the batch item and the head stand in the arrays."""
        return (
            position("batch", batch, self.batch, f"batch items in layer {self.layer!r}"),
            self._head_at(head),
        )

    def _head_at(self, head: int) -> int:
        numbers = self.head_numbers
        if numbers != tuple(range(self.heads)) and not isinstance(head, bool):
            if head in numbers:
                return numbers.index(head)
            if hasattr(head, "__index__") and not -len(numbers) <= int(head) < 0:
                named = ", ".join(map(str, numbers[:-1]))
                raise InputError(
                    f"there {'are heads' if named else 'is head'} {named}{' and ' * bool(named)}"
                    f"{numbers[-1]} in layer {self.layer!r}; got head {head}."
                )
        return position("head", head, self.heads, f"heads in layer {self.layer!r}")

    def as_it_stands(self) -> "LayerRecord":
        """The record as it is now: growth puts new arrays in it, or writes behind what there is.

        Only the last bins of an overview, where the text ends within them, are added to in place.
        """
        still = copy(self)
        still.room = {}
        width = self.bin_width or 1
        if self.queries % width or self.keys % width:
            still.statistics = {
                name: array.copy() if "row bin" in self.axes[name] else array
                for name, array in self.statistics.items()
            }
        return still

    def check(self) -> None:
        """See that the arrays fit together, and fix the mask for their shape.

        Raises:
            ShapeError: which array does not fit.
        """
        arrays = {"query": self.query, "key": self.key, "lse": self.lse}
        check_shapes(
            self.layer,
            {name: tuple(array.shape) for name, array in arrays.items() if array is not None},
            {name: tuple(array.shape) for name, array in self.statistics.items()},
            self.axes,
        )
        check_numbers(self.layer, self.head_numbers, self.heads, self.bin_width)
        if self.mask is not None:
            self.mask = self.mask.bind(self.shape)

    def __repr__(self) -> str:
        B, H, Tq, Tk = self.shape
        return (
            f"LayerRecord({self.layer!r}, {self.kind}, batch={B}, head={H}, query={Tq}, key={Tk}, "
            f"statistics: {', '.join(self.statistics) or 'none'})"
        )


def _picked(weights: HeadWeights, rows: range, cols: range) -> Array:
    """Weights of rows or columns that are not neighbours: the rectangle around, row by row."""
    result = np.zeros((len(rows), len(cols)), weights.dtype)
    if not len(cols):
        return result
    first = min(cols[0], cols[-1])
    around = range(first, max(cols[0], cols[-1]) + 1)
    chosen = np.asarray(cols) - first
    for i, row in enumerate(rows):
        result[i] = weights.rectangle(range(row, row + 1), around)[0, chosen]
    return result
