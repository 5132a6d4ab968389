"""Writes a file whole or not at all: aside in the same folder, brought to the disk, renamed."""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

__all__ = ["write_whole"]


def write_whole(path: Path, pieces: Iterable[bytes | memoryview]) -> None:
    """Write the pieces one behind the other; on any failure the old file stays as it was.

    Nothing else is left then. A link's target is replaced, not the link; the file keeps the
    permissions of the one that it replaces.

    Raises:
        OSError: the system refused.
        ValueError: for a name that no file can have.
    """
    target = path.resolve()
    handle, name = tempfile.mkstemp(prefix=".atento-", dir=target.parent)
    aside = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        aside.chmod(_mode(target))
        aside.replace(target)
    except BaseException:  # an interrupt, too, must not leave a half-written file behind
        aside.unlink(missing_ok=True)
        raise


def _mode(target: Path) -> int:
    """The old file's permissions, or what a newly created file would get."""
    if target.exists():
        return target.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
