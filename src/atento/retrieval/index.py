"""An index on disk: vectors, keys and values in a folder, opened without being read.

The folder holds segments, which never change, and a manifest that names them. Adding writes a new
segment and then a new manifest in the old one's place: whoever ends in between, or opens meanwhile,
has the index as it was.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from atento._errors import InputError
from atento._locking import WAIT, writing
from atento.retrieval.embedders import UNVERSIONED, same
from atento.retrieval.embedders import embedder as find_embedder
from atento.retrieval.index_writing import (
    as_sequence,
    clean,
    next_number,
    old_manifest,
    only_new,
    write_rows,
)
from atento.retrieval.json_lines import JoinedLines
from atento.retrieval.keys import HeldKeys, JoinedKeys, as_vectors
from atento.retrieval.manifest import Manifest, read_manifest
from atento.retrieval.segments import DTYPES, OpenSegment, check_contents, open_segment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from atento.retrieval.embedding import Embedder
    from atento.retrieval.keys import Keys

__all__ = ["Index"]

TRIES = 5
"""How often an index is opened again that was replaced just then."""


class Index:
    """Keys with their vectors and values, on disk.

    Attributes:
        folder: where.
        keys: the vectors, (size, dim), read block by block.
        texts: what the vectors stand for, by row; None where the vectors themselves are the keys.
        values: by row; None where there are none.
        settings: what `build` was given to keep.

    >>> from tempfile import mkdtemp
    >>> index = Index.build(mkdtemp(), ["país", "perro"], [7, 5], embedder="mini")
    >>> index.add(["méxico"], [10])
    1
    >>> len(index), list(index.texts), index.value(2)
    (3, ['país', 'perro', 'méxico'], 10)
    >>> Index.open(index.folder).keys.block(0, 3).shape
    (3, 128)
    """

    def __init__(self, folder: Path, embedder: Embedder | None = None) -> None:
        self.folder = folder
        self._embedder = embedder
        self._open()

    @classmethod
    def build(
        cls,
        folder: str | Path,
        keys: Sequence[Any] | None = None,
        values: Sequence[Any] | None = None,
        *,
        vectors: Any = None,
        embedder: Any = None,
        dtype: str = "float32",
        settings: dict[str, Any] | None = None,
        replace: bool = False,
    ) -> Self:
        """Write an index into a folder that is empty, or not there yet.

        Args:
            folder: where.
            keys: what the vectors stand for: texts, or anything that JSON can hold; None where
                the vectors themselves are the keys.
            values: one for each key, or None.
            vectors: (n, dim), an array or `Keys`; None: the embedder makes them of the keys.
            embedder: who makes or made the vectors, as in `embedder`; its name and version are
                kept, and the index opens with no other.
            dtype: how vectors are held: "float32", "float16", "int8" (one scale for each vector;
                `info` states the error), or "float64".
            settings: plain JSON to be kept with it.
            replace: write over an index that is there: at once, when all is written.

        Raises:
            InputError: something else is in the folder, or the parts do not fit together.
        """
        if dtype not in DTYPES:
            raise InputError(f"dtype must be one of {', '.join(DTYPES)}; got {dtype!r}.")
        if vectors is None and keys is None:
            raise InputError("an index needs keys or vectors: give keys=, or vectors=.")
        made = None if embedder is None and vectors is not None else find_embedder(embedder)
        given = None if vectors is None else _as_keys(vectors)
        source = made if given is None else given
        if source is None:
            raise InputError("an index needs vectors, or an embedder that makes them.")
        keys, values = as_sequence("keys", keys), as_sequence("values", values)
        path = Path(folder).expanduser()
        path.mkdir(parents=True, exist_ok=True)
        with writing(path):
            old = old_manifest(path, replace=replace)
            manifest = Manifest(
                dim=source.dim,
                dtype=dtype,
                keys=keys is not None,
                values=values is not None,
                embedder=None if made is None else (made.name, made.version),
                settings=settings or {},
            )
            write_rows(path, manifest, next_number(old), keys, values, source)
            clean(path)
        return cls(path, made)

    @classmethod
    def open(cls, folder: str | Path, *, embedder: Any = None) -> Self:
        """Open an index; nothing but its manifest is read until it is asked for.

        Args:
            folder: where.
            embedder: as in `build`; None: the one that made the vectors, found by its name when
                it is needed.

        Raises:
            InputError: no index, of another version, damaged, or made by another embedder.
        """
        path = Path(folder).expanduser()
        opened = cls(path, None if embedder is None else find_embedder(embedder))
        if opened._embedder is not None:
            opened._check_embedder(opened._embedder)
        return opened

    def add(
        self,
        keys: Sequence[Any] | None = None,
        values: Sequence[Any] | None = None,
        *,
        vectors: Any = None,
        known: Literal["add", "same", "skip"] = "add",
        wait: float = WAIT,
    ) -> int:
        """Add rows behind the others; what other processes added meanwhile stays.

        Args:
            keys: as in `build`, if the index has keys.
            values: as in `build`, if the index has values.
            vectors: as in `build`.
            known: a row whose key is there already, or came before: "add" it like any other;
                "same": leave it out where its value is the same, else refuse it; "skip" it.
            wait: how long another process may write, in seconds.

        Returns:
            How many rows were added.

        Raises:
            InputError: the parts do not fit together, or another process still writes.
        """
        given = None if vectors is None else _as_keys(vectors, self._manifest.dim)
        source = (
            self.embedder if given is None else given
        )  # found, or refused, before anybody has to wait
        keys, values = as_sequence("keys", keys), as_sequence("values", values)
        with writing(self.folder, wait):
            manifest = read_manifest(self.folder)
            for name, here, came in (
                ("keys", manifest.keys, keys),
                ("values", manifest.values, values),
            ):
                if here != (came is not None):
                    raise InputError(
                        f"this index has {name if here else f'no {name}'}: "
                        f"{'give' if here else 'leave out'} {name}=."
                    )
            clean(self.folder)
            if known != "add" and keys is not None:
                self._open()
                if given is not None:
                    raise InputError("known= is for keys that an embedder reads, without vectors=.")
                keys, values = only_new(keys, values, self.texts or (), self.values, known)
            write_rows(self.folder, manifest, next_number(manifest), keys, values, source)
        self._open()
        return len(self) - manifest.size

    @property
    def embedder(self) -> Embedder:
        """Who made the vectors; looked up by its name where it was not given.

        Raises:
            InputError: nobody is known, it cannot be found, or it is not the same any more.
        """
        if self._embedder is None:
            self._embedder = self._found_embedder()
        return self._embedder

    @property
    def settings(self) -> dict[str, Any]:
        """What `build` was given to keep."""
        return self._manifest.settings

    def __len__(self) -> int:
        return self._manifest.size

    def __repr__(self) -> str:
        return f"Index({str(self.folder)!r}, {len(self)} rows)"

    def value(self, row: int) -> Any:
        """The value of a row; None where the index has no values."""
        return None if self.values is None else self.values[row]

    def info(self, *, check: bool = False) -> dict[str, Any]:
        """What the index is, as plain data.

        Args:
            check: read every file whole and compare it with what was written.

        Raises:
            InputError: with `check`, a file holds something else.
        """
        manifest = self._manifest
        if check:
            for segment in manifest.segments:
                check_contents(self.folder, segment)
        name, version = manifest.embedder or (None, None)
        return {
            "folder": str(self.folder),
            "size": manifest.size,
            "dim": manifest.dim,
            "dtype": manifest.dtype,
            "error": max((one.error for one in manifest.segments), default=0.0),
            "embedder": name,
            "version": version,
            "keys": manifest.keys,
            "values": manifest.values,
            "segments": len(manifest.segments),
            "bytes": sum(size for one in manifest.segments for size, _ in one.files.values()),
            "settings": manifest.settings,
        }

    def _open(self) -> None:
        """Map what the manifest names; another one may take its place meanwhile."""
        for left in reversed(range(TRIES)):
            manifest = read_manifest(self.folder)
            try:
                opened = [
                    open_segment(self.folder, one, manifest.dtype, manifest.dim)
                    for one in manifest.segments
                ]
            except FileNotFoundError as error:
                if left and read_manifest(self.folder) != manifest:
                    continue
                raise InputError(
                    f"{error.filename} is missing: the index is damaged. Build it again, or copy "
                    "it whole.",
                    name="index_part",
                    path=error.filename,
                ) from None
            break
        self._manifest = manifest
        self.keys: Keys = _joined(opened, manifest)
        self.texts = (
            JoinedLines([one.texts for one in opened if one.texts is not None])
            if manifest.keys
            else None
        )
        self.values = (
            JoinedLines([one.values for one in opened if one.values is not None])
            if manifest.values
            else None
        )

    def _check_embedder(self, read: Embedder) -> None:
        made = self._manifest.embedder
        if made is not None and not same(*made, read):
            raise _another(self.folder, made, (read.name, read.version))

    def _found_embedder(self) -> Embedder:
        made = self._manifest.embedder
        if made is None:
            raise InputError(
                f"nobody is known who made the vectors of {self.folder}: ask with vectors, or "
                "open it with embedder=."
            )
        name, version = made
        if version == UNVERSIONED or not version.startswith("sha256:"):
            raise InputError(
                f"the vectors of {self.folder} were made by the function {name}, which cannot be "
                "found by its name: open it with embedder= that function.",
                name="index_function",
                path=self.folder,
                function=name,
            )
        found = find_embedder(name)
        self._check_embedder(found)
        return found


def _as_keys(vectors: Any, dim: int | None = None) -> Keys:
    if hasattr(vectors, "block"):
        keys: Keys = vectors
        return keys
    array: NDArray[Any] = np.asarray(vectors)
    if array.dtype.kind in "iub":
        array = array.astype(np.float64)
    rows = as_vectors("vectors", array, dim)
    return HeldKeys(rows, dtype="float64" if rows.dtype == np.float64 else "float32")


def _joined(opened: list[OpenSegment], manifest: Manifest) -> Keys:
    if not opened:
        return HeldKeys(dim=manifest.dim)
    return JoinedKeys([one.keys for one in opened]) if len(opened) > 1 else opened[0].keys


def _another(folder: Path, made: tuple[str, str], came: tuple[str, str]) -> InputError:
    return InputError(
        f"{folder} was made by the embedder {made[0]} ({made[1]}), and this is {came[0]} "
        f"({came[1]}): their vectors cannot be compared. Open it with that one, or build it again.",
        name="index_embedder",
        path=folder,
        made=f"{made[0]} ({made[1]})",
        came=f"{came[0]} ({came[1]})",
    )
