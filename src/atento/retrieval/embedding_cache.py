"""Vectors of texts kept on disk, found again by the SHA-256 of embedder, version and text.

One SQLite file in the user's cache folder; ``ATENTO_CACHE`` names another folder. Several processes
may use it, and one may end at any moment. Every vector carries a checksum, so a damaged file costs
time and never gives a wrong vector: it is left aside, and the next number begins.
"""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
import sys
import warnings
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from atento.retrieval.embedders import UNVERSIONED, Embedder
from atento.retrieval.embedding import TextReader, check_texts, in_batches

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from atento.retrieval.embedding import Cut, Vectors

__all__ = ["CachedEmbedder", "cache_folder", "cached"]

TABLE = """CREATE TABLE IF NOT EXISTS vectors (
    key BLOB PRIMARY KEY, vector BLOB NOT NULL, cut INTEGER NOT NULL, checksum BLOB NOT NULL
) WITHOUT ROWID"""
READ = "SELECT key, vector, cut, checksum FROM vectors WHERE key IN ({places})"
WRITE = "INSERT OR REPLACE INTO vectors VALUES (?, ?, ?, ?)"
AT_ONCE = 500  # keys in one question
WAIT = 30.0  # seconds for another process that writes
FILE = "vectors-{number}.sqlite3"
NUMBER = re.compile(r"vectors-(\d{1,6})\.sqlite3")
FAILURES = (sqlite3.Error, OSError, ValueError, OverflowError)  # Python's own: names cannot be read
DAMAGED = ("SQLITE_NOTADB", "SQLITE_CORRUPT", "SQLITE_ERROR", "SQLITE_SCHEMA", "SQLITE_MISMATCH")


def cached(embedder: Embedder, folder: str | Path | None = None) -> Embedder:
    """The same embedder, which looks first whether it has read a text before.

    Args:
        embedder: one whose version changes with its vectors; a function without a version is
            returned as it is, since nothing would tell that it has changed.
        folder: where the vectors are kept; None: `cache_folder`.

    >>> from tempfile import mkdtemp
    >>> from atento.retrieval.embedders import embedder
    >>> read = cached(embedder("mini"), mkdtemp())
    >>> bool((read(["perro"]) == read(["perro"])).all()), read.found
    (True, 1)
    """
    if embedder.version == UNVERSIONED or isinstance(embedder, CachedEmbedder):
        return embedder
    return CachedEmbedder(embedder, cache_folder() if folder is None else Path(folder))


def cache_folder() -> Path:
    """Where vectors are kept: ``ATENTO_CACHE``, or atento's place among the user's caches."""
    if named := os.environ.get("ATENTO_CACHE"):
        return Path(named).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "atento"


class CachedEmbedder(TextReader):
    """An embedder with a memory.

    Attributes:
        inner: who reads what is not there yet.
        found: how many texts so far did not have to be read.
    """

    def __init__(self, inner: Embedder, folder: Path) -> None:
        self.inner = inner
        self.name, self.version = inner.name, inner.version
        self.batch = inner.batch if isinstance(inner, TextReader) else 256
        self.found = 0
        self._store = _Store(folder)

    @property
    def dim(self) -> int:  # type: ignore[override]  # some know it only when asked
        """How many numbers a vector has."""
        return self.inner.dim

    def read(self, texts: Sequence[str]) -> tuple[Vectors, Cut]:
        """The rows, and which of the texts were longer than is read."""
        checked = check_texts(texts)
        keys = [self._key(text) for text in checked]
        known = self._store.read(list(dict.fromkeys(keys)), self.dim)
        self.found += sum(key in known for key in keys)
        missing = {key: text for key, text in zip(keys, checked, strict=True) if key not in known}
        fresh = in_batches(list(missing.values()), self.unit_batch, self.dim, self.batch)
        known |= dict(zip(missing, zip(*fresh, strict=True), strict=True))
        vectors = np.empty((len(keys), self.dim), np.float32)
        cut = np.zeros(len(keys), bool)
        for at, key in enumerate(keys):
            vectors[at], cut[at] = known[key]
        return vectors, cut

    def unit_batch(self, texts: list[str]) -> tuple[Vectors, Cut]:
        """Rows of texts that are not known yet, kept before the next batch is read."""
        if isinstance(self.inner, TextReader):
            vectors, cut = self.inner.unit_batch(texts)
        else:
            vectors, cut = self.inner(texts), np.zeros(len(texts), bool)
        self._store.write([self._key(text) for text in texts], vectors, cut)
        return vectors, cut

    def _key(self, text: str) -> bytes:
        # lengths before the parts, so that no two triples run together
        parts = [part.encode("utf-8", "surrogatepass") for part in (self.name, self.version, text)]
        return hashlib.sha256(b"".join(b"%d:%b" % (len(part), part) for part in parts)).digest()


