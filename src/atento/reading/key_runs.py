"""The keys that each query sees, as runs of neighbours, asked of a mask by its rule.

A causal mask has one run for each query: it is known from the rule's two numbers, and none of its
pairs is looked at. Rules that are combined have the runs of their parts, united, cut or turned
around. Only a rule that is a function, or an array of pairs, is asked block by block.

The runs of some queries lie on one line: the keys of the first, a gap of one, the keys of the
second, and so on. There, "and", "or" and "not" of whole rows are each one sort of their ends.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from atento._arrays import to_numpy
from atento.masks import Explicit, Mask, Prefix
from atento.masks.band import Band
from atento.masks.mask import Both, Either, Not
from atento.masks.segments import _SameSegment
from atento.reading.growth import StackedMask
from atento.reading.stored_masks import Intervals

__all__ = ["MOST_RUNS", "runs_of"]

Whole = npt.NDArray[np.int64]
Ints = npt.NDArray[np.int32]
Ends = tuple[Whole, Whole]
"""Where runs start and stop on the line, both rising; neighbouring runs do not touch."""

MOST_RUNS = 4_000_000
"""A causal mask has one run for each query; one of random pairs would have a run for every few."""

ROWS, COLS = 256, 2048
"""Queries at a time; a rule that is a function is asked in blocks of so many queries and keys."""

AT_ONCE = 2**21
"""Runs of a part that are held for some queries; where they are more, blocks are asked."""


class _Strip(NamedTuple):
    """Some queries, each with the keys from ``low`` up to but not including ``high``."""

    rows: range
    keys: int
    low: Whole
    high: Whole

    @property
    def line(self) -> Whole:
        """Where the keys of each query begin on the line."""
        return np.arange(len(self.rows), dtype=np.int64) * (self.keys + 1)

    def cut(self, ends: Ends) -> "_Strip":
        """The same queries, with fewer keys: those from ends[0] to ends[1] of all queries."""
        own = slice(self.rows.start, self.rows.stop)
        low = np.clip(ends[0][own], self.low, self.high)
        return self._replace(low=low, high=np.clip(ends[1][own], low, self.high))

    def runs(self) -> Ends:
        """One run for each query that has keys."""
        some = self.low < self.high
        return (self.line + self.low)[some], (self.line + self.high)[some]


class _TooManyError(Exception):
    """A part of a mask has more runs than are held at once."""


def runs_of(mask: Any, queries: int, keys: int, most: int = MOST_RUNS) -> dict[str, Ints] | None:
    """The keys that each query sees, as runs [start, stop).

    Args:
        mask: a bound rule without leading axes.
        queries: Tq.
        keys: Tk.
        most: None is returned where there are more runs.

    Returns:
        ``offsets`` (Tq + 1): the runs of query i are offsets[i] to offsets[i + 1] of ``starts``
        and ``stops``.

    >>> from atento.masks import Causal, KeyPadding
    >>> rule = (Causal() & KeyPadding([True, False, True])).bind((3, 3))
    >>> {name: array.tolist() for name, array in runs_of(rule, 3, 3).items()}
    {'offsets': [0, 1, 2, 4], 'starts': [0, 0, 0, 2], 'stops': [1, 1, 1, 3]}
    """
    seen = _asked(mask, queries, keys)
    lengths, starts, stops = [], [], []
    count = 0
    for first in range(0, queries, ROWS):
        rows = range(first, min(first + ROWS, queries))
        nothing = np.zeros(len(rows), np.int64)
        strip = _Strip(rows, keys, nothing, nothing + keys)
        try:
            start, stop = seen(strip)
        except _TooManyError:
            try:
                start, stop = _by_blocks(mask, strip)
            except _TooManyError:
                return None
        row, start_key = np.divmod(start, keys + 1)
        lengths.append(np.bincount(row, minlength=len(rows)))
        starts.append(start_key)
        stops.append(stop % (keys + 1))
        count += len(row)
        if count > most:
            return None
    return {
        "offsets": np.cumsum(np.concatenate([[0], *lengths])).astype("<i4"),
        "starts": np.concatenate([[], *starts]).astype("<i4"),
        "stops": np.concatenate([[], *stops]).astype("<i4"),
    }


def _asked(mask: Mask, queries: int, keys: int) -> Callable[[_Strip], Ends]:
    """Tells the runs of a strip; what does not depend on the queries is looked at once."""
    interval = _interval(mask, queries, keys)
    if interval is not None:
        return lambda strip: strip.cut(interval).runs()
    match mask:
        case Both():
            return _both(mask, queries, keys)
        case Either():
            parts = [_asked(part, queries, keys) for part in (mask.first, mask.second)]
            return lambda strip: _overlaps(*(part(strip) for part in parts), of=1)
        case Not():
            turned = _asked(mask.rule, queries, keys)
            return lambda strip: _others(turned(strip), strip)
        case StackedMask():
            return _stacked(mask)
        case _SameSegment():
            return _segments(to_numpy(mask.query_ids), to_numpy(mask.key_ids))
        case Explicit() if mask.array.shape[-2] == 1 < mask.array.shape[-1]:
            return _segments(np.ones(queries, bool), to_numpy(mask.array)[0])
    return lambda strip: _by_blocks(mask, strip)


def _interval(mask: Mask, queries: int, keys: int) -> Ends | None:
    """Each query's keys as one run, where the rule says so; unlimited at either side."""
    query = np.arange(queries, dtype=np.int64)
    match mask:
        case Band():
            first = query * 0 if mask.first is None else query + mask.first
            return first, query * 0 + keys if mask.last is None else query + mask.last + 1
        case Prefix():
            return query * 0, query * 0 + mask.n
        case Intervals():
            return mask.starts.astype(np.int64), mask.stops.astype(np.int64)
        case Both():
            mine, theirs = (_interval(part, queries, keys) for part in (mask.first, mask.second))
            if mine is not None and theirs is not None:
                return np.maximum(mine[0], theirs[0]), np.minimum(mine[1], theirs[1])
    return None


