"""`atento search`: attention over the keys of a table, the passages of texts, or an index."""

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atento.cli.explain import page_target
from atento.cli.output import say, written
from atento.views.words import mistake

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.text import Text

    from atento.views.words import Words

__all__ = ["search"]

TOP = 10


def search(
    query: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="QUERY",
            help="What to look for; several words are one query, - is standard input.",
        ),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            "--in",
            metavar="PATH",
            help="A table (.csv, .tsv, .jsonl, .parquet), a text file or a folder of them (.txt, "
            ".md, .rst, .org), or an index.",
        ),
    ] = None,
    key: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Of a table. Default: the first.")
    ] = None,
    value: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Of a table. Default: the second.")
    ] = None,
    top: Annotated[int, typer.Option(metavar="N", help="How many hits.")] = TOP,
    temperature: Annotated[
        float | None,
        typer.Option(metavar="NUMBER", help="Lower: sharper. 0: only the nearest count."),
    ] = None,
    min_weight: Annotated[
        float, typer.Option(metavar="SHARE", help="Leave out hits of less weight, 0 to 1.")
    ] = 0.0,
    embed: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|PATH",
            help="An encoder of transformers. Default: the model inside the package.",
        ),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Write a page with every step of the attention.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where that page goes: .html, .json, .svg, .png, .pdf. Default: attention.html.",
        ),
    ] = None,
    lang: Annotated[
        str | None, typer.Option(metavar="en|es", help="Default: from the locale.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and only that.")] = False,
) -> None:
    """Find what is near in meaning, by attention over all keys.

    The weights are softmax(similarity / temperature); of numbers, the answer is their weighted
    mean. Vectors of texts are kept in your cache folder (ATENTO_CACHE names another).

        atento search "país" --in pairs.csv

        atento search "dogs that bark" --in notes/ --top 3
    """
    from atento._errors import InputError
    from atento.views.words import choose_language, in_words_of, words

    word = words(choose_language(lang))
    text = _joined(query, word)
    if source is None:
        raise mistake(word, "search_nothing")
    _check_numbers(word, top, temperature, min_weight)
    target = page_target(out, word, no_page=False, as_json=False) if explain or out else None
    try:
        match = _match(word, text, source, key, value, embed, temperature, top, min_weight)
    except InputError as error:
        raise in_words_of(word, error) from None
    if target is not None:
        from atento.views import save

        save(match, target, lang=word.lang)
    if as_json:
        from atento.views.match_json import match_json

        say(match_json(match) + "\n")
    else:
        _print(match, word)
    if target is not None:
        print(written(target, word), file=sys.stderr if as_json else sys.stdout)


def _match(
    word: "Words",
    text: str,
    source: Path,
    key: str | None,
    value: str | None,
    embed: str | None,
    temperature: float | None,
    top: int,
    min_weight: float,
) -> Any:
    from atento.cli.pairs import is_index, read_embedder, read_pairs, tell_cut, warnings_told
    from atento.retrieval.soft_dict import SoftDict

    with warnings_told():
        if is_index(source):
            if key or value:
                given = "--key" if key else "--value"
                raise mistake(word, "search_columns", path=source, given=given)
            lookup = SoftDict.open(source, embed=embed and read_embedder(embed))
            if not lookup:
                raise mistake(word, "index_empty", path=source)
            return lookup.attend(text, temperature=temperature, top_k=top, min_weight=min_weight)
        pairs = read_pairs(source, key, value, word)
        reader = read_embedder(embed)
        lookup = SoftDict(dict(zip(pairs.keys, pairs.values, strict=True)), embed=reader)
        match = lookup.attend(text, temperature=temperature, top_k=top, min_weight=min_weight)
        tell_cut(reader, word)
        return match


def _joined(query: list[str] | None, word: "Words") -> str:
    """The words of the command line as one query; - is what comes on standard input."""
    if not query:
        raise mistake(word, "search_no_query")
    if query == ["-"]:
        try:
            text = sys.stdin.buffer.read().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise mistake(word, "stdin", byte=error.start + 1) from None
    else:
        text = " ".join(query)
        # Python hands over bytes that are not UTF-8 as lone surrogates
        if any("\udc80" <= character <= "\udcff" for character in text):
            raise mistake(word, "search_argument")
    if not text.strip():
        raise mistake(word, "search_empty")
    return text.strip()


def _check_numbers(word: "Words", top: int, temperature: float | None, min_weight: float) -> None:
    if top < 1:
        raise mistake(word, "search_top", came=top)
    if temperature is not None and not 0 <= temperature < math.inf:
        raise mistake(word, "search_temperature", came=temperature)
    if not 0 <= min_weight <= 1:
        raise mistake(word, "search_min_weight", came=min_weight)


def _print(match: Any, word: "Words") -> None:
    from atento.cli.heads import print_lines
    from atento.views.terminal_hits import has_long_keys, hit_lines
    from atento.views.terminal_match import match_lines

    def lines(width: int) -> "Iterable[Text]":
        return (hit_lines if has_long_keys(match) else match_lines)(match, width, word)

    print_lines(lines)
