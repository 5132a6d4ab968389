"""Threads that each run torch on one core.

Torch shares every single operation out over its threads, and waits for the last of them. Blocks of
attention are many short operations: there it is better that each thread computes blocks of its own
(on a busy machine by far).
"""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

import torch

__all__ = ["share_out"]

_pools: dict[int, ThreadPoolExecutor] = {}
_lock = Lock()


def share_out(tasks: Iterable[Callable[[], None]]) -> None:
    """Run the tasks on as many threads as torch has; return when all are done.

    They run without autograd. The first exception is raised here.
    """
    threads = torch.get_num_threads()
    tasks = list(tasks)
    if threads == 1 or len(tasks) == 1:
        for task in tasks:
            _without_autograd(task)
        return
    for future in [_pool(threads).submit(_without_autograd, task) for task in tasks]:
        future.result()


def _without_autograd(task: Callable[[], None]) -> None:
    with torch.no_grad():
        task()


def _pool(threads: int) -> ThreadPoolExecutor:
    with _lock:
        if threads not in _pools:
            pool = ThreadPoolExecutor(threads, "atento", initializer=_one_core)
            started = [pool.submit(os.getpid) for _ in range(threads)]
            for future in started:
                future.result()
            # The number is each thread's own; torch also keeps it as the default of new ones.
            torch.set_num_threads(threads)
            _pools[threads] = pool
        return _pools[threads]


def _one_core() -> None:
    torch.get_num_threads()  # torch sets up a thread when it is first asked
    torch.set_num_threads(1)


def _forget() -> None:
    """A forked process has none of its parent's threads."""
    _pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
