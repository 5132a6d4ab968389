"""Masks inside a page: the keys that each query sees, as runs of neighbours."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from atento._errors import InputError

__all__ = ["MaskRuns", "runs_of"]

Ints = npt.NDArray[np.int32]

MOST_RUNS = 4_000_000
"""A causal mask has one run for each query; one of random pairs would have a run for every few."""

ROWS, COLS = 256, 2048
"""A mask is asked in blocks of so many queries and keys."""


class MaskRuns:
    """The masks of a page: each is written once, however many heads and layers see through it."""

    def __init__(self) -> None:
        self.written: list[dict[str, Ints]] = []
        self._known: dict[tuple[int, ...], int] = {}
        self._same: dict[tuple[bytes, ...], int] = {}
        self._kept: list[Any] = []
        self._runs = 0

    def add(self, layer: Any, batch: int, heads: list[int]) -> list[int] | None:
        """The place in ``written`` of each head's mask; None where every query sees every key.

        Raises:
            InputError: when the masks have too many runs for a page.
        """
        mask = layer.mask
        if mask is None:
            return None
        self._kept.append(mask)  # so that no other mask gets its id
        sizes = (1,) * (2 - len(mask.leading)) + tuple(mask.leading)
        places = []
        for head in heads:
            index = tuple(0 if n == 1 else i for i, n in zip((batch, head), sizes, strict=True))
            key = (id(mask), *index, layer.queries, layer.keys)
            if key not in self._known:
                self._known[key] = self._add(mask.at(index), layer)
            places.append(self._known[key])
        return places

    def _add(self, mask: Any, layer: Any) -> int:
        runs = runs_of(mask, layer.queries, layer.keys, MOST_RUNS - self._runs)
        if runs is None:
            raise InputError(
                f"the mask of layer {layer.layer!r} is too broken for a page: the keys that its "
                f"queries see are more than {MOST_RUNS} runs of neighbours. Draw fewer layers or "
                "heads, with layers= or heads=."
            )
        content = tuple(array.tobytes() for array in runs.values())
        if content not in self._same:
            self._same[content] = len(self.written)
            self.written.append(runs)
            self._runs += len(runs["starts"])
        return self._same[content]


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
    """
    rows, starts, stops = [], [], []
    count = 0
    for first in range(0, queries, ROWS):
        own = range(first, min(first + ROWS, queries))
        parts = np.concatenate([np.empty((3, 0), np.int64), *_pieces(mask, own, keys)], axis=1)
        row, start, stop = _joined(parts)
        rows.append(row)
        starts.append(start)
        stops.append(stop)
        count += len(row)
        if count > most:
            return None
    lengths = np.bincount(np.concatenate([[0], *rows]).astype(int), minlength=queries + 1)
    lengths[0] -= 1  # the 0 in front, which is there for masks without any query
    offsets = np.concatenate([[0], np.cumsum(lengths[:queries])])
    return {
        "offsets": offsets.astype("<i4"),
        "starts": np.concatenate([[], *starts]).astype("<i4"),
        "stops": np.concatenate([[], *stops]).astype("<i4"),
    }


def _pieces(mask: Any, rows: range, keys: int) -> Iterator[npt.NDArray[np.int64]]:
    """(row, start, stop) of the runs within each block of keys."""
    for first in range(0, keys, COLS):
        cols = range(first, min(first + COLS, keys))
        seen = mask.coverage(rows, cols)
        if seen is None:
            seen = mask.block(rows, cols)
        if not isinstance(seen, np.ndarray):  # all of them, or none
            if seen.value:
                yield np.stack([np.asarray(rows), *np.full((2, len(rows)), [[first], [cols.stop]])])
            continue
        edges = np.diff(seen.astype(np.int8), axis=1, prepend=0, append=0)
        row, start = np.nonzero(edges == 1)
        stop = np.nonzero(edges == -1)[1]
        yield np.stack([row + rows.start, start + first, stop + first])


def _joined(parts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Sorted by row and start, a run that ends where the next one begins joined to it."""
    parts = parts[:, np.lexsort((parts[1], parts[0]))]
    row, start, stop = parts
    meets = (row[1:] == row[:-1]) & (start[1:] == stop[:-1])
    begins = np.concatenate([[True], ~meets])[: len(row)]
    ends = np.concatenate([~meets, [True]])[: len(row)]
    return np.stack([row[begins], start[begins], stop[ends]])
