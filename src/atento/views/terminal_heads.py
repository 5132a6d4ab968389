"""What the heads of a recording do, and what changed between two: tables for the terminal."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.style import Style
from rich.text import Text

from atento.reading.roles import NUMBERS, OTHER, ROLES
from atento.views.terminal_heat import heat
from atento.views.terminal_text import fit, fold, pad, visible
from atento.views.words import Words, mistake

if TYPE_CHECKING:
    from atento.reading.comparison import Comparison
    from atento.reading.recording import Recording

__all__ = [
    "SHOWN",
    "SORTED_BY",
    "Column",
    "change_lines",
    "check_sort",
    "head_lines",
    "number_column",
    "rows_of",
    "skipped_lines",
    "table_lines",
]

Row = Mapping[str, Any]

SORTED_BY = ("layer", "role", *NUMBERS)
SHOWN = (
    "previous",
    "induction",
    "first",
    "self",
    "entropy",
    "distance_mean",
    "uniform",
    "duplicate",
    "positional",
    "offset",
    "max",
    "distance_std",
)
"""The columns, those first that a narrow terminal keeps."""

SHARES = ("previous", "induction", "first", "self", "duplicate", "positional", "uniform", "max")
"""Numbers from 0 to 1, which can be coloured and compared with one another."""

CHANGES = ("previous", "induction", "first", "self", "duplicate", "max")
"""Statistics of a head that are shares of its weight: their changes are of one unit."""

WIDEST = 170
NARROWEST = 40
HEADING = Style(bold=True)
DIM = Style(dim=True)
ROLE_RANK = {role.name: rank for rank, role in enumerate(ROLES)}
DECIDED_BY = {role.name: role.number for role in ROLES}


@dataclass(frozen=True)
class Column:
    """A column of a table: its heading and its cells.

    Attributes:
        title: in the reader's language.
        cells: a text for each row.
        styles: how each is drawn.
        right: whether numbers stand in it.
    """

    title: str
    cells: Sequence[str]
    styles: Sequence[Style] = ()
    right: bool = True

    @property
    def width(self) -> int:
        """Of the widest text in it."""
        return max(cell_len(text) for text in (self.title, *self.cells))


def check_sort(sort: str, word: Words, also: Sequence[str] = SORTED_BY) -> None:
    """See that there is such an order.

    Raises:
        InputError: there are others.
    """
    if sort not in also:
        raise mistake(word, "sort", came=repr(sort), known=", ".join(also))


def rows_of(recording: "Recording") -> list[dict[str, Any]]:
    """The rows of the summaries of all passes; a layer that ran again carries the pass's number."""
    return [
        {**row, "layer": _in_pass(row["layer"], number)}
        for number, one in enumerate(recording.passes)
        for row in one.summary()
    ]


def _in_pass(layer: str, number: int) -> str:
    return layer if not number else f"{layer} ({number + 1})"


