"""A matrix in the terminal: labelled rows and columns, heat behind the numbers, cut to fit."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len
from rich.style import Style
from rich.text import Text

from atento.views.terminal_heat import heat
from atento.views.terminal_numbers import number_format
from atento.views.terminal_text import fit, fold, named, pad
from atento.views.words import Words

__all__ = ["Matrix", "matrix_lines", "row_label"]

LABEL_CELLS = 13  # of a row's label
NAME_CELLS = 7  # of a column's, where there is room
INDENT = "  "


class Matrix:
    """What one step shows: numbers, names of rows and columns, and what must be in sight.

    Attributes:
        values: (row, column).
        rows, columns: their names; columns None for features, which are numbered from 0.
        row, column: a position that is shown even when the rest is cut.
        closed: (row, column), True where a token may not look: a dot instead of a number.
        shares: the numbers are shares of 1, told apart by their square roots.
    """

    def __init__(
        self,
        values: NDArray[np.floating],
        rows: Sequence[str],
        columns: Sequence[str] | None,
        *,
        row: int | None = None,
        column: int | None = None,
        closed: NDArray[np.bool_] | None = None,
        shares: bool = False,
    ) -> None:
        self.values = values
        self.rows = rows
        self.columns = columns
        self.row = row
        self.column = column
        self.closed = closed
        self.shares = shares


def row_label(position: int, name: str, cells: int = LABEL_CELLS) -> str:
    """``1 Your``: the position, counted from 1, and the name; one of them where they agree."""
    number = str(position + 1)
    return number if name == number else fit(f"{number} {named(name)}", cells)


def matrix_lines(matrix: Matrix, width: int, most_rows: int, word: Words) -> Iterator[Text]:
    """The lines of a matrix, none of them wider than ``width``, and a note on what is cut."""
    count_rows, count_columns = matrix.values.shape
    rows = _shown(count_rows, most_rows, matrix.row)
    labels = {at: row_label(at, matrix.rows[at]) for at in rows if at is not None}
    label_cells = max(cell_len(label) for label in labels.values())
    room = width - len(INDENT) - label_cells

    shown = matrix.values[list(labels)]
    write, widest = number_format(shown, count_columns, room, word)
    names = _column_names(matrix)
    cells = max(widest, len(str(count_columns)) if matrix.columns is None else 3)
    wish = max(cells, min(NAME_CELLS, max(cell_len(fit(name, NAME_CELLS)) for name in names)))
    if count_columns * (wish + 1) <= room:
        cells = wish
    columns = _shown(count_columns, max(1, room // (cells + 1)), matrix.column)
    if None in columns:  # the sign of the gap takes room, too
        columns = _shown(count_columns, max(1, (room - 2) // (cells + 1)), matrix.column)

    head = Text(INDENT + " " * label_cells, style="dim")
    for column in columns:
        head.append(
            " " + ("…" if column is None else pad(fit(names[column], cells), cells, right=True))
        )
    yield head

    finite = np.abs(matrix.values[np.isfinite(matrix.values)])
    largest = float(finite.max()) if finite.size else 0.0
    for row in rows:
        if row is None:
            yield Text(INDENT + "⋮", style="dim")
            continue
        line = Text(INDENT + pad(labels[row], label_cells))
        for column in columns:
            if column is None:
                line.append(" …", style="dim")
                continue
            line.append(" ")
            if matrix.closed is not None and matrix.closed[row, column]:
                line.append(pad("·", cells, right=True), style="dim")
                continue
            value = float(matrix.values[row, column])
            style = heat(value, largest, root=matrix.shares)
            if (row, column) == (matrix.row, matrix.column):
                style += Style(bold=True, underline=True)
            line.append(pad(write(value), cells, right=True), style=style)
        yield line

    note = _cut_note(matrix, len(labels), sum(at is not None for at in columns), word)
    for part in fold(note.split(), width - len(INDENT), indent=INDENT):
        yield Text(INDENT + part, style="dim")


def _column_names(matrix: Matrix) -> list[str]:
    if matrix.columns is None:
        return [str(number) for number in range(matrix.values.shape[1])]
    return [named(name) for name in matrix.columns]


def _shown(count: int, most: int, wanted: int | None) -> list[int | None]:
    """Positions to show: the first ones and the wanted one; None marks a gap between them."""
    if count <= most:
        return list(range(count))
    if wanted is None or wanted < most:
        return list(range(most))
    shown: list[int | None] = list(range(most - 1))
    if wanted > most - 1:
        shown.append(None)
    return [*shown, wanted]


def _cut_note(matrix: Matrix, rows: int, columns: int, word: Words) -> str:
    more_rows = matrix.values.shape[0] - rows
    more_columns = matrix.values.shape[1] - columns
    parts = []
    if more_rows:
        parts.append(word.count("more_row", more_rows))
    if more_columns:
        kind = "more_feature" if matrix.columns is None else "more_column"
        parts.append(word.count(kind, more_columns))
    return word("cut", parts=word("and").join(parts)) if parts else ""