def _both(mask: Both, queries: int, keys: int) -> Callable[[_Strip], Ends]:
    """Where one part is an interval, the other is asked within it alone."""
    for part, other in ((mask.first, mask.second), (mask.second, mask.first)):
        interval = _interval(part, queries, keys)
        if interval is not None:
            asked, within = _asked(other, queries, keys), interval
            return lambda strip: asked(strip.cut(within))
    parts = [_asked(part, queries, keys) for part in (mask.first, mask.second)]
    return lambda strip: _overlaps(*(part(strip) for part in parts), of=2)


def _overlaps(mine: Ends, theirs: Ends, *, of: int) -> Ends:
    """What lies in both (of=2), or in at least one (of=1)."""
    starts, stops = (np.concatenate(ends) for ends in zip(mine, theirs, strict=True))
    # Where one run stops and another starts, the start comes first: they are one.
    place = np.concatenate([2 * starts, 2 * stops + 1])
    place.sort()
    closes = place & 1
    depth = np.cumsum(1 - 2 * closes)
    start = place[(depth == of) & (closes == 0)] >> 1
    stop = place[(depth == of - 1) & (closes == 1)] >> 1
    return start[start < stop], stop[start < stop]


def _others(ends: Ends, strip: _Strip) -> Ends:
    """The keys of the strip that lie in none of the runs."""
    start = np.sort(np.concatenate([strip.line + strip.low, ends[1]]))
    stop = np.sort(np.concatenate([ends[0], strip.line + strip.high]))
    return start[start < stop], stop[start < stop]


