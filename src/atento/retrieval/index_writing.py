"""How an index is written: a segment, then the manifest that names it, under the folder's lock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from atento._errors import InputError, ShapeError
from atento._locking import LOCK
from atento.retrieval.manifest import MANIFEST, Manifest, read_manifest, write_manifest
from atento.retrieval.segments import SegmentWriter, is_segment_file

if TYPE_CHECKING:
    from pathlib import Path

    from atento.retrieval.embedding import Embedder
    from atento.retrieval.keys import Keys

__all__ = ["as_sequence", "clean", "next_number", "old_manifest", "only_new", "write_rows"]

AT_ONCE = 4096
"""Rows that are embedded and written at a time."""


def write_rows(
    folder: Path,
    manifest: Manifest,
    number: int,
    keys: Sequence[Any] | None,
    values: Sequence[Any] | None,
    source: Keys | Embedder,
) -> None:
    """One more segment, then the manifest that names it."""
    given = not callable(source)
    size = source.size if not callable(source) else len(keys or ())
    for name, things in (("keys", keys), ("values", values)):
        if things is not None and len(things) != size:
            raise ShapeError(
                f"there are {len(things)} {name} and {size} {'vectors' if given else 'keys'}: "
                "each needs one."
            )
    if not size:
        write_manifest(folder, manifest)
        return
    with SegmentWriter(folder, number, manifest.dtype) as writer:
        for start in range(0, size, AT_ONCE):
            stop = min(start + AT_ONCE, size)
            some = None if keys is None else keys[start:stop]
            vectors = source(some or ()) if callable(source) else source.block(start, stop)
            writer.append(vectors, some, None if values is None else values[start:stop])
        segment = writer.finish()
    # not within: an interrupt behind the manifest must not take away the files that it names
    write_manifest(folder, manifest.with_segment(segment))


def as_sequence(name: str, things: Any) -> Sequence[Any] | None:
    """The things in an order, of which parts can be taken."""
    if isinstance(things, str | bytes):
        raise InputError(
            f"{name} must be a sequence with one for each row; got one {type(things).__name__}."
        )
    if things is None or isinstance(things, Sequence | np.ndarray):
        return things  # type: ignore[return-value]
    return list(things)


def old_manifest(folder: Path, *, replace: bool) -> Manifest | None:
    """The manifest that is to be replaced, after a look at what else is in the folder."""
    others = sorted(
        file.name
        for file in folder.iterdir()
        if not (file.name in (MANIFEST, LOCK) or _ours(file.name))
    )
    if others:
        raise InputError(
            f"{folder} holds {others[0]!r}, which is not part of an index: name an empty folder, "
            "or one that is not there yet.",
            name="index_other",
            path=folder,
            file=others[0],
        )
    if not (folder / MANIFEST).exists():
        return None
    if not replace:
        raise InputError(
            f"{folder} holds an index already: add to it, or allow it to be replaced.",
            name="index_there",
            path=folder,
        )
    try:
        return read_manifest(folder)
    except InputError:  # a damaged one is replaced like any other
        return None


def clean(folder: Path) -> None:
    """Remove files of segments that the manifest does not name: from a writer that was ended."""
    named = {path.name for one in read_manifest(folder).segments for path in one.paths(folder)}
    for file in folder.iterdir():
        if _ours(file.name) and file.name not in named:
            file.unlink(missing_ok=True)


def _ours(name: str) -> bool:
    return is_segment_file(name) or name.startswith(".atento-")


def next_number(manifest: Manifest | None) -> int:
    """The number of the next segment."""
    segments = () if manifest is None else manifest.segments
    return 1 + max((int(one.name.partition("-")[0]) for one in segments), default=0)


def only_new(
    keys: Sequence[Any],
    values: Sequence[Any] | None,
    old_keys: Sequence[Any],
    old_values: Sequence[Any] | None,
    known: str,
) -> tuple[list[Any], list[Any] | None]:
    """The rows whose keys are not there yet, each once.

    Raises:
        InputError: with `known` "same", a key that is there with another value.
    """
    there = {key: row for row, key in enumerate(old_keys)}
    new: dict[Any, int] = {}
    for row, key in enumerate(keys):
        if known == "same" and values is not None and (key in there or key in new):
            old = old_values[there[key]] if key in there and old_values else values[new[key]]
            if old != values[row]:
                shown = str(key) if len(str(key)) <= 40 else f"{str(key)[:39]}…"
                raise InputError(
                    f"the key {shown!r} is in the index already, with another value: {old!r:.40}, "
                    f"and now {values[row]!r:.40}. Build the index again, or leave the key out.",
                    name="index_twice",
                    key=repr(shown),
                    old=f"{old!r:.40}",
                    new=f"{values[row]!r:.40}",
                )
        if key not in there:
            new.setdefault(key, row)
    return list(new), None if values is None else [values[row] for row in new.values()]
