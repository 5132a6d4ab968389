"""Threads that share the blocks of one computation, each with BLAS on its own core."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any, TypeVar

from atento.equation.blas import one_blas_thread

__all__ = ["share_out"]

Task = TypeVar("Task")


def share_out(
    tasks: Iterator[Task], work: Callable[[Iterator[Task]], Any], *, threads: int
) -> None:
    """Run ``work`` on that many threads; each is given an iterator over the tasks that are left.

    So every thread takes the next task when it has done its last, and keeps its own memory in
    between. The first exception is raised here, once the other threads have ended their task.
    """
    left = _Left(tasks)
    with one_blas_thread():
        if threads <= 1:
            work(left)
            return
        with ThreadPoolExecutor(threads) as pool:
            futures = [pool.submit(work, left) for _ in range(threads)]
            try:
                for future in futures:
                    future.result()
            finally:
                left.stop = True


class _Left(Iterator[Task]):
    """The tasks that nobody has taken yet."""

    def __init__(self, tasks: Iterator[Task]) -> None:
        self.tasks = tasks
        self.lock = Lock()
        self.stop = False

    def __next__(self) -> Task:
        with self.lock:
            if self.stop:
                raise StopIteration
            return next(self.tasks)
