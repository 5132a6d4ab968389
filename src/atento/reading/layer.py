"""What is kept of one layer: enough to compute any of its weights again, exactly."""

import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from atento._errors import InputError, ShapeError
from atento.masks import Mask
from atento.reading.tiles import (
    MOST_PAIRS,
    HeadWeights,
    Overview,
    bias_of,
    overview_of,
    pooled,
    tile_shape,
)

__all__ = ["LayerRecord", "Span", "check_shapes"]

Array = npt.NDArray[Any]
Span = slice | range | tuple[int, int] | int | None

POOLS = ("mean", "max")


@dataclass(eq=False, repr=False)
class LayerRecord:
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
    room: dict[str, Any] = field(default_factory=dict, init=False)

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

    def weights(
        self, head: int, rows: Span = None, cols: Span = None, batch: int = 0
    ) -> npt.NDArray[Any]:
        """The weights of one head: exp(softcap(q · k · scale) + bias − lse), 0 behind the mask.

        Exact, in the memory of the answer and one strip of it.

        Args:
            head: the query head; −1 is the last.
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
        own = _span("rows", rows, self.queries, "queries")
        wide = _span("cols", cols, self.keys, "keys")
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
            InputError: as in `weights`; for a corner outside, or an unknown pool.
        """
        batch, head = self._index(batch, head)
        if pool not in POOLS:
            raise InputError(f'pool must be "mean" or "max"; got {pool!r}.')
        row0, col0 = _whole("row0", row0, 0), _whole("col0", col0, 0)
        zoom, size = _whole("zoom", zoom, 0), _whole("size", size, 1)
        if zoom > 62:
            raise InputError(f"zoom is a power of two, at most 62; got {zoom}.")
        lengths = (self.queries, self.keys)
        shape = tile_shape(row0, col0, zoom, size, lengths)
        if self.query is None or (shape[0] * shape[1]) << (2 * zoom) > MOST_PAIRS:
            overview = self._overview(batch, head)
            if overview is not None and overview.serves(row0, col0, zoom):
                return overview.tile(row0, col0, zoom, shape, pool)
        return pooled(self._head(batch, head), row0, col0, zoom, shape, pool)

    def _overview(self, batch: int, head: int) -> Overview | None:
        if not {"overview_mean", "overview_max"} <= set(self.statistics):
            return None
        mean, maximum = (
            self.statistics[name][batch, head] for name in ("overview_mean", "overview_max")
        )
        return overview_of(mean, maximum, (self.queries, self.keys))

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
        return (
            _position("batch", batch, self.batch, f"batch items in layer {self.layer!r}"),
            _position("head", head, self.heads, f"heads in layer {self.layer!r}"),
        )

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
        if self.mask is not None:
            self.mask = self.mask.bind(self.shape)

    def __repr__(self) -> str:
        B, H, Tq, Tk = self.shape
        return (
            f"LayerRecord({self.layer!r}, {self.kind}, batch={B}, head={H}, query={Tq}, key={Tk}, "
            f"statistics: {', '.join(self.statistics) or 'none'})"
        )


def check_shapes(
    layer: str,
    arrays: Mapping[str, tuple[int, ...]],
    statistics: Mapping[str, tuple[int, ...]],
    axes: Mapping[str, tuple[str, ...]],
) -> None:
    """See that arrays of these shapes belong to one layer.

    Args:
        layer: its name, for messages.
        arrays: the shapes of "lse", and of "query" and "key" where they were kept.
        statistics: the shape of each.
        axes: the axes of each, without batch.

    Raises:
        ShapeError: which one does not fit.
    """
    where = f"layer {layer!r}: "
    lse = arrays["lse"]
    if len(lse) != 3:
        raise ShapeError(f"{where}lse must have the axes (batch, head, query); got shape {lse}.")
    B, H, Tq = lse
    sizes = {"head": H, "query": Tq}
    if ("query" in arrays) != ("key" in arrays):
        raise ShapeError(f"{where}query and key are kept both or neither.")
    if "query" in arrays:
        query, key = arrays["query"], arrays["key"]
        if len(query) != 4 or query[:3] != lse:
            raise ShapeError(
                f"{where}query must be (batch, head, query, feature) with lse's {lse} in front; "
                f"got {query}."
            )
        if len(key) != 4 or key[0] != B or key[3] != query[3] or not key[1] or H % key[1]:
            raise ShapeError(
                f"{where}key must be (batch, key head, key, feature) that fits query {query}, "
                f"with query heads a multiple of key heads; got {key}."
            )
        sizes["key"] = key[2]
    for name, shape in statistics.items():
        if name not in axes:
            raise ShapeError(f"{where}the axes of the statistic {name!r} are not said.")
        if len(shape) != 1 + len(axes[name]) or shape[0] != B:
            raise ShapeError(
                f"{where}the statistic {name!r} must have the axes (batch, "
                f"{', '.join(axes[name])}) for {B} batch items; got shape {shape}."
            )
        for axis, size in zip(axes[name], shape[1:], strict=True):
            # The first that has keys says how many, where the keys themselves were not kept.
            expected = sizes.setdefault(axis, size) if axis == "key" else sizes.get(axis, size)
            if size != expected:
                raise ShapeError(
                    f"{where}the statistic {name!r} has size {size} on its axis {axis}, where "
                    f"{expected} was expected."
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


def _span(name: str, span: Span, length: int, what: str) -> range:
    """The positions that are meant, within the length."""
    if span is None:
        return range(length)
    if isinstance(span, tuple) and len(span) == 2:
        span = slice(*span)
    try:
        if isinstance(span, slice):
            return range(length)[span]
        if isinstance(span, range):
            return _within(name, span, length)
        index = operator.index(span)
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{name} must be a slice, a range, (start, stop), one index or None; got {span!r}."
        ) from None
    if isinstance(span, bool):
        raise InputError(f"{name} must be positions, not {span!r}.")
    at = _position(name, index, length, what)
    return range(at, at + 1)


def _within(name: str, span: range, length: int) -> range:
    if span and min(span[0], span[-1]) < 0:
        raise InputError(
            f"{name} is a range of positions, from 0 on; got {span!r}. To count from the end "
            "write a slice."
        )
    if span.step > 0:
        return range(span.start, min(span.stop, length), span.step)
    skipped = max(0, -(-(span.start - length + 1) // -span.step)) if span else 0
    return span[skipped:]


def _position(name: str, index: Any, size: int, what: str) -> int:
    try:
        at = operator.index(index)
    except TypeError:
        raise InputError(f"{name} must be a whole number; got {index!r}.") from None
    if isinstance(index, bool):
        raise InputError(f"{name} must be a whole number; got {index!r}.")
    if not -size <= at < size:
        raise InputError(
            f"there are {size} {what}, 0 to {size - 1}; got {name} {at}."
            if size
            else f"there are no {what}; got {name} {at}."
        )
    return at % size


def _whole(name: str, number: Any, least: int) -> int:
    try:
        whole = operator.index(number)
    except TypeError:
        whole = least - 1
    if isinstance(number, bool) or whole < least:
        raise InputError(f"{name} must be a whole number from {least} on; got {number!r}.")
    return whole
