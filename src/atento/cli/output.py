"""Standard output, for readers that may leave before the end (`| head`)."""

import os
import sys

__all__ = ["ReaderLeft", "say"]


class ReaderLeft(Exception):  # noqa: N818  not an error: nobody wants the rest
    """Whoever read our output has closed it."""


def say(text: str) -> None:
    """Writes the text, all of it, now.

    Raises:
        ReaderLeft: the other end is closed. Not an OSError, which typer would answer by itself.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # Python would complain once more when it flushes at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise ReaderLeft from None
