"""A match in the terminal: the ranked keys, a bar for each weight, and the values."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from rich.cells import cell_len
from rich.console import Console
from rich.style import Style
from rich.text import Text

from atento.explanation.of_match import name_of
from atento.retrieval.match import Match
from atento.views.terminal_heat import PLUS
from atento.views.terminal_text import fit, fold, named, pad
from atento.views.words import Words, words

__all__ = ["bar", "match_lines", "render_match", "value_text"]

WIDEST, NARROWEST = 100, 40
BAR_CELLS = 20
EIGHTHS = " ▏▎▍▌▋▊▉█"
HEADING = Style(bold=True)
DIM = Style(dim=True)
BAR = Style(color=PLUS[1])


def render_match(match: Match, *, lang: str, console: Console) -> None:
    """Print a match.

    Args:
        match: what to show.
        lang: "en" or "es".
        console: where to; its width decides how long keys and values may be.

    Raises:
        InputError: there are no words in that language.
    """
    text = Text("\n").join(match_lines(match, console.width, words(lang)))
    console.print(text, no_wrap=True, overflow="ignore", crop=False, highlight=False)


def match_lines(match: Match, width: int, word: Words) -> Iterator[Text]:
    """The query with the weighted mean, a line for each item, and what the list leaves out.

    Args:
        match: what to show.
        width: columns of the terminal.
        word: the reader's language.
    """
    width = max(NARROWEST, min(width, WIDEST))
    query = fit(named(name_of(match.query)), width // 2)
    title = query if match.mean is None else f"{query} → {value_text(match.value, word)}"
    yield Text(fit(title, width), style=HEADING)
    if match.items:
        yield Text()
        yield from _table(match, width, word)
    yield Text()
    number = word.number(f"{match.temperature:g}")
    about = word(
        "match.about" if match.items else "match.none",
        keys=word.count("match.keys", match.size),
        similarity=word(f"match.{match.similarity}"),
        temperature=number,
        percent=word.percent(match.mass),
    )
    for line in fold(about.split(" "), width):
        yield Text(line, style=DIM)


def bar(weight: float, largest: float, cells: int = BAR_CELLS) -> str:
    """A bar as long as the weight is against the largest; an eighth of a cell at least.

    >>> bar(1.0, 1.0, 4), bar(0.5, 1.0, 3), bar(1e-9, 1.0, 4)
    ('████', '█▌', '▏')
    """
    eighths = max(1, round(8 * cells * weight / largest)) if weight > 0 else 0
    return "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()


def value_text(value: Any, word: Words) -> str:
    """A value in few characters: numbers in the language's way, text as it is, else its repr."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | np.generic | np.ndarray):
        return _repr(value)
    if isinstance(value, np.ndarray) and value.ndim:
        few = [word.number(f"{number:.4g}") for number in value.ravel()[:4].tolist()]
        more = ["…"] if value.size > len(few) else []
        return f"[{'; '.join([*few, *more])}]"
    return word.number(f"{float(value):.4g}")


def _table(match: Match, width: int, word: Words) -> Iterator[Text]:
    keys = [named(name_of(item.key)) for item in match.items]
    values = [named(value_text(item.value, word)) for item in match.items]
    shares = [_percent(item.weight, word) for item in match.items]
    titles = word("match.key"), word("match.weight"), word("match.value")
    of_share = max(map(cell_len, shares))
    bars = max(4, min(BAR_CELLS, width // 4))
    room = width - bars - of_share - 6
    of_value = min(max(map(cell_len, [titles[2], *values])), max(8, room // 2))
    of_key = min(max(map(cell_len, [titles[0], *keys])), room - of_value)
    weights = bars + 1 + of_share
    heads = pad(fit(titles[0], of_key), of_key), pad(fit(titles[1], weights), weights)
    yield Text("  ".join([*heads, fit(titles[2], of_value)]).rstrip(), style=HEADING)
    for item, key, share, value in zip(match.items, keys, shares, values, strict=True):
        line = Text(pad(fit(key, of_key), of_key) + "  ")
        line.append(pad(bar(item.weight, match.items[0].weight, bars), bars), style=BAR)
        line.append(f" {pad(share, of_share, right=True)}  {fit(value, of_value)}")
        yield line


def _percent(weight: float, word: Words) -> str:
    """With a decimal; what would be 0.0 % and is not nothing, as less than that."""
    if 0 < weight < 0.0005:
        return "<" + _percent(0.001, word)
    sign = "%" if word.lang == "en" else "\u00a0%"
    return word.number(f"{100 * weight:.1f}") + sign


def _repr(value: Any) -> str:
    try:
        return repr(value)
    except Exception:  # an object of the user's that cannot be written is no reason to show nothing
        return f"<{type(value).__name__}>"
