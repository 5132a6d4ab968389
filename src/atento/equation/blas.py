"""BLAS on one thread each, while our own threads share the work."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any

from threadpoolctl import ThreadpoolController

__all__ = ["available_cores", "one_blas_thread"]

_lock = Lock()
_users = 0
_limits: Any = None


def available_cores() -> int:
    """How many cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS or Windows
        return os.cpu_count() or 1


@cache
def _controller() -> Any:
    return ThreadpoolController()  # looks through all loaded libraries: once is enough


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Within, every BLAS call runs on its caller's thread.

    The setting belongs to the whole process: the first to enter sets it, the last to leave
    restores it, whatever the order in which several threads come and go.
    """
    global _users, _limits
    with _lock:
        if _users == 0:
            _take_control()
            _limits = _controller().limit(limits=1, user_api="blas")
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _take_control()
                _limits.restore_original_limits()
                _take_control()
                _limits = None


def _take_control() -> None:
    """Let this thread set how many threads a library has, whichever did so before.

    From 3.8 on threadpoolctl listens to the thread that came first, and ignores all others.
    """
    for library in _controller().lib_controllers:
        clear = getattr(library, "clear_controlling_thread", None)
        if clear is not None:
            clear(force=True)
