"""A match whose keys are passages: under each bar its place and its text, over several lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.text import Text

from atento.views.terminal_match import BAR, DIM, HEADING, bar, value_text
from atento.views.terminal_text import fit, fold, pad, visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from atento.retrieval.match import Match
    from atento.views.words import Words

__all__ = ["has_long_keys", "hit_lines"]

WIDEST, NARROWEST = 100, 40
BAR_CELLS = 12
MOST_LINES = 8  # of a passage; what atento cuts texts into fits
LONG = 48  # columns: longer keys do not fit into a table beside their values


def has_long_keys(match: Match) -> bool:
    """Whether a key is a passage, or too long for a line of a table."""
    return any(
        _place(item.value) is not None or cell_len(visible(str(item.key)[: LONG + 1])) > LONG
        for item in match.items
    )


def hit_lines(match: Match, width: int, word: Words) -> Iterator[Text]:
    """The query, each hit with its weight, its place and its passage, and what the list leaves out.

    Args:
        match: what to show.
        width: columns of the terminal.
        word: the reader's language.
    """
    width = max(NARROWEST, min(width, WIDEST))
    title = fit(str(match.query), width if match.mean is None else width - 12)
    if match.mean is not None:
        title += f" → {value_text(match.value, word)}"
    yield Text(title, style=HEADING)
    for place, item in enumerate(match.items, start=1):
        yield Text()
        line = Text(pad(str(place), 3, right=True) + "  ")
        line.append(pad(bar(item.weight, match.items[0].weight, BAR_CELLS), BAR_CELLS), style=BAR)
        line.append(f" {pad(word.percent(item.weight), 5, right=True)}  ")
        line.append(fit(_beside(item.value, word), width - line.cell_len), style=DIM)
        line.rstrip()
        yield line
        for text in _folded(str(item.key), width - 5):
            yield Text(f"     {text}")
    yield Text()
    number = word.number(f"{match.temperature:g}")
    passages = any(_place(item.value) is not None for item in match.items)
    about = word(
        "match.about" if match.items else "match.none",
        keys=word.count("search.passages" if passages else "match.keys", match.size),
        similarity=word(f"match.{match.similarity}"),
        temperature=number,
        percent=word.percent(match.mass),
    )
    for text in fold(about.split(" "), width):
        yield Text(text, style=DIM)


def _place(value: Any) -> str | None:
    if isinstance(value, Mapping) and {"file", "line"} <= set(value):
        return f"{value['file']}:{value['line']}"
    return None


def _beside(value: Any, word: Words) -> str:
    place = _place(value)
    if place is None:
        return "" if value is None else value_text(value, word)
    more = value.get("more", 0)
    return f"{place} {word('search.more', n=more)}" if more else place


def _folded(text: str, width: int) -> Iterator[str]:
    """The first lines of a text; … where there are more."""
    words = visible(text[: MOST_LINES * width + 1]).split(" ")
    lines = list(fold(_short(words, width), width))
    yield from lines[:MOST_LINES]
    if len(lines) > MOST_LINES or len(text) > MOST_LINES * width:
        yield "…"


def _short(words: list[str], width: int) -> Iterator[str]:
    """Words; such as are wider than a line, in pieces."""
    for word in words:
        piece = ""
        for character in word:
            if cell_len(piece + character) > width:
                yield piece
                piece = ""
            piece += character
        yield piece
