"""One layer's calls of cached decoding become one record: rows are appended, keys get longer."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from atento._arrays import to_numpy
from atento.masks import ALL, NONE, Causal, Coverage, Explicit, Mask, Window
from atento.masks.band import Band
from atento.masks.mask import Both, Tile
from atento.reading.key_prints import latest_prints, same_prints
from atento.reading.layer import LayerRecord
from atento.reading.pyramid import joined_overview
from atento.reading.tiles import BiasTile, bias_of

__all__ = ["StackedBias", "StackedMask", "continues", "grow"]

Array = npt.NDArray[Any]

NEAR = 0.02
"""Keys of the same tokens in half precision, computed in another place of a batch."""


def continues(record: LayerRecord, new: LayerRecord, others: Iterable[LayerRecord]) -> bool:
    """Whether a call is the next step of what is recorded, not the same layer run anew.

    A step's first query stands where the recorded ones end, and its keys begin with the recorded
    ones: all of them are looked at, in one head, since a cache whose beams changed places may hold
    the same first and last tokens. What the first layer of a stack finds holds for the others,
    whose keys may differ by the rounding of equal beams. Cross-attention has no such position:
    there, the keys are the same, and the stack's own layers have grown by just these queries.

    Args:
        record: the layer's latest record.
        new: the call.
        others: the latest records of all layers.
    """
    alike = (
        record.kind == new.kind
        and record.scale == new.scale
        and record.softcap == new.softcap
        and (record.batch, record.head_numbers) == (new.batch, new.head_numbers)
        and (record.key is None) == (new.key is None)
        and new.keys >= record.keys
    )
    if not alike or not record.queries:
        return False
    reached = record.first_query + record.queries
    if new.first_query == reached:
        found = _as_others_did(record, new, others)
        if found is False:
            return False
        return _same_keys(record, new, slice(1), slice(reached), nearly=found is True)
    return (
        record.kind == "cross"
        and new.keys == record.keys
        and _same_keys(record, new, slice(None), slice(None))
        and any(
            other.kind == "self"
            and other.side == record.side
            and other.queries == record.queries + new.queries
            for other in others
        )
    )


def _as_others_did(
    record: LayerRecord, new: LayerRecord, others: Iterable[LayerRecord]
) -> bool | None:
    """Whether a layer that has taken this step already continued; None: there is none."""
    for other in others:
        same_stack = (other.kind, other.side, other.batch) == ("self", new.side, new.batch)
        taken = other.first_query + other.queries == new.first_query + new.queries
        if same_stack and taken and other.first_query in (record.first_query, new.first_query):
            return other.first_query == record.first_query
    return None


def _same_keys(
    record: LayerRecord, new: LayerRecord, heads: slice, keys: slice, nearly: bool = False
) -> bool:
    """Whether these of the recorded keys are the call's too, to the bit or about so."""
    if record.key_prints is not None and new.key_prints is not None:
        old, found = record.key_prints[:, keys], new.key_prints[:, : record.keys][:, keys]
        return same_prints(old, found, NEAR if nearly else 0.0)
    if record.key is None or new.key is None:
        return True
    if record.key.shape[1::2] != new.key.shape[1::2]:
        return False
    recorded = record.key[:, heads, keys]
    found = new.key[:, heads, : record.keys][:, :, keys]
    if nearly:
        apart = NEAR * float(np.abs(recorded).mean()) if recorded.size else 0.0
        return np.allclose(recorded, found, rtol=NEAR, atol=apart, equal_nan=True)
    return np.array_equal(recorded, found, equal_nan=True)


def grow(record: LayerRecord, new: LayerRecord) -> None:
    """Append a call's queries to the record that it continues.

    Query, log-sum-exp and statistics of queries are appended. Keys are the new call's. Statistics
    of keys are added up, or their maximum is taken where the name ends in "max". Overviews with a
    ``bin_width`` are joined. Other statistics (an overview of so many bins, one number a head) are
    of one call alone and are dropped, and so is the grid of patches.
    """
    start, longer = record.queries, new.keys
    record.mask = _stacked_masks(record, new)
    record.bias = _stacked_bias(record, new)
    record.statistics = _joined_statistics(record, new) | joined_overview(record, new)
    record.axes = {name: record.axes[name] for name in record.statistics}
    record.bin_width = new.bin_width
    record.patches = None
    if record.query is not None:
        record.query = _appended(record, "query", start, new.query)
        record.key = new.key
    if record.key_prints is not None:
        record.key_prints = latest_prints(record.key_prints, new.key_prints)
    record.lse = _appended(record, "lse", start, new.lse)
    record.key_length = longer


