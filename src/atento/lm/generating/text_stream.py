"""A text that grows by tokens, told in whole characters and up to where it is to stop."""

from collections.abc import Callable, Iterable, Sequence

__all__ = ["TextStream"]

BROKEN = "\ufffd"
HELD = 3
"""A character of UTF-8 has at most four bytes: so many broken ones may yet become one."""

LONG = 32
"""Tokens without a whole character at their end: such a text is no text, and older ones go."""


class TextStream:
    """Tokens in, text out, as soon as it cannot change any more.

    Args:
        decode: ids to text.
        stop: texts that end it; they are not told.
        past: ids that stand before; some tokenizers write a token by the one before it.

    Attributes:
        stopped: whether a stop has come.
    """

    def __init__(
        self,
        decode: Callable[[Sequence[int]], str],
        stop: Iterable[str] = (),
        past: Sequence[int] = (),
    ) -> None:
        self.decode = decode
        self.stop = tuple(stop)
        self.stopped = False
        # both begin where a character does: some tokenizers break all bytes of a run for one
        self._before = list(past)
        self._ids: list[int] = []
        self._sure = 0  # characters of the ids that have been told
        self._held = ""

    def push(self, token: int) -> str:
        """What is sure after one more token."""
        if self.stopped:
            return ""
        self._ids.append(token)
        text = self._text()
        broken = len(text) - len(text.rstrip(BROKEN))
        if len(self._ids) > HELD:
            broken = min(broken, HELD)
        new = text[self._sure : len(text) - broken]
        self._sure += len(new)
        if not text.endswith(BROKEN):
            self._before, self._ids, self._sure = self._ids, [], 0
        elif len(self._ids) > LONG:
            self._before, self._ids = [], self._ids[-LONG // 2 :]
            self._sure = len(self._text()) - broken
        return self._told(self._held + new)

    def end(self) -> str:
        """What was held back."""
        if self.stopped:
            return ""
        text = self._held + (self._text()[self._sure :] if self._ids else "")
        self._ids, self._held = [], ""
        return text

    def _text(self) -> str:
        before = self.decode(self._before) if self._before else ""
        return self.decode([*self._before, *self._ids])[len(before) :]

    def _told(self, text: str) -> str:
        """The text up to a stop, or up to where one may have begun."""
        ends = [text.find(stop) for stop in self.stop if stop in text]
        if ends:
            self.stopped, self._held = True, ""
            return text[: min(ends)]
        longest = max(
            (n for stop in self.stop for n in range(1, len(stop)) if text.endswith(stop[:n])),
            default=0,
        )
        self._held = text[len(text) - longest :]
        return text[: len(text) - longest]
