"""Things on disk, one line of JSON each, any of them read without the others."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from atento._errors import InputError
from atento.retrieval.stored_values import from_json, from_json_lines

__all__ = ["JoinedLines", "JsonLines"]

AT_ONCE = 4096
"""Lines that are read at a time where all are wanted: far faster than one by one."""


class JsonLines(Sequence[Any]):
    """The lines of one file; where each begins stands in another.

    Args:
        lines: the file of lines.
        offsets: ``size + 1`` little-endian 64-bit numbers: the last one is the file's length.
        size: how many.
    """

    def __init__(self, lines: Path, offsets: Path, size: int) -> None:
        self._path = lines
        self._bytes = np.memmap(lines, np.uint8, "r")
        self._offsets = np.memmap(offsets, "<u8", "r", shape=(size + 1,))
        self._size = size
        if int(self._offsets[0]) or int(self._offsets[-1]) != len(self._bytes):
            raise self._damaged(0)

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, row: int) -> Any: ...
    @overload
    def __getitem__(self, row: slice) -> list[Any]: ...
    def __getitem__(self, row: int | slice) -> Any:
        if isinstance(row, slice):
            return [self[one] for one in range(*row.indices(self._size))]
        if not 0 <= row < self._size:
            raise IndexError(row)
        start, stop = int(self._offsets[row]), int(self._offsets[row + 1])
        if not start < stop <= len(self._bytes):
            raise self._damaged(row)
        try:
            return from_json(self._bytes[start:stop].tobytes())
        except ValueError:
            raise self._damaged(row) from None

    def __iter__(self) -> Iterator[Any]:
        for start in range(0, self._size, AT_ONCE):
            stop = min(start + AT_ONCE, self._size)
            try:
                lines = self._bytes[int(self._offsets[start]) : int(self._offsets[stop])]
                things = from_json_lines(lines.tobytes())
            except ValueError:
                things = []
            if len(things) != stop - start:
                things = self[start:stop]  # says which row is damaged
            yield from things

    def _damaged(self, row: int) -> InputError:
        return InputError(
            f"{self._path} is damaged at row {row}: build the index again.",
            name="index_damaged",
            path=self._path,
        )


class JoinedLines(Sequence[Any]):
    """Several such files, one after the other; numbers below 0 count from the end."""

    def __init__(self, parts: Sequence[Sequence[Any]]) -> None:
        self._parts = list(parts)
        self._starts = np.cumsum([0, *map(len, self._parts)]).tolist()

    def __len__(self) -> int:
        return int(self._starts[-1])

    @overload
    def __getitem__(self, row: int) -> Any: ...
    @overload
    def __getitem__(self, row: slice) -> list[Any]: ...
    def __getitem__(self, row: int | slice) -> Any:
        if isinstance(row, slice):
            return [self[one] for one in range(*row.indices(len(self)))]
        at = row + len(self) if row < 0 else row
        if not 0 <= at < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        part = int(np.searchsorted(self._starts, at, side="right")) - 1
        return self._parts[part][at - self._starts[part]]

    def __iter__(self) -> Iterator[Any]:
        for part in self._parts:
            yield from part