def _segments(query_ids: npt.NDArray[Any], key_ids: npt.NDArray[Any]) -> Callable[[_Strip], Ends]:
    """The runs of keys that have the query's id. Padded keys are those of another id."""
    edges = np.flatnonzero(key_ids[1:] != key_ids[:-1]) + 1
    start = np.concatenate([[0], edges]) if len(key_ids) else edges
    stop = np.concatenate([edges, [len(key_ids)]]) if len(key_ids) else edges
    known, number = np.unique(key_ids[start], return_inverse=True)
    order = np.argsort(number, kind="stable")
    number, start, stop = number[order], start[order], stop[order]
    apart = len(key_ids) + 1  # the runs of each id lie on a line as well
    place = np.searchsorted(known, query_ids)
    is_known = np.isin(query_ids, known)

    def told(strip: _Strip) -> Ends:
        own = slice(strip.rows.start, strip.rows.stop)
        before = place[own] * apart
        first = np.searchsorted(number * apart + stop, before + strip.low, side="right")
        last = np.searchsorted(number * apart + start, before + strip.high, side="left")
        counts = np.where(is_known[own], np.maximum(last - first, 0), 0)
        if counts.sum() > AT_ONCE:
            raise _TooManyError
        at = np.arange(counts.sum()) + np.repeat(first - np.cumsum(counts) + counts, counts)
        low, high, line = (np.repeat(x, counts) for x in (strip.low, strip.high, strip.line))
        return line + np.maximum(start[at], low), line + np.minimum(stop[at], high)

    return told


def _stacked(mask: StackedMask) -> Callable[[_Strip], Ends]:
    """Each call's mask speaks of its own queries, and of the keys that were there."""
    asked = [
        None if part is None else _asked(part, rows, keys) for _, rows, keys, part in mask.parts
    ]
    begins = [part[0] for part in mask.parts]

    def told(strip: _Strip) -> Ends:
        found: list[Ends] = []
        for at in range(max(0, bisect_right(begins, strip.rows.start) - 1), len(begins)):
            start, rows, keys, _ = mask.parts[at]
            first, last = max(strip.rows.start, start), min(strip.rows.stop, start + rows)
            if start >= strip.rows.stop:
                break
            own = slice(first - strip.rows.start, last - strip.rows.start)
            low, high = (np.minimum(end[own], keys) for end in (strip.low, strip.high))
            part = _Strip(range(first - start, last - start), strip.keys, low, high)
            seen = asked[at]
            ends = part.runs() if seen is None else seen(part)
            found.append((ends[0] + strip.line[own][0], ends[1] + strip.line[own][0]))
        starts, stops = zip(*found, strict=True) if found else ((), ())
        nothing = np.empty(0, np.int64)
        return np.concatenate([nothing, *starts]), np.concatenate([nothing, *stops])

    return told


def _by_blocks(mask: Mask, strip: _Strip) -> Ends:
    """Of a rule that must be asked pair by pair.

    Raises:
        _TooManyError: there are more runs than a page takes, in these queries alone.
    """
    parts: list[Ends] = []
    count = 0
    for part in _pieces(mask, strip):
        parts.append(part)
        count += len(part[0]) - len(strip.rows)  # a run that goes on in the next block is no more
        if count > MOST_RUNS:
            raise _TooManyError
    starts, stops = zip(*parts, strict=True) if parts else ((), ())
    nothing = np.empty(0, np.int64)
    start, stop = (np.sort(np.concatenate([nothing, *ends])) for ends in (starts, stops))
    meets = start[1:] == stop[:-1]
    joined = (
        start[np.append(True, ~meets)[: len(start)]],
        stop[np.append(~meets, True)[: len(stop)]],
    )
    return _overlaps(joined, strip.runs(), of=2)


def _pieces(mask: Mask, strip: _Strip) -> Iterator[Ends]:
    """The runs within each block of keys."""
    if not len(strip.rows) or not strip.keys:
        return
    for first in range(0, int(strip.high.max()), COLS):
        cols = range(first, min(first + COLS, strip.keys))
        if cols.stop <= strip.low.min():
            continue
        seen: Any = mask.coverage(strip.rows, cols)
        if seen is None:
            seen = mask.block(strip.rows, cols)
        if not isinstance(seen, np.ndarray):  # all of them, or none
            if seen.value:
                yield strip.line + first, strip.line + cols.stop
            continue
        edges = np.diff(seen.astype(np.int8), axis=1, prepend=0, append=0)
        row, start = np.nonzero(edges == 1)
        stop = np.nonzero(edges == -1)[1]
        yield strip.line[row] + start + first, strip.line[row] + stop + first
