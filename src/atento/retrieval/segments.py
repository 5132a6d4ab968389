"""Segments: the files of an index that are written once and never changed.

A segment holds some rows: ``NAME.vectors`` (row by row, little-endian; int8 with one float32 for
each row in ``NAME.scales``), and ``NAME.keys.jsonl`` and ``NAME.values.jsonl``, each with
``….offsets`` that tell where a line begins. What a file must weigh, and its crc32, stand in the
manifest.
"""

from __future__ import annotations

import os
import re
import secrets
import zlib
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from atento._errors import InputError
from atento.retrieval.json_lines import JsonLines
from atento.retrieval.keys import quantized
from atento.retrieval.mapped_keys import MappedKeys
from atento.retrieval.stored_values import to_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from atento.retrieval.keys import Keys

__all__ = ["DTYPES", "Segment", "SegmentWriter", "is_segment_file", "open_segment"]

DTYPES = {"float32": "<f4", "float16": "<f2", "int8": "i1", "float64": "<f8"}
"""How a vector may be held on disk."""

NAME = re.compile(r"\d{6}-[0-9a-f]{8}\.(vectors|scales|(keys|values)\.(jsonl|offsets))")
"""What our files are called: nothing else in the folder is ever touched."""


@dataclass(frozen=True)
class Segment:
    """What the manifest says of a segment.

    Attributes:
        name: how its files begin.
        size: rows.
        files: of each ending, how many bytes and their crc32.
        error: int8: the most that the product with a vector of length 1 may be off.
    """

    name: str
    size: int
    files: Mapping[str, Sequence[int]]
    error: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """As it stands in the manifest."""
        return {
            "name": self.name,
            "size": self.size,
            "files": {ending: list(facts) for ending, facts in self.files.items()},
            "error": self.error,
        }

    def paths(self, folder: Path) -> list[Path]:
        """Its files."""
        return [folder / f"{self.name}.{ending}" for ending in self.files]


class SegmentWriter:
    """Writes a segment a few rows at a time, and brings it to the disk.

    Use it as a context manager: where it ends by an error, its files are removed.

    Args:
        folder: where.
        number: it stands behind those with smaller numbers.
        dtype: one of `DTYPES`.
    """

    def __init__(self, folder: Path, number: int, dtype: str) -> None:
        self._folder = folder
        self._name = f"{number:06d}-{secrets.token_hex(4)}"
        self._dtype = dtype
        self._files: dict[str, _File] = {}
        self._lines: dict[str, list[int]] = {}
        self._error = 0.0
        self.size = 0

    def __enter__(self) -> SegmentWriter:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        for file in self._files.values():
            file.close()
        if kind is not None:
            for ending in self._files:
                (self._folder / f"{self._name}.{ending}").unlink(missing_ok=True)

    def append(
        self, vectors: NDArray[Any], keys: Sequence[Any] | None, values: Sequence[Any] | None
    ) -> None:
        """Add rows, (n, dim); keys and values, where there are any, are n."""
        if self._dtype == "int8":
            rows, scales, error = quantized(vectors)
            self._error = max(self._error, float(error))
            self._file("scales").write(np.ascontiguousarray(scales, "<f4").tobytes())
        else:
            rows = _narrowed(vectors, self._dtype)
        self._file("vectors").write(np.ascontiguousarray(rows, DTYPES[self._dtype]).tobytes())
        for kind, things in (("keys", keys), ("values", values)):
            if things is not None:
                self._append_lines(kind, things)
        self.size += len(vectors)

    def finish(self) -> Segment:
        """Bring everything to the disk; what the manifest has to say of it."""
        for kind, starts in self._lines.items():
            self._file(f"{kind}.offsets").write(np.array(starts, "<u8").tobytes())
        for file in self._files.values():
            file.sync()
        facts = {ending: (file.size, file.checksum) for ending, file in self._files.items()}
        return Segment(self._name, self.size, facts, self._error)

    def _append_lines(self, kind: str, things: Iterable[Any]) -> None:
        file = self._file(f"{kind}.jsonl")
        starts = self._lines.setdefault(kind, [0])
        for thing in things:
            file.write(to_json(thing) + b"\n")
            starts.append(file.size)

    def _file(self, ending: str) -> _File:
        if ending not in self._files:
            file = (self._folder / f"{self._name}.{ending}").open("xb")
            self._files[ending] = _File(file)
        return self._files[ending]


@dataclass
class _File:
    """A file that is written from its beginning to its end, its bytes counted and summed."""

    file: IO[bytes]
    size: int = 0
    checksum: int = 0
    open: bool = field(default=True)

    def write(self, content: bytes) -> None:
        self.file.write(content)
        self.size += len(content)
        self.checksum = zlib.crc32(content, self.checksum)

    def sync(self) -> None:
        self.file.flush()
        os.fsync(self.file.fileno())

    def close(self) -> None:
        if self.open:
            self.open = False
            self.file.close()


@dataclass(frozen=True)
class OpenSegment:
    """A segment whose files are mapped: rows are read when they are asked for."""

    keys: Keys
    texts: JsonLines | None
    values: JsonLines | None


def open_segment(folder: Path, segment: Segment, dtype: str, dim: int) -> OpenSegment:
    """Map the files of a segment, after a look at how large they are.

    Raises:
        InputError: a file is shorter or longer than it was written.
        FileNotFoundError: one is not there.
    """
    for path, (size, _) in zip(segment.paths(folder), segment.files.values(), strict=True):
        there = path.stat().st_size
        if there != size:
            raise InputError(
                f"{path} has {there:,} bytes and was written with {size:,}: the index is damaged. "
                "Build it again, or copy it whole.",
                name="index_cut",
                path=path,
                there=f"{there:,}",
                written=f"{size:,}",
            )
    base = folder / segment.name
    lines = {
        kind: JsonLines(
            base.with_name(f"{base.name}.{kind}.jsonl"),
            base.with_name(f"{base.name}.{kind}.offsets"),
            segment.size,
        )
        for kind in ("keys", "values")
        if f"{kind}.jsonl" in segment.files
    }
    keys = MappedKeys(base.with_name(f"{base.name}.vectors"), dtype, segment.size, dim)
    return OpenSegment(keys, lines.get("keys"), lines.get("values"))


def check_contents(folder: Path, segment: Segment) -> None:
    """Read a segment's files whole and compare them with what was written.

    Raises:
        InputError: a file holds something else.
    """
    for path, (_, checksum) in zip(segment.paths(folder), segment.files.values(), strict=True):
        if _checksum(path) != checksum:
            raise InputError(
                f"{path} does not hold what was written: build the index again.",
                name="index_damaged",
                path=path,
            )


def is_segment_file(name: str) -> bool:
    """Whether a file may be one of ours, by its name."""
    return NAME.fullmatch(name) is not None


def _narrowed(vectors: NDArray[Any], dtype: str) -> NDArray[Any]:
    with np.errstate(over="ignore"):
        rows = np.asarray(vectors).astype(DTYPES[dtype])
    if not np.isfinite(rows).all():
        raise InputError(
            f"a vector has numbers that {dtype} cannot hold: the largest is "
            f"{np.finfo(dtype).max:.3g}. Take dtype='float32', or scale the vectors.",
        )
    return rows


def _checksum(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        for piece in _pieces(file):
            checksum = zlib.crc32(piece, checksum)
    return checksum


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(2**20):
        yield piece