class _Store:
    """The file of vectors: what cannot be read is as if it were not there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._told = False

    def read(self, keys: list[bytes], dim: int) -> dict[bytes, tuple[Vectors, bool]]:
        """The vectors that are there and whole, by key."""
        for file in self._tries():
            try:
                with closing(_open(file)) as connection:
                    return dict(_rows(connection, keys, dim))
            except FAILURES as error:
                if not self._left_aside(file, error):
                    break
        return {}

    def write(self, keys: list[bytes], vectors: Vectors, cut: Cut) -> None:
        """Keep vectors; where that is not possible, go without."""
        rows = []
        for key, vector, flag in zip(keys, vectors, cut, strict=True):
            content = np.asarray(vector, "<f4").tobytes()
            rows.append((key, content, int(flag), _checksum(key, content, int(flag))))
        for file in self._tries():
            try:
                with closing(_open(file)) as connection, connection:
                    connection.executemany(WRITE, rows)
            except FAILURES as error:
                if not self._left_aside(file, error):
                    return
            else:
                return

    def _tries(self) -> Iterator[Path]:
        """The file in use; asked again after one was left aside."""
        for _ in range(3):
            yield self.folder / FILE.format(number=max(1, self._newest()))

    def _newest(self) -> int:
        try:
            names = [NUMBER.fullmatch(file.name) for file in self.folder.iterdir()]
        except OSError:
            return 0
        return max((int(name[1]) for name in names if name), default=0)

    def _left_aside(self, file: Path, error: Exception) -> bool:
        """Whether to try again with the next file; False: go without one."""
        # not renamed: another process may have it open, and its journal is found by its name
        damaged = not isinstance(error, sqlite3.Error | OSError) or str(
            getattr(error, "sqlite_errorname", "")
        ).startswith(DAMAGED)
        if not damaged:
            if not self._told:
                warnings.warn(
                    f"Vectors are not kept: {file} cannot be used ({error}). Name another folder "
                    "with ATENTO_CACHE.",
                    stacklevel=2,
                )
            self._told = True
            return False
        number = NUMBER.fullmatch(file.name)
        following = file.with_name(FILE.format(number=int(number[1]) + 1 if number else 1))
        try:
            following.touch()
        except OSError:
            return False
        warnings.warn(
            f"{file} is damaged and is left aside: vectors are computed again and kept in "
            f"{following.name}. Delete the damaged file.",
            stacklevel=2,
        )
        return True


class _DamagedError(ValueError):
    """A row that is not what was written."""


def _open(file: Path) -> sqlite3.Connection:
    file.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(file, timeout=WAIT)
    try:
        # a process that ends is survived by the journal; a machine that fails, by the checksums
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute(TABLE)
    except BaseException:
        connection.close()
        raise
    return connection


def _rows(
    connection: sqlite3.Connection, keys: list[bytes], dim: int
) -> Iterator[tuple[bytes, tuple[Vectors, bool]]]:
    for start in range(0, len(keys), AT_ONCE):
        some = keys[start : start + AT_ONCE]
        asked = READ.format(places=",".join("?" * len(some)))
        for key, vector, cut, checksum in connection.execute(asked, some):
            whole = isinstance(vector, bytes) and isinstance(cut, int) and len(vector) == 4 * dim
            if not whole or _checksum(key, vector, cut) != checksum:
                raise _DamagedError("a vector is not what was written")
            yield key, (np.frombuffer(vector, "<f4"), bool(cut))


def _checksum(key: bytes, vector: bytes, cut: int) -> bytes:
    return hashlib.blake2b(key + vector + bytes([cut & 255]), digest_size=8).digest()
