"""A recording through the doors: its page, its numbers as JSON, its heads in the terminal."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atento._errors import InputError
from atento.reading.recording import Recording
from atento.views.words import Words, choose_language, words
from atento.views.write_file import check_writable, write_file

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["save_recording_page", "show_recording"]


def save_recording_page(
    recording: Recording, target: Path, lang: str | None, options: dict[str, Any]
) -> None:
    """Write the page (.html) or the numbers of all heads (.json) of a recording.

    Args:
        recording: what to write.
        target: where to.
        lang: the page's first language; None: by the locale.
        options: of a page: batch, layers, heads, other; see `render_recording`.

    Raises:
        InputError: as `render_recording`, or for a place that cannot be written.
        TypeError: for an option that there is not.
    """
    word = words(choose_language(lang))
    check_writable(target, word)
    content = _content(recording, target.suffix.lower(), word, options)
    write_file(target, content, word)


def _content(recording: Recording, ending: str, word: Words, options: dict[str, Any]) -> str:
    if ending == ".json":
        if options:
            raise InputError(f"{', '.join(options)}: is for pages (.html); a .json has all heads.")
        return json.dumps({"format": "atento.heads/1", **recording.to_dict()}) + "\n"
    from atento.views.recording_page import render_recording

    return render_recording(recording, lang=word.lang, **options)


def show_recording(
    recording: Recording, lang: str | None = None, console: "Console | None" = None
) -> None:
    """Print a row for each head, with its role, and what was skipped."""
    from rich.console import Console

    from atento.views.terminal_heads import head_lines, rows_of, skipped_lines

    console, word = console or Console(), words(choose_language(lang))
    width = console.width
    for line in head_lines(rows_of(recording), width, word):
        console.print(line, soft_wrap=True)
    for line in skipped_lines(recording.skipped, width, word):
        console.print(line, soft_wrap=True)
