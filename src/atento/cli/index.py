"""`atento index`: build, add to, and look at an index on disk."""

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atento.cli.output import say
from atento.views.words import mistake

if TYPE_CHECKING:
    from collections.abc import Iterator

    from atento.views.words import Words

__all__ = ["index"]

index = typer.Typer(
    name="index",
    help="Keep the vectors of a table or of texts in a folder, to search in them again.",
    rich_markup_mode=None,
    no_args_is_help=True,
)

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="The index.")]
Source = Annotated[
    Path | None,
    typer.Option(
        "--from", metavar="PATH", help="A table, a text file, or a folder of them, as in search."
    ),
]
Key = Annotated[str | None, typer.Option(metavar="COLUMN", help="Of a table.")]
Value = Annotated[str | None, typer.Option(metavar="COLUMN", help="Of a table.")]
Lang = Annotated[str | None, typer.Option(metavar="en|es", help="Default: from the locale.")]


@index.command()
def build(
    folder: Folder,
    source: Source = None,
    key: Key = None,
    value: Value = None,
    embed: Annotated[
        str | None, typer.Option(metavar="NAME|PATH", help="As in search; kept with the index.")
    ] = None,
    dtype: Annotated[
        str, typer.Option(metavar="float32|float16|int8", help="How vectors are held.")
    ] = "float32",
    replace: Annotated[
        bool, typer.Option("--replace", help="Write over an index that is there.")
    ] = False,
    lang: Lang = None,
) -> None:
    """Write an index into a new folder.

    atento index build meaning --from notes/
    """
    from atento.cli.pairs import read_embedder
    from atento.retrieval.index import Index

    word = _words(lang)
    if dtype not in ("float32", "float16", "int8"):
        raise mistake(word, "index_dtype", came=dtype)
    with _told(word, folder):
        pairs = _pairs(source, key, value, word)
        reader = read_embedder(embed)
        built = Index.build(
            folder, pairs.keys, pairs.values, embedder=reader, dtype=dtype, replace=replace
        )
        _done(built, len(pairs.keys), reader, word)


@index.command()
def add(
    folder: Folder,
    source: Source = None,
    key: Key = None,
    value: Value = None,
    embed: Annotated[
        str | None,
        typer.Option(metavar="NAME|PATH", help="The embedder of the index, where it was moved."),
    ] = None,
    lang: Lang = None,
) -> None:
    """Add to an index; what is in it already is not added again.

    atento index add meaning --from more.md
    """
    from atento.cli.pairs import read_embedder
    from atento.retrieval.embedding_cache import cached
    from atento.retrieval.index import Index

    word = _words(lang)
    with _told(word, folder):
        pairs = _pairs(source, key, value, word)
        reader = cached(Index.open(folder).embedder) if embed is None else read_embedder(embed)
        opened = Index.open(folder, embedder=reader)
        _check_kinds(opened, pairs.values, source, word)
        count = opened.add(pairs.keys, pairs.values, known="skip" if pairs.passages else "same")
        _done(opened, count, reader, word)


@index.command()
def info(
    folder: Folder,
    check: Annotated[
        bool, typer.Option("--check", help="Read every file whole and compare its checksum.")
    ] = False,
    lang: Lang = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and only that.")] = False,
) -> None:
    """Show what an index is: how many rows, which embedder, how large.

    atento index info meaning
    """
    from atento.retrieval.index import Index

    word = _words(lang)
    with _told(word, folder):
        facts = Index.open(folder).info(check=check)
    if as_json:
        import json

        say(json.dumps(facts, ensure_ascii=False) + "\n")
        return
    _table(facts, word)


def _check_kinds(opened: Any, values: list[Any], source: Path | None, word: "Words") -> None:
    """See that numbers stay among numbers: other values have no mean, and search takes one kind."""
    if not len(opened) or opened.values is None:
        return
    here, came = (
        "numbers" if isinstance(value, int | float) else "objects"
        for value in (opened.value(0), values[0])
    )
    if here != came:
        facts = {"here": word(f"index.{here}"), "came": word(f"index.{came}")}
        raise mistake(word, "index_kinds", path=opened.folder, source=source, **facts)


def _table(facts: dict[str, Any], word: "Words") -> None:
    from atento.views.terminal_text import pad, visible

    number = word.number
    rows = [
        ("rows", f"{facts['size']}"),
        ("vectors", f"{facts['dim']} × {facts['dtype']}"),
        ("error", number(f"{facts['error']:.2g}") if facts["error"] else None),
        ("embedder", facts["embedder"]),
        ("version", facts["version"]),
        ("bytes", number(f"{facts['bytes'] / 2**20:.1f}") + " MiB"),
        ("segments", f"{facts['segments']}"),
    ]
    shown = [(word(f"index.{name}"), text) for name, text in rows if text is not None]
    width = max(len(name) for name, _ in shown)
    lines = [visible(facts["folder"])]
    lines += [f"  {pad(name, width)}  {visible(text)}" for name, text in shown]
    say("\n".join(lines) + "\n")


def _done(built: Any, count: int, reader: Any, word: "Words") -> None:
    from atento.cli.pairs import tell_cut
    from atento.views.terminal_text import visible

    tell_cut(reader, word)
    added = word.count("index.added", count)
    folder = visible(str(built.folder))
    say(word("index.done", path=folder, added=added, size=len(built)) + "\n")


def _pairs(source: Path | None, key: str | None, value: str | None, word: "Words") -> Any:
    from atento.cli.pairs import is_index, read_pairs

    if source is None:
        raise mistake(word, "index_nothing")
    if is_index(source):
        raise mistake(word, "index_of_index", path=source)
    return read_pairs(source, key, value, word)


def _words(lang: str | None) -> "Words":
    from atento.views.words import choose_language, words

    return words(choose_language(lang))


@contextmanager
def _told(word: "Words", folder: Path) -> "Iterator[None]":
    """What goes wrong becomes one sentence in the user's language."""
    from atento._errors import InputError
    from atento.cli.pairs import warnings_told
    from atento.views.words import in_words_of

    try:
        with warnings_told():
            yield
    except InputError as error:
        raise in_words_of(word, error) from None
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise mistake(word, "write", path=folder, why=why) from None
