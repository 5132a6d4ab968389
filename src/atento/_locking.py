"""One writer at a time: a lock that the system itself lets go when its process ends, however."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from atento._errors import InputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["LOCK", "WAIT", "writing"]

LOCK = "writing.lock"
"""Its name in the folder. It stays there: a lock on a file that was deleted keeps nobody out."""

WAIT = 60.0
"""Seconds to wait for another process."""


@contextmanager
def writing(folder: Path, wait: float = WAIT) -> Iterator[None]:
    """Nobody else writes in the folder meanwhile.

    Raises:
        InputError: another process still does after `wait` seconds.
        OSError: the lock file cannot be opened.
    """
    with (folder / LOCK).open("a+b") as file:
        until = time.monotonic() + wait
        while not _taken(file):
            if time.monotonic() >= until:
                raise InputError(
                    f"{folder} is being written by another process ({_holder(file)}), for more "
                    f"than {wait:g} s. Try again when it is done.",
                    name="index_locked",
                    path=folder,
                    holder=_holder(file),
                    seconds=f"{wait:g}",
                )
            time.sleep(0.05)
        try:
            file.truncate(0)
            file.write(f"{os.getpid()}".encode())
            file.flush()
            yield
        finally:
            _let_go(file)


def _taken(file: IO[bytes]) -> bool:
    try:
        if fcntl is None:
            import msvcrt

            file.seek(2**20)  # beyond what is written, so that others can read who holds it
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _let_go(file: IO[bytes]) -> None:
    if fcntl is None:
        import msvcrt

        file.seek(2**20)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)
    else:
        fcntl.flock(file, fcntl.LOCK_UN)


def _holder(file: IO[bytes]) -> str:
    with suppress(OSError, UnicodeDecodeError):
        file.seek(0)
        number = file.read(20).decode("ascii")
        if number.isdigit():
            return f"process {number}"
    return "unknown"
