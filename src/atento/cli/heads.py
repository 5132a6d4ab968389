"""`atento heads`: the head table of a saved recording."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atento.cli.output import say
from atento.views.words import mistake

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from atento.reading.recording import Recording
    from atento.views.words import Words

__all__ = ["TOP", "check_table", "heads", "open_recording", "print_lines", "print_table", "to_json"]

TOP = 48
"""So many heads fit into a tall terminal."""


def heads(
    recording: Annotated[
        Path, typer.Argument(metavar="RUN.safetensors", help="What inspect --save wrote.")
    ],
    sort: Annotated[
        str, typer.Option(metavar="layer|role|NUMBER", help="The order of the heads.")
    ] = "layer",
    top: Annotated[int, typer.Option(metavar="N", help="At most so many heads; 0: all.")] = TOP,
    lang: Annotated[
        str | None, typer.Option(metavar="en|es", help="Default: from the locale.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON (all heads, as they ran), and only that.")
    ] = False,
) -> None:
    """Show what each attention head of a saved recording does.

    atento heads run.safetensors --sort role
    """
    from atento.views.words import choose_language, words

    word = words(choose_language(lang))
    check_table(sort, top, word)
    opened = open_recording(recording, word)
    if as_json:
        say(to_json(opened) + "\n")
        return
    print_table(opened, word, sort=sort, top=top, title=_title(recording, opened, word))


def check_table(sort: str, top: int, word: "Words") -> None:
    """See that the table can be sorted and cut as asked.

    Raises:
        InputError: in the user's words.
    """
    from atento.views.terminal_heads import check_sort

    check_sort(sort, word)
    if top < 0:
        raise mistake(word, "top_value", came=top)


def open_recording(path: Path, word: "Words") -> "Recording":
    """The recording in a file.

    Raises:
        InputError: there is no such file, or it is no recording that can be read.
    """
    from atento.reading.saving import load_recording

    if path.is_dir():
        raise mistake(word, "folder", path=path)
    if not path.exists():
        raise mistake(word, "missing_file", path=path)
    return load_recording(path)


def print_table(
    recording: "Recording",
    word: "Words",
    *,
    sort: str,
    top: int,
    title: str,
    under: "Sequence[str]" = (),
) -> None:
    """Print the heads of a recording, what was skipped, and some lines under it."""
    from rich.text import Text

    from atento.views.terminal_heads import head_lines, rows_of, skipped_lines
    from atento.views.terminal_text import fold

    def lines(width: int) -> "Iterable[Text]":
        yield from (Text(line, style="bold") for line in fold(title.split(" "), width))
        yield Text()
        yield from head_lines(rows_of(recording), width, word, sort=sort, top=top)
        yield from skipped_lines(recording.skipped, width, word)
        for sentence in under:
            yield from (Text(line, style="dim") for line in fold(sentence.split(" "), width))

    print_lines(lines)


def print_lines(lines: Any) -> None:
    """Print what a function of the width makes; nothing in it is read as markup."""
    from rich.console import Console
    from rich.text import Text

    console = Console(file=sys.stdout, markup=False, highlight=False, emoji=False)
    text = Text("\n").join(lines(console.width))
    with console.capture() as rendered:
        console.print(text, no_wrap=True, overflow="ignore", crop=False, highlight=False)
    say(rendered.get())


def to_json(record: Any) -> str:
    """What ``record.to_dict()`` returns as strict JSON: null for what is no finite number."""
    import json

    return json.dumps(_finite(record.to_dict()), ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    import math

    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _title(path: Path, recording: "Recording", word: "Words") -> str:
    from atento.views.terminal_text import visible

    return word(
        "inspect.title",
        model=visible(str(path)),
        tokens=word.count("tokens", max((layer.keys for layer in recording), default=0)),
        layers=word.count("layers", len(recording)),
        heads=word.count("heads", sum(x.heads for one in recording.passes for x in one)),
    )
