"""`atento diff`: what changed between two saved recordings, head by head."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atento.cli.heads import open_recording, print_lines, to_json
from atento.cli.output import say
from atento.views.words import mistake

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.text import Text

__all__ = ["diff"]

TOP = 24


def diff(
    first: Annotated[Path, typer.Argument(metavar="A.safetensors", help="A saved recording.")],
    second: Annotated[
        Path, typer.Argument(metavar="B.safetensors", help="Another of the same layers and length.")
    ],
    top: Annotated[int, typer.Option(metavar="N", help="At most so many heads; 0: all.")] = TOP,
    lang: Annotated[
        str | None, typer.Option(metavar="en|es", help="Default: from the locale.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON (all heads), and only that.")
    ] = False,
) -> None:
    """Show what changed between two recordings, the heads that changed most first.

    atento diff before.safetensors after.safetensors
    """
    from atento.views.terminal_heads import change_lines
    from atento.views.words import choose_language, words

    word = words(choose_language(lang))
    if top < 0:
        raise mistake(word, "top_value", came=top)
    comparison = open_recording(first, word).compare(open_recording(second, word))
    if as_json:
        say(to_json(comparison) + "\n")
        return

    def lines(width: int) -> "Iterable[Text]":
        return change_lines(comparison, width, word, top=top)

    print_lines(lines)