def _appended(record: LayerRecord, name: str, start: int, new: Array) -> Array:
    """The array with the new rows, in memory that doubles: each step copies only its own rows."""
    old, total = getattr(record, name), start + new.shape[2]
    room = record.room.get(name)
    if room is None or old.base is not room or room.shape[2] < total:
        shape = (*old.shape[:2], max(total, 2 * start), *old.shape[3:])
        room = np.empty(shape, np.result_type(old, new))
        room[:, :, :start] = old
        record.room[name] = room
    room[:, :, start:total] = new
    grown: Array = room[:, :, :total]
    return grown


def _joined_statistics(record: LayerRecord, new: LayerRecord) -> dict[str, Array]:
    joined = {}
    for name, old in record.statistics.items():
        axes = record.axes[name]
        if name not in new.statistics or new.axes[name] != axes:
            continue
        own = new.statistics[name]
        if "query" in axes and "key" not in axes:
            joined[name] = np.concatenate([old, own], axis=1 + axes.index("query"))
        elif "key" in axes and "query" not in axes:
            joined[name] = _joined_keys(name, old, own, 1 + axes.index("key"))
    return joined


def _joined_keys(name: str, old: Array, new: Array, axis: int) -> Array:
    padding = [(0, 0)] * old.ndim
    padding[axis] = (0, new.shape[axis] - old.shape[axis])
    old = np.pad(old, padding)
    return np.maximum(old, new) if name.endswith("max") else old + new


class _Part:
    """The mask of some consecutive rows, bound to these rows and the first ``keys`` keys."""

    def __init__(self, rows: range, keys: int, mask: Mask | None) -> None:
        self.rows, self.keys, self.mask = rows, keys, mask

    def coverage(self, rows: range, cols: range) -> Coverage | None:
        known = range(cols.start, min(cols.stop, self.keys))
        if not known:
            return NONE
        covered = ALL if self.mask is None else self.mask.coverage(self._own(rows), known)
        return covered if covered is NONE or known == cols else None

    def block(self, rows: range, cols: range, leading: tuple[int, ...]) -> npt.NDArray[np.bool_]:
        result = np.zeros((*leading, len(rows), len(cols)), bool)
        known = range(cols.start, min(cols.stop, self.keys))
        if known:
            tile = ALL if self.mask is None else self.mask.block(self._own(rows), known)
            result[..., : len(known)] = tile.value if isinstance(tile, Coverage) else tile
        return result

    def _own(self, rows: range) -> range:
        return range(rows.start - self.rows.start, rows.stop - self.rows.start)


class StackedMask(Mask):
    """Masks of several calls, one below the other; keys that came later are hidden from earlier.

    Args:
        parts: (first row, number of rows, number of keys, mask bound to these or None), in order.
    """

    def __init__(self, parts: Iterable[tuple[int, int, int, Mask | None]]) -> None:
        self.parts = tuple(parts)
        self._parts = [
            _Part(range(start, start + rows), keys, mask) for start, rows, keys, mask in self.parts
        ]

    @property
    def leading(self) -> tuple[int, ...]:
        """The (batch, head) sizes of all parts together."""
        masks = [part.mask for part in self._parts if part.mask is not None]
        return np.broadcast_shapes(*(mask.leading for mask in masks))

    def bind(self, shape: tuple[int, ...] | None) -> Mask:
        """Itself: its parts are bound."""
        del shape
        return self

    def at(self, index: tuple[int, ...]) -> Mask:
        """The masks of one (batch, head)."""
        return StackedMask(
            (start, rows, keys, None if mask is None else mask.at(index))
            for start, rows, keys, mask in self.parts
        )

    def coverage(self, rows: range, cols: range) -> Coverage | None:
        """ALL or NONE where every part is so."""
        if not rows or not cols:
            return NONE
        found = {part.coverage(own, cols) for part, own in self._touched(rows)}
        return found.pop() if len(found) == 1 else None

    def pairs(self, lengths: tuple[int, int], xp: Any, device: Any) -> Any:
        """All pairs at once."""
        return xp.asarray(self._evaluate(range(lengths[0]), range(lengths[1])), device=device)

    def _evaluate(self, rows: range, cols: range) -> Tile:
        tiles = [part.block(own, cols, self.leading) for part, own in self._touched(rows)]
        if not tiles:
            return NONE
        return np.concatenate(tiles, axis=-2)

    def _touched(self, rows: range) -> Iterator[tuple[_Part, range]]:
        for part in self._parts:
            own = range(max(rows.start, part.rows.start), min(rows.stop, part.rows.stop))
            if own:
                yield part, own

    def __repr__(self) -> str:
        return f"StackedMask({len(self.parts)} calls)"


def _stacked_masks(record: LayerRecord, new: LayerRecord) -> Mask | None:
    """The masks of both, as one rule where they are one: a band, or a band and padded keys."""
    if isinstance(record.mask, StackedMask):
        parts = list(record.mask.parts)
    else:
        parts = [(0, record.queries, record.keys, record.mask)]
    start, rows, keys, mask = parts[-1]
    joined = _one_rule(
        _Part(range(start, start + rows), keys, mask),
        _Part(range(record.queries, record.queries + new.queries), new.keys, new.mask),
    )
    if joined is None:
        parts.append((record.queries, new.queries, new.keys, new.mask))
    else:
        parts[-1] = (start, rows + new.queries, new.keys, joined)
    if len(parts) == 1:
        return parts[0][3]
    return StackedMask(parts)


