"""What is searched in, from a file or folder of the user: keys, each with a value."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atento.views.words import mistake

if TYPE_CHECKING:
    from atento.retrieval.embedding import Embedder
    from atento.views.words import Words

__all__ = ["Pairs", "is_index", "read_embedder", "read_pairs", "tell_cut", "warnings_told"]


@dataclass(frozen=True)
class Pairs:
    """Keys, each once, and a value for each.

    Attributes:
        keys: texts.
        values: numbers, text, or of a passage ``{"file": …, "line": …}``.
        passages: whether the keys are passages of text files.
    """

    keys: list[str]
    values: list[Any]
    passages: bool


def read_pairs(path: Path, key: str | None, value: str | None, word: "Words") -> Pairs:
    """The pairs of a table, or the passages of a text file or folder.

    Raises:
        InputError: in the user's words.
    """
    from atento._errors import InputError
    from atento.retrieval.passages import ENDINGS as TEXTS
    from atento.retrieval.tables import ENDINGS as TABLES
    from atento.retrieval.tables import read_table
    from atento.views.words import in_words_of

    ending = path.suffix.lower()
    table = ending in TABLES and not path.is_dir()
    if not table and path.is_file() and ending not in TEXTS:
        known = ", ".join((*TABLES, *TEXTS))
        raise mistake(word, "search_ending", path=path, known=known)
    if not table and (key or value):
        given = "--key" if key else "--value"
        raise mistake(word, "search_columns", path=path, given=given)
    try:
        if not table:
            return _passages(path)
        found = read_table(path, key=key, value=value)
    except InputError as error:
        raise in_words_of(word, error) from None
    return Pairs(found.keys, found.values, passages=False)


def is_index(path: Path) -> bool:
    """Whether an index lies in the folder."""
    from atento.retrieval.manifest import MANIFEST

    try:
        return (path / MANIFEST).is_file()
    except (OSError, ValueError):
        return False


def read_embedder(embed: str | None) -> "Embedder":
    """The embedder of that name, which looks first whether it has read a text before."""
    from atento.retrieval.embedders import embedder
    from atento.retrieval.embedding_cache import cached

    return cached(embedder(embed))


def tell_cut(embedder: "Embedder", word: "Words") -> None:
    """Say how many texts were longer than the embedder reads."""
    cut = getattr(embedder, "truncated", 0)
    if cut:
        print(word.count("search.cut", cut), file=sys.stderr)


@contextmanager
def warnings_told() -> Iterator[None]:
    """Warnings as one line each on standard error, when the work is done."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        finally:
            from atento.views.terminal_text import visible

            for warning in caught:
                if issubclass(warning.category, UserWarning):
                    print(f"atento: {visible(str(warning.message))}", file=sys.stderr)


def _passages(path: Path) -> Pairs:
    """Passages, each text once: with the place where it comes first, and how often it comes."""
    from atento.retrieval.passages import read_passages

    places: dict[str, dict[str, Any]] = {}
    for passage in read_passages(path):
        place = places.setdefault(passage.text, {"file": passage.file, "line": passage.line})
        if (place["file"], place["line"]) != (passage.file, passage.line):
            place["more"] = place.get("more", 0) + 1
    return Pairs(list(places), list(places.values()), passages=True)
