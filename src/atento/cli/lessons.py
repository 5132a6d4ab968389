"""`atento lessons`: which lessons there are, and one of them opened."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atento.cli.output import say
from atento.views.words import mistake

if TYPE_CHECKING:
    from atento.views.words import Words

__all__ = ["lessons"]


def lessons(
    number: Annotated[
        int | None, typer.Argument(metavar="N", help="Which lesson; without it: the list.")
    ] = None,
    lang: Annotated[
        str | None, typer.Option(metavar="en|es", help="Default: from the locale.")
    ] = None,
    folder: Annotated[
        Path, typer.Option("--to", metavar="FOLDER", help="Where your copy goes.")
    ] = Path(),
    start: Annotated[
        bool | None,
        typer.Option(
            "--open/--no-open", help="Start Jupyter if it is there. Default: in a terminal, yes."
        ),
    ] = None,
) -> None:
    """List the lessons, or take one home and open it in Jupyter.

    atento lessons 1 --lang es
    """
    from atento.lessons import lessons as all_lessons
    from atento.views.words import choose_language, words

    word = words(choose_language(lang))
    if number is None:
        listed = (f"  {lesson.number}  {lesson.title}\n" for lesson in all_lessons(word.lang))
        say("".join(listed) + "\n" + word("lessons.how") + "\n")
        return
    path = _taken(number, folder, word)
    if start if start is not None else sys.stdout.isatty():
        _open(path, word)


def _taken(number: int, folder: Path, word: "Words") -> Path:
    from atento.lessons import lessons as all_lessons
    from atento.lessons import take

    last = len(all_lessons(word.lang))
    if not 1 <= number <= last:
        raise mistake(word, "lesson_number", came=number, last=last)
    if not folder.is_dir():
        raise mistake(word, "lesson_folder", folder=folder)
    path, new = take(number, folder, word.lang)
    say(word("lessons.new" if new else "lessons.kept", path=path) + "\n")
    return path


def _open(path: Path, word: "Words") -> None:
    program = next((name for name in ("jupyterlab", "notebook") if find_spec(name)), None)
    if program is None:
        say(word("lessons.no_jupyter") + "\n")
        return
    say(word("lessons.opening") + "\n")
    subprocess.run([sys.executable, "-m", program, str(path)], check=False)  # noqa: S603