def head_lines(
    rows: Sequence[Row], width: int, word: Words, *, sort: str = "layer", top: int = 0
) -> Iterator[Text]:
    """The table of heads, and how many have which role.

    Args:
        rows: of the summary.
        width: columns of the terminal.
        word: the reader's language.
        sort: one of `SORTED_BY`. Numbers begin with the largest.
        top: at most so many rows; 0: all.
    """
    width = max(NARROWEST, min(width, WIDEST))
    ordered = _sorted(rows, sort)
    shown = ordered[:top] if top else ordered
    common, parts = _shortened([str(row["layer"]) for row in ordered])
    if common:
        yield _line(word("table.layers", names=visible(common)), width, DIM)
    first = [
        Column(
            word("table.layer"),
            [fit(part, width // 4) for part in parts[: len(shown)]],
            right=False,
        ),
        Column(word("table.head"), [str(row["head"]) for row in shown]),
        Column(word("table.role"), [_role(row, word) for row in shown], right=False),
        Column(word("table.share"), [_written(_deciding(row), word) for row in shown]),
    ]
    there = [name for name in SHOWN if any(row[name] is not None for row in rows)]
    numbers = [_number_column(name, shown, word) for name in there]
    yield from table_lines(first, numbers, width)
    left = len(ordered) - len(shown)
    if left:
        yield _line(word("table.more", parts=word.count("more_head", left)), width, DIM)
    yield Text()
    for line in fold(_tally(rows, word), width, indent="  "):
        yield Text(line)


def change_lines(
    comparison: "Comparison", width: int, word: Words, *, top: int = 0
) -> Iterator[Text]:
    """The heads that changed most, and the largest change of each statistic.

    Args:
        comparison: of two recordings.
        width: columns of the terminal.
        word: the reader's language.
        top: at most so many heads; 0: all.
    """
    width = max(NARROWEST, min(width, WIDEST))
    rows = [{**row, "layer": _in_pass(row["layer"], row.get("pass", 0))} for row in comparison]
    heads = _by_head(rows)
    ordered = sorted(heads, key=lambda head: -_changed(heads[head]))
    shown = ordered[:top] if top else ordered
    before, after = (
        {(row["layer"], row["head"]): row for row in rows_of(recording)}
        for recording in (comparison.first, comparison.second)
    )
    common, parts = _shortened([layer for layer, _ in ordered])
    yield _line(word("diff.heading"), width, HEADING)
    if common:
        yield _line(word("table.layers", names=visible(common)), width, DIM)
    roles = [_change_of_role(_role(before[head], word), _role(after[head], word)) for head in shown]
    first = [
        Column(
            word("table.layer"),
            [fit(part, width // 4) for part in parts[: len(shown)]],
            right=False,
        ),
        Column(word("table.head"), [str(head) for _, head in shown]),
        Column(word("table.role"), roles, right=False),
    ]
    names = [
        name for name in (*SHOWN, "lse") if any(name in statistics for statistics in heads.values())
    ]
    numbers = [
        number_column(name, [heads[head].get(name, {}).get("mean") for head in shown], word)
        for name in names
    ]
    yield from table_lines(first, numbers, width)
    left = len(ordered) - len(shown)
    if left:
        yield _line(word("table.more", parts=word.count("more_head", left)), width, DIM)
    yield Text()
    yield _line(word("diff.largest"), width, HEADING)
    for line in _largest(rows, word):
        for part in fold(line.split(" "), width - 2, indent="  "):
            yield Text("  " + part)


def skipped_lines(skipped: Sequence[tuple[str, str]], width: int, word: Words) -> Iterator[Text]:
    """The layers that were not read, each reason once."""
    if not skipped:
        return
    width = max(NARROWEST, min(width, WIDEST))
    reasons: dict[str, list[str]] = {}
    for layer, reason in skipped:
        reasons.setdefault(reason, []).append(layer)
    yield Text()
    yield _line(word.count("skipped", len(skipped)), width, HEADING)
    for reason, layers in reasons.items():
        named = visible(f"{', '.join(layers)}: {reason}")
        for part in fold(named.split(" "), width - 2, indent="  "):
            yield Text("  " + part)


def _sorted(rows: Sequence[Row], sort: str) -> list[Row]:
    if sort == "layer":
        return list(rows)
    if sort == "role":
        return sorted(rows, key=_by_role)
    return sorted(rows, key=lambda row: -math.inf if row[sort] is None else row[sort], reverse=True)


def _by_role(row: Row) -> tuple[int, float]:
    """The roles as `ROLES` has them, the most decided head first."""
    return ROLE_RANK.get(row["role"], len(ROLE_RANK)), -(_deciding(row) or 0.0)


def _deciding(row: Row) -> float | None:
    """The number that gave the head its role."""
    number: float | None = row.get(DECIDED_BY.get(row["role"], ""))
    return number


def _shortened(names: Sequence[str]) -> tuple[str, list[str]]:
    """What the names have in common, with * for the rest, and that rest of each.

    >>> _shortened(["h.0.attn", "h.11.attn"])
    ('h.*.attn', ['0', '11'])
    """
    if len(set(names)) < 2:
        return "", list(names)
    pieces = [re.split(r"(?<=\.)|(?=\.)", name) for name in names]
    front = _in_common(pieces)
    back = _in_common([piece[::-1] for piece in pieces])
    if min(map(len, names)) <= front + back or not front + back:
        return "", list(names)
    end = -back or None
    rest = [name[front:end] for name in names]
    return f"{names[0][:front]}*{names[0][end:] if end else ''}", rest


def _in_common(pieces: Sequence[Sequence[str]]) -> int:
    """How many characters the first pieces have that are the same in all."""
    same = takewhile(lambda parts: len(set(parts)) == 1, zip(*pieces, strict=False))
    return sum(len(parts[0]) for parts in same)


def _number_column(name: str, rows: Sequence[Row], word: Words) -> Column:
    deciding = [DECIDED_BY.get(row["role"]) == name for row in rows]
    return number_column(name, [row[name] for row in rows], word, deciding)


def number_column(
    name: str, numbers: Sequence[float | None], word: Words, bold: Sequence[bool] = ()
) -> Column:
    """A column of a statistic, known or somebody's own; None where a row has no number."""
    styles = [_style(name, number) for number in numbers]
    if bold:
        strong = zip(styles, bold, strict=True)
        styles = [style + HEADING if deciding else style for style, deciding in strong]
    known = f"number.{name}"
    title = word(known) if known in word else visible(name)
    return Column(title, [_written(number, word) for number in numbers], styles)


def _style(name: str, number: float | None) -> Style:
    if number is None or name not in SHARES:
        return Style.null()
    return heat(number, 1.0)


def _written(number: float | None, word: Words) -> str:
    if number is None:
        return "–"
    if not math.isfinite(number):
        return "NaN" if math.isnan(number) else "∞"
    return word.number(f"{number:.2f}" if abs(number) < 100 else f"{number:.0f}")


def _role(row: Row, word: Words) -> str:
    name = str(row["role"]).replace(" ", "_")
    return word(f"role.{name}")


def _change_of_role(before: str, after: str) -> str:
    return before if before == after else f"{before} → {after}"


def _tally(rows: Sequence[Row], word: Words) -> Iterator[str]:
    """How many heads have which role, the most frequent first, those without one at the end."""
    counts = Counter(str(row["role"]) for row in rows)
    ordered = sorted(counts, key=lambda role: (role == OTHER, -counts[role]))
    parts = [f"{_role({'role': role}, word)}\u00a0{counts[role]}" for role in ordered]
    yield f"{word('table.tally')}:"
    for at, part in enumerate(parts):
        text = part.replace(" ", "\u00a0")
        yield text.replace("\u00a0", " ") + (" ·" if at + 1 < len(parts) else "")


def table_lines(first: Sequence[Column], numbers: Sequence[Column], width: int) -> Iterator[Text]:
    """The first columns, and as many of the others, in their order, as the width has room for."""
    shown = list(numbers)
    while shown and _room(first, shown, 1) > width:
        shown.pop()
    gap = 2 if _room(first, shown, 2) <= width else 1
    columns = [*first, *shown]
    yield _joined([(column.title, HEADING) for column in columns], columns, gap)
    for at in range(len(first[0].cells)):
        cells = [
            (column.cells[at], column.styles[at] if column.styles else Style.null())
            for column in columns
        ]
        yield _joined(cells, columns, gap)


def _room(first: Sequence[Column], numbers: Sequence[Column], gap: int) -> int:
    columns = [*first, *numbers]
    return sum(column.width for column in columns) + gap * (len(columns) - 1)


def _joined(cells: Iterable[tuple[str, Style]], columns: Sequence[Column], gap: int) -> Text:
    line = Text()
    for at, ((text, style), column) in enumerate(zip(cells, columns, strict=True)):
        if at:
            line.append(" " * gap)
        line.append(pad(text, column.width, right=column.right), style=style)
    line.rstrip()
    return line


def _line(text: str, width: int, style: Style) -> Text:
    return Text(fit(text, width), style=style)


def _by_head(rows: Iterable[Row]) -> dict[tuple[str, int], dict[str, Row]]:
    heads: dict[tuple[str, int], dict[str, Row]] = {}
    for row in rows:
        if row["head"] is not None:
            heads.setdefault((row["layer"], row["head"]), {})[row["statistic"]] = row
    return heads


def _changed(statistics: Mapping[str, Row]) -> float:
    """How much a head changed: the largest mean change of a share of its weight, or of all."""
    shares = [statistics[name]["mean"] for name in CHANGES if name in statistics]
    others = [row["mean"] for row in statistics.values()]
    changes = [change for change in shares or others if math.isfinite(change)]
    return max(changes, default=0.0)


def _largest(rows: Sequence[Row], word: Words) -> Iterator[str]:
    """A sentence for each statistic: where its largest single change is."""
    most: dict[str, Row] = {}
    for row in rows:
        best = most.get(row["statistic"])
        if best is None or _size(row["max"]) > _size(best["max"]):
            most[row["statistic"]] = row
    for name, row in most.items():
        known = f"number.{name}"
        place = {"layer": visible(str(row["layer"])), "head": row["head"], "at": row["where"]}
        form = "diff.same" if not row["max"] else f"diff.at{'.head' * (row['head'] is not None)}"
        yield word(
            form, name=word(known) if known in word else name, **place, most=_long(row["max"], word)
        )


def _size(number: float) -> float:
    return math.inf if math.isnan(number) else number


def _long(number: float, word: Words) -> str:
    if not math.isfinite(number):
        return "NaN" if math.isnan(number) else "∞"
    small = 0 < abs(number) < 1e-3
    return word.number(f"{number:.1e}" if small else f"{number:.4g}")
