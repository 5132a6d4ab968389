"""`atento serve`: the page on this machine where texts are read and recordings looked at."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atento.cli.output import say
from atento.views.words import mistake

if TYPE_CHECKING:
    from atento.server.readers import Reader
    from atento.server.readings import Readings
    from atento.views.words import Words

__all__ = ["serve"]


def serve(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FILE]...",
            help="Recordings that inspect --save wrote; a folder is taken as a model.",
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH_OR_NAME",
            help="A model's folder, or its name on the Hugging Face hub; may be said several "
            "times. The small model inside the package is always there.",
        ),
    ] = None,
    port: Annotated[int, typer.Option(metavar="N", help="0: any free one.")] = 0,
    no_open: Annotated[
        bool, typer.Option("--no-open", help="Print the address, and open no browser.")
    ] = False,
    lang: Annotated[
        str | None, typer.Option(metavar="en|es", help="Default: from the locale.")
    ] = None,
) -> None:
    """Open a page on this machine: read texts, look at every head, switch heads off, generate.

    Only this machine reaches it, and only with the address that is printed. Nothing but the models
    and files named here is ever loaded.

        atento serve

        atento serve book.safetensors --model ./my-llama

        atento serve runs/mine
    """
    from atento._errors import InputError
    from atento._optional import require
    from atento.views.words import choose_language, in_words_of, words

    word = words(choose_language(lang))
    require("starlette", "to serve")
    require("uvicorn", "to serve")
    from atento.server.serve import serve as run

    try:
        folders = [str(path) for path in files or [] if path.is_dir()]
        pinned, named = _opened([path for path in files or [] if not path.is_dir()], word)
        readers = _readers([*folders, *(model or [])], word)
        run(
            readers,
            named,
            lang=word.lang,
            port=port,
            readings=pinned,
            opened=lambda address: _tell(address, word, no_open),
        )
    except InputError as error:
        raise in_words_of(word, error) from None


def _opened(files: list[Path], word: "Words") -> "tuple[Readings, list[tuple[str, str]]]":
    """The recordings, held as long as the server runs; (id, name) of each."""
    from atento.cli.heads import open_recording
    from atento.server.readings import HeldReading, Readings

    readings = Readings()
    named: list[tuple[str, str]] = []
    for path in files:
        if path.exists() and path.suffix.lower() != ".safetensors":
            raise mistake(word, "serve_file", path=path)
        recording = open_recording(path, word)
        shown = _unused(path.name, [name for _, name in named])
        named.append((readings.pin(HeldReading(shown, "", recording)), shown))
    return readings, named


def _readers(models: list[str], word: "Words") -> "list[Reader]":
    """Those that were named, and the model inside the package."""
    from atento.server.readers import MiniReader

    readers: list[Reader] = []
    for name in models:
        from atento.server.torch_reader import TorchReader
        from atento.views.terminal_text import visible

        print(word("serve.loading", model=visible(name)), file=sys.stderr)
        reader = TorchReader(name)
        reader.name = _unused(reader.name, [one.name for one in readers])
        readers.append(reader)
    mini = MiniReader()
    mini.name = _unused(mini.name, [one.name for one in readers])
    return [*readers, mini]


def _unused(name: str, taken: list[str]) -> str:
    """The name, with a number behind it where another has it."""
    tried, count = name, 1
    while tried in taken:
        count += 1
        tried = f"{name} ({count})"
    return tried


def _tell(address: str, word: "Words", no_open: bool) -> None:
    """The address on standard output; the browser opens it meanwhile."""
    say(word("serve.open", address=address) + "\n")
    print(word("serve.stop"), file=sys.stderr)
    if not no_open:
        import webbrowser
        from threading import Thread

        Thread(target=webbrowser.open, args=(address,), daemon=True).start()