class _Band:
    """A part as key >= row + first, key <= row + last, and keys to keep; rows of the record."""

    def __init__(self, part: _Part) -> None:
        self.part = part
        self.first: int | None = None
        self.last: int | None = None
        self.keep: npt.NDArray[np.bool_] | None = None
        self.known = all(self._take(rule) for rule in _factors(part.mask)) and self._hides_later()
        if self.keep is not None and self.keep.all():
            self.keep = None

    def _take(self, rule: Mask) -> bool:
        start = self.part.rows.start
        if isinstance(rule, Band):
            if rule.first is not None:
                first = rule.first - start
                self.first = first if self.first is None else max(first, self.first)
            if rule.last is not None:
                last = rule.last - start
                self.last = last if self.last is None else min(last, self.last)
            return True
        if isinstance(rule, Explicit) and rule.array.shape[-2] == 1:
            keep = to_numpy(rule.array)
            keep = np.broadcast_to(keep, (*keep.shape[:-1], self.part.keys))
            self.keep = keep if self.keep is None else self.keep & keep
            return True
        return False

    def _hides_later(self) -> bool:
        """Whether the band itself hides the keys that are yet to come."""
        rows, newest = self.part.rows, self.part.keys - 1
        if len(rows) == 1:
            reach = newest - rows.start
            self.last = reach if self.last is None else min(self.last, reach)
        return self.last is not None and rows.stop - 1 + self.last <= newest

    def ends(self, rows: range) -> tuple[Array, Array]:
        """The first and the last key of each row, as far as there are any."""
        row = np.arange(rows.start, rows.stop)
        first = np.zeros_like(row) if self.first is None else np.maximum(row + self.first, 0)
        last = np.full_like(row, self.part.keys - 1) if self.last is None else row + self.last
        return first, last

    def kept(self, keys: int) -> npt.NDArray[np.bool_]:
        return np.ones((1, 1, 1, keys), bool) if self.keep is None else self.keep


def _one_rule(old: _Part, new: _Part) -> Mask | None:
    """The rule of both parts together, in the rows of the first; None when they need two."""
    before, after = _Band(old), _Band(new)
    if not before.known or not after.known or before.last is None:
        return None
    ends = zip(before.ends(new.rows), after.ends(new.rows), strict=True)
    if not all(np.array_equal(mine, theirs) for mine, theirs in ends):
        return None
    keep = after.kept(new.keys)
    earlier = keep[..., : old.keys]
    if before.keep is None:
        if not earlier.all():
            return None
    elif not np.array_equal(earlier, before.keep):
        return None
    start = old.rows.start
    first = None if before.first is None else before.first + start
    last = before.last + start
    left = None if first is None else max(0, last - first)
    band = Band(first, last, Causal() if left is None else Window(left=left, right=0))
    return band if after.keep is None else Both(band, Explicit(after.keep))


def _factors(mask: Mask | None) -> Iterator[Mask]:
    if isinstance(mask, Both):
        yield from _factors(mask.first)
        yield from _factors(mask.second)
    elif mask is not None:
        yield mask


class StackedBias:
    """Biases of several calls, one below the other; 0 for keys that came later.

    Args:
        parts: (first row, number of rows, number of keys, bias or None), in order.
    """

    def __init__(self, parts: Iterable[tuple[int, int, int, Any]]) -> None:
        self.parts = tuple(parts)

    def at(self, batch: int, head: int) -> BiasTile:
        """The bias of one head, asked for by rows and columns."""
        own = [(*part[:3], bias_of(part[3], batch, head)) for part in self.parts]

        def tile(rows: range, cols: range) -> Array:
            result = np.zeros((len(rows), len(cols)), np.float64)
            for start, count, keys, bias in own:
                mine = range(max(rows.start, start), min(rows.stop, start + count))
                known = range(cols.start, min(cols.stop, keys))
                if bias is not None and mine and known:
                    at = slice(mine.start - rows.start, mine.stop - rows.start)
                    local = range(mine.start - start, mine.stop - start)
                    result[at, : len(known)] = bias(local, known)
            return result

        return tile


def _stacked_bias(record: LayerRecord, new: LayerRecord) -> StackedBias | None:
    if record.bias is None and new.bias is None:
        return None
    if isinstance(record.bias, StackedBias):
        parts = record.bias.parts
    else:
        parts = ((0, record.queries, record.keys, record.bias),)
    return StackedBias((*parts, (record.queries, new.queries, new.keys, new.bias)))
