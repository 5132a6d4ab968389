"""The readings that a server holds: the latest few, by names that cannot be guessed."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any

from atento._errors import AtentoError
from atento.server.mistakes import say

if TYPE_CHECKING:
    from atento.reading.recording import Recording
    from atento.server.record import ServedRecord

__all__ = ["HeldReading", "Readings", "UnknownReadingError"]


class UnknownReadingError(AtentoError):
    """There is no reading of that name, or no longer."""


@dataclass(frozen=True)
class HeldReading:
    """One text that a model has read.

    Attributes:
        model: the reader's name; a file's name for a recording that was opened.
        text: what was read; empty where only the file is known.
        recording: its attention.
        next: what the model takes to come next: token, id and probability, likeliest first; with
            heads off also the probability ``before``.
        off: (layer number, head) of heads that were switched off.
    """

    model: str
    text: str
    recording: Recording
    next: tuple[dict[str, Any], ...] = ()
    off: tuple[tuple[int, int], ...] = ()

    @cached_property
    def record(self) -> ServedRecord:
        """The recording as the page reads it."""
        from atento.server.record import ServedRecord

        return ServedRecord(self.recording)


class Readings:
    """At most so many readings, of at most so many bytes; those longest unused go first.

    Those that were there at the start (`pin`) stay.
    """

    def __init__(self, most: int = 16, most_bytes: int = 2**31) -> None:
        self.most, self.most_bytes = most, most_bytes
        self._held: OrderedDict[str, HeldReading] = OrderedDict()
        self._pinned: dict[str, HeldReading] = {}
        self._lock = Lock()

    def pin(self, reading: HeldReading) -> str:
        """Hold a reading as long as the server runs."""
        name = secrets.token_urlsafe(9)
        with self._lock:
            self._pinned[name] = reading
        return name

    def add(self, reading: HeldReading) -> str:
        """Hold a reading, and let go of what is too much."""
        name = secrets.token_urlsafe(9)
        with self._lock:
            self._held[name] = reading
            while len(self._held) > 1 and self._too_much():
                self._held.popitem(last=False)
        return name

    def __getitem__(self, name: str) -> HeldReading:
        with self._lock:
            if name in self._pinned:
                return self._pinned[name]
            if name not in self._held:
                raise UnknownReadingError(say("en", "reading_gone"), name="reading_gone")
            self._held.move_to_end(name)
            return self._held[name]

    def names(self) -> list[str]:
        """Those that are held, the pinned ones first."""
        with self._lock:
            return [*self._pinned, *self._held]

    def _too_much(self) -> bool:
        size = sum(_bytes(reading.recording) for reading in self._held.values())
        return len(self._held) > self.most or size > self.most_bytes


def _bytes(recording: Recording) -> int:
    """What the arrays of a recording take."""
    total = 0
    for record in recording.records:
        arrays = [record.query, record.key, record.lse, *record.statistics.values()]
        total += sum(int(array.nbytes) for array in arrays if array is not None)
    return total
