"""Threads that each run torch on one core.

Torch shares every single operation out over its threads, and waits for the last of them. Blocks of
attention are many short operations: there it is better that each thread computes blocks of its own
(on a busy machine by far).
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Any, TypeVar

import torch

__all__ = ["run_all", "share_out"]

Result = TypeVar("Result")

_pools: dict[int, ThreadPoolExecutor] = {}
_lock = Lock()


def share_out(tasks: Iterable[Callable[[], Result]]) -> Iterator[Result]:
    """Run the tasks on as many threads as torch has; their results in the order of the tasks.

    So what is added up from them is the same sum each time, whoever comes first. They run without
    autograd. An exception is raised here.
    """
    threads = torch.get_num_threads()
    tasks = list(tasks)
    if threads == 1 or len(tasks) == 1:
        for task in tasks:
            yield _without_autograd(task)
        return
    futures: list[Future[Result]] = [
        _pool(threads).submit(_without_autograd, task) for task in tasks
    ]
    futures.reverse()
    while futures:  # a result that was taken is not held any longer
        yield futures.pop().result()


def run_all(tasks: Iterable[Callable[[], Any]]) -> None:
    """`share_out`, for what the tasks do rather than for what they return."""
    deque(share_out(tasks), maxlen=0)


def _without_autograd(task: Callable[[], Result]) -> Result:
    with torch.no_grad():
        return task()


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
