"""How the heads of a model formed, for the terminal: a row for each, with its course as a line."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.style import Style
from rich.text import Text

from atento.reading.roles import OTHER
from atento.views.terminal_text import fit, fold, pad, visible
from atento.views.words import Words

if TYPE_CHECKING:
    from atento.lm.watching import Watched

__all__ = ["spark", "watch_lines"]

WIDEST, NARROWEST = 120, 40
LEVELS = "▁▂▃▄▅▆▇█"
LONGEST_COURSE, SHORTEST_COURSE = 32, 8
LAYER = 24
"""Columns of a layer's name at most."""

HEADING, DIM = Style(bold=True), Style(dim=True)
GAP = 2


def watch_lines(watched: "Watched", width: int, word: Words, *, top: int = 0) -> Iterator[Text]:
    """The loss, and each head's role with the step at which it formed, the earliest first.

    Args:
        watched: what was seen of a run.
        width: columns of the terminal.
        word: the reader's language.
        top: at most so many heads; 0: all.
    """
    width = max(NARROWEST, min(width, WIDEST))
    yield from (Text(line, style=HEADING) for line in fold(_facts(watched, word), width))
    yield from (Text(line) for line in fold(_loss(watched, word), width))
    yield Text()
    rows = sorted(watched.formed(), key=_rank)
    shown = rows[:top] if top else rows
    columns = _columns(shown, word)
    room = width - sum(_wide(column) for column in columns) - GAP * len(columns)
    if room >= SHORTEST_COURSE:
        courses = [spark(_course(watched, row), min(room, LONGEST_COURSE)) for row in shown]
        columns.append([word("watch.course"), *courses])
    right = (False, True, False, True, True, False)
    for at in range(len(shown) + 1):
        cells = zip(columns, right, strict=False)
        line = (" " * GAP).join(
            pad(column[at], _wide(column), right=number) for column, number in cells
        )
        yield Text(fit(line.rstrip(), width), style="" if at else HEADING)
    if len(shown) < len(rows):
        more = word("table.more", parts=word.count("more_head", len(rows) - len(shown)))
        yield Text(fit(more, width), style=DIM)
    yield Text()
    yield from (Text(line, style=DIM) for line in fold(word("watch.note").split(" "), width))


def spark(values: Sequence[float], cells: int, least: float = 0.0, most: float = 1.0) -> str:
    """Numbers as bars of eight heights; of more numbers than cells, some at equal distances.

    >>> spark([0.0, 0.5, 1.0, float("nan")], 8)
    '▁▅█ '
    """
    count = min(cells, len(values))
    chosen = [values[round(at * (len(values) - 1) / max(1, count - 1))] for at in range(count)]
    reach = (most - least) or 1.0
    return "".join(" " if math.isnan(v) else _bar((v - least) / reach) for v in chosen)


def _bar(share: float) -> str:
    return LEVELS[max(0, min(len(LEVELS) - 1, int(share * len(LEVELS))))]


def _facts(watched: "Watched", word: Words) -> list[str]:
    heads = len(watched.layers) * len(watched.heads)
    return word(
        "watch.facts",
        step=f"{int(watched.steps[-1])}",
        total=f"{watched.total}",
        layers=word.count("layers", len(watched.layers)),
        heads=word.count("heads", heads),
        prompts=word.count("watch.prompts", len(watched.prompts)),
    ).split(" ")


def _loss(watched: "Watched", word: Words) -> list[str]:
    loss = watched.loss.tolist()
    written = {"first": word.number(f"{loss[0]:.3f}"), "last": word.number(f"{loss[-1]:.3f}")}
    course = spark(loss, LONGEST_COURSE, min(loss), max(loss))
    return word("watch.loss", course=course, **written).split(" ")


def _columns(rows: Sequence[dict[str, Any]], word: Words) -> list[list[str]]:
    layer = [fit(visible(str(row["layer"])), LAYER) for row in rows]
    return [
        [word("table.layer"), *layer],
        [word("table.head"), *(str(row["head"]) for row in rows)],
        [word("table.role"), *(word(f"role.{row['role'].replace(' ', '_')}") for row in rows)],
        [word("table.share"), *(_share(row, word) for row in rows)],
        [word("watch.formed"), *("–" if row["step"] is None else f"{row['step']}" for row in rows)],
    ]


def _share(row: dict[str, Any], word: Words) -> str:
    return "–" if row["value"] is None else word.number(f"{row['value']:.2f}")


def _course(watched: "Watched", row: dict[str, Any]) -> list[float]:
    """Of the number that decides the role; of a head without one, how far it came as any."""
    layer, head = watched.layers.index(row["layer"]), watched.heads.index(row["head"])
    names = [row["number"]] if row["number"] else ["induction", "previous", "first"]
    courses = [watched[name][:, layer, head] for name in names]
    found: list[float] = max(courses, key=lambda course: course[-1]).tolist()
    return found


def _rank(row: dict[str, Any]) -> tuple[bool, float]:
    return row["role"] == OTHER, row["step"] or 0


def _wide(column: Sequence[str]) -> int:
    return max(map(cell_len, column))
