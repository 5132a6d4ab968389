"""The manifest of an index: which segments it has, replaced whole, so that it is never half new."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from atento._errors import InputError
from atento._files import write_whole
from atento.retrieval.segments import DTYPES, Segment

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["MANIFEST", "Manifest", "read_manifest", "write_manifest"]

MANIFEST = "index.json"
FORMAT, VERSION = "atento.index", 1


@dataclass(frozen=True)
class Manifest:
    """What an index is.

    Attributes:
        dim: numbers in a vector.
        dtype: how vectors are held.
        keys, values: whether rows have them.
        embedder: name and version of who made the vectors, or None.
        settings: of the caller, anything that JSON can hold.
        segments: one behind the other.
    """

    dim: int
    dtype: str
    keys: bool
    values: bool
    embedder: tuple[str, str] | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    segments: tuple[Segment, ...] = ()

    @property
    def size(self) -> int:
        """How many rows."""
        return sum(segment.size for segment in self.segments)

    def with_segment(self, segment: Segment) -> Manifest:
        """The same with one more behind the others."""
        return replace(self, segments=(*self.segments, segment))


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Put it in the place of the old one, at once.

    Raises:
        InputError: settings that JSON cannot hold.
        OSError: the system refused.
    """
    index = {
        "dim": manifest.dim,
        "dtype": manifest.dtype,
        "keys": manifest.keys,
        "values": manifest.values,
        "embedder": manifest.embedder,
        "settings": manifest.settings,
        "segments": [segment.to_dict() for segment in manifest.segments],
    }
    try:
        checksum = _checksum(index)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"settings must be plain JSON: {error}.") from None
    content = {"format": FORMAT, "version": VERSION, "checksum": checksum, "index": index}
    # no newline behind it: a file without its last byte must not be a whole one
    text = json.dumps(content, indent=1, allow_nan=False)
    sync_folder(folder)  # first what it names, then the name
    write_whole(folder / MANIFEST, [text.encode("ascii")])
    sync_folder(folder)


def read_manifest(folder: Path) -> Manifest:
    """The manifest in a folder.

    Raises:
        InputError: there is none, of another version, or not as it was written.
    """
    path = folder / MANIFEST
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            f"{folder} is no index: it has no {MANIFEST}. Build one with Index.build or atento "
            "index build.",
            name="index_missing",
            path=folder,
        ) from None
    try:
        found = json.loads(content)
        form, version = found["format"], found["version"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise _damaged(path) from None
    if form != FORMAT or not isinstance(version, int):
        raise _damaged(path)
    if version != VERSION:
        raise InputError(
            f"{folder} is an index of version {version}, and this atento reads version {VERSION}. "
            "Build it again, or use the atento that wrote it.",
            name="index_version",
            path=folder,
            version=version,
            reads=VERSION,
        )
    try:
        if found["checksum"] != _checksum(found["index"]):
            raise _damaged(path)
        return _manifest(found["index"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise error if isinstance(error, InputError) else _damaged(path) from None


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, where the system lets us."""
    with suppress(OSError, AttributeError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _manifest(index: dict[str, Any]) -> Manifest:
    if index["dtype"] not in DTYPES:
        raise KeyError(index["dtype"])
    return Manifest(
        dim=index["dim"],
        dtype=index["dtype"],
        keys=index["keys"],
        values=index["values"],
        embedder=None if index["embedder"] is None else tuple(index["embedder"]),
        settings=index["settings"],
        segments=tuple(Segment(**segment) for segment in index["segments"]),
    )


def _checksum(index: dict[str, Any]) -> str:
    text = json.dumps(index, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _damaged(path: Path) -> InputError:
    return InputError(
        f"{path} is damaged: it is not what was written. Copy the index whole, or build it again.",
        name="index_damaged",
        path=path,
    )
