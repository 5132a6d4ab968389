"""`atento watch`: how the heads of a model formed while it was trained."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atento.cli.heads import TOP, print_lines, to_json
from atento.cli.output import say, written
from atento.views.words import mistake

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.text import Text

__all__ = ["watch"]


def watch(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="What train --watch wrote.")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A page (.html), a figure (.svg, .png, .pdf) or .json."),
    ] = None,
    top: Annotated[int, typer.Option(metavar="N", help="At most so many heads; 0: all.")] = TOP,
    lang: Annotated[
        str | None, typer.Option(metavar="en|es", help="Default: from the locale.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON (all heads at all steps), and only that.")
    ] = False,
) -> None:
    """Show when each attention head of a training formed; the training may be under way.

    atento train --preset induction --out runs/induction

    atento watch runs/induction --out film.html
    """
    from atento._errors import AtentoError
    from atento.lm.watching.load import load_watch
    from atento.views.words import choose_language, in_words_of, words

    word = words(choose_language(lang))
    if top < 0:
        raise mistake(word, "top_value", came=top)
    try:
        watched = load_watch(run)
    except AtentoError as error:
        raise in_words_of(word, error) from None
    if out is not None:
        from atento.views import save

        save(watched, out, lang=word.lang)
    if as_json:
        say(to_json(watched) + "\n")
        return

    def lines(width: int) -> "Iterable[Text]":
        from atento.views.terminal_watch import watch_lines

        return watch_lines(watched, width, word, top=top)

    print_lines(lines)
    if out is not None:
        say(written(out, word) + "\n")
