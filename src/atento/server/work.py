"""Computations on threads: few at a time, none for a client that has gone."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Event
from typing import Any, TypeVar

from starlette.requests import Request

from atento._errors import AtentoError
from atento.server.mistakes import say

__all__ = ["BusyError", "GoneError", "Stop", "StoppedError", "Workshop"]

Result = TypeVar("Result")


class BusyError(AtentoError):
    """More is asked than can wait."""


class GoneError(Exception):
    """The client has gone: nobody reads an answer."""


class StoppedError(Exception):
    """Raised within a computation that nobody waits for any longer."""


class Stop:
    """Whether a computation is to end: asked by it, now and then."""

    def __init__(self) -> None:
        self._event = Event()

    def ask(self) -> None:
        """End the computation at its next check."""
        self._event.set()

    def check(self, *_: Any) -> None:
        """Raise `StoppedError` where the computation is to end; a callback of progress, too."""
        if self._event.is_set():
            raise StoppedError


class Workshop:
    """Runs functions on threads of their own.

    Args:
        at_once: how many run at the same time.
        waiting: how many more may wait; further ones are told to come back.
    """

    def __init__(self, at_once: int = 2, waiting: int = 64) -> None:
        self.limit = at_once + waiting
        self.under_way = 0
        self._pool = ThreadPoolExecutor(at_once, "atento")

    def close(self) -> None:
        """Let what runs end, and drop what waits."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def run(
        self, request: Request, function: Callable[[Stop], Result], stop: Stop | None = None
    ) -> Result:
        """The function's result, unless the client goes before it is there.

        Args:
            request: whose client waits.
            function: what runs.
            stop: what it is handed, where several runs share one.

        Raises:
            BusyError: when too many wait.
            GoneError: when the client has gone; the function is stopped at its next check.
        """
        if self.under_way >= self.limit:
            raise BusyError(say("en", "busy"), name="busy")
        stop = stop or Stop()
        loop = asyncio.get_running_loop()
        self.under_way += 1
        future = self._pool.submit(function, stop)
        future.add_done_callback(lambda _: _tell(loop, self._one_less))
        own = asyncio.wrap_future(future)
        own.add_done_callback(_seen)
        gone = asyncio.ensure_future(_disconnected(request))
        try:
            both: set[asyncio.Future[Any]] = {own, gone}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not own.done():
                raise GoneError
            return own.result()
        finally:
            if not own.done():
                stop.ask()
            gone.cancel()
            future.cancel()  # where it has not begun

    async def stream(
        self, request: Request, function: Callable[[Stop], Iterator[Result]]
    ) -> AsyncIterator[Result]:
        """What the function yields, one by one; each is made when the last was taken."""
        stop = Stop()
        iterator = function(stop)

        def step(_: Stop) -> tuple[bool, Any]:
            for result in iterator:
                return True, result
            return False, None

        try:
            while True:
                more, result = await self.run(request, step, stop)
                if not more:
                    return
                yield result
        finally:
            stop.ask()

    def _one_less(self) -> None:
        self.under_way -= 1


def _tell(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    with suppress(RuntimeError):  # the loop has ended
        loop.call_soon_threadsafe(function)


def _seen(future: asyncio.Future[Any]) -> None:
    """Asked for what it raised: asyncio prints that of a computation whose client has gone."""
    if not future.cancelled():
        future.exception()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
