"""Standard output, for readers that may leave before the end (`| head`)."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atento.views.words import Words

__all__ = ["ReaderLeft", "say", "written"]

WRITTEN = {
    ".html": "page_written",
    ".json": "json_written",
    ".safetensors": "recording_written",
}


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


def written(path: Path, word: "Words") -> str:
    """The line that says what was written where."""
    from atento.views.terminal_text import visible

    name = WRITTEN.get(path.suffix.lower(), "figure_written")
    return word(name, path=visible(str(path)))
