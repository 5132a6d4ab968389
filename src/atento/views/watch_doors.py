"""What was watched of a training through the doors: its page, its numbers, the terminal's table."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atento._errors import InputError
from atento.views.words import choose_language, words
from atento.views.write_file import check_writable, write_file

if TYPE_CHECKING:
    from rich.console import Console

    from atento.lm.watching import Watched

__all__ = ["save_watched", "show_watched"]


def save_watched(
    watched: "Watched", target: Path, lang: str | None, options: dict[str, Any]
) -> None:
    """Write the page (.html) or the numbers of all heads at all steps (.json).

    Raises:
        InputError: for an option (there are none), or a place that cannot be written.
    """
    word = words(choose_language(lang))
    if options:
        raise InputError(f"{', '.join(options)}: is for other records; got what was watched.")
    check_writable(target, word)
    if target.suffix.lower() == ".json":
        content = json.dumps({"format": "atento.watched/1", **watched.to_dict()}) + "\n"
    else:
        from atento.views.watch_page import render_watched

        content = render_watched(watched, lang=word.lang)
    write_file(target, content, word)


def show_watched(
    watched: "Watched", lang: str | None = None, console: "Console | None" = None
) -> None:
    """Print the loss, and a row for each head."""
    from rich.console import Console

    from atento.views.terminal_watch import watch_lines

    console, word = console or Console(), words(choose_language(lang))
    for line in watch_lines(watched, console.width, word):
        console.print(line, soft_wrap=True)
