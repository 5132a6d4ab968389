"""Pairs of key and value from a table: .csv, .tsv, .jsonl, or .parquet; a bad line is named."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from atento._errors import InputError
from atento._optional import require
from atento.retrieval.text_files import check_path, read_utf8

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = ["ENDINGS", "Table", "read_table"]

ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
LONGEST_FIELD = 2**31 - 1  # Python's own limit, 128 KiB, is too short for a page of text


@dataclass(frozen=True)
class Table:
    """Pairs, in the order of the file.

    Attributes:
        keys: texts, each once.
        values: numbers if all are, else text or what JSON holds; None for each where the table
            has one column alone.
        lines: where each pair stands in the file, from 1; rows, for .parquet.
        names: of the key's and the value's column; the second may be None.
        numbers: whether the values have a mean.
    """

    keys: list[str]
    values: list[Any]
    lines: list[int]
    names: tuple[str, str | None]
    numbers: bool


@dataclass(frozen=True)
class _Row:
    line: int
    cells: Sequence[Any]


def read_table(path: Path, *, key: str | None = None, value: str | None = None) -> Table:
    """The pairs in a file; its first row, or its first object, names the columns.

    Args:
        path: .csv (commas, semicolons or tabs), .tsv, .jsonl (one object on each line) or
            .parquet (with pyarrow), all UTF-8.
        key: the column of keys; None: the first one.
        value: the column of values; None: the second one, where there is one.

    Raises:
        InputError: no such file or column, ragged rows, no rows, an empty key, or one key with
            two values; says which line.
        MissingLibraryError: for .parquet, when pyarrow is not installed.
    """
    check_path(path)
    ending = path.suffix.lower()
    if ending not in _READERS:
        raise InputError(
            f"{path}: tables are read from {', '.join(ENDINGS)}. Got {ending or 'no ending'}.",
            name="table_ending",
            path=path,
            known=", ".join(ENDINGS),
        )
    if path.is_file() and not path.stat().st_size:
        raise InputError(
            f"{path} is empty (0 bytes). Was it saved completely?", name="empty_file", path=path
        )
    names, rows = _READERS[ending](path)
    at_key = _column(path, names, key, 0)
    at_value = _column(path, names, value, 1) if value or len(names) > 1 else None
    if at_value == at_key and value is None:  # the key is the second column, so the first is left
        at_value = 0
    if not rows:
        raise InputError(
            f"{path} has columns ({', '.join(names)}) and no rows. Write one for each key.",
            name="table_no_rows",
            path=path,
            columns=", ".join(names),
        )
    keys = [_key(path, names[at_key], row.line, row.cells[at_key]) for row in rows]
    cells = [None if at_value is None else row.cells[at_value] for row in rows]
    values = _numbers(cells)
    pairs = _once(path, keys, cells if values is None else values, [row.line for row in rows])
    name = None if at_value is None else names[at_value]
    return Table(*pairs, (names[at_key], name), values is not None)


def _csv(path: Path, delimiter: str | None = None) -> tuple[list[str], list[_Row]]:
    text = read_utf8(path)
    if delimiter is None:
        first = text.lstrip("\r\n").partition("\n")[0]
        delimiter = max(",;\t", key=first.count)
    rows: list[_Row] = []
    with _long_fields():
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        line = 1
        try:
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    rows.append(_Row(line, cells))
                line = reader.line_num + 1
        except csv.Error as error:
            raise InputError(
                f"{path}, line {line}: not readable as a table ({error}). Is a quote left open?",
                name="table_syntax",
                path=path,
                line=line,
                why=error,
            ) from None
    if not rows:
        raise InputError(
            f"{path} holds nothing but blank lines. Write a row of column names and one for each "
            "key.",
            name="table_blank",
            path=path,
        )
    names = [name.strip() for name in rows[0].cells]
    for row in rows[1:]:
        if len(row.cells) != len(names):
            raise InputError(
                f"{path}, line {row.line}: {len(row.cells)} fields, and the first row has "
                f"{len(names)}. Every row must have as many; put quotes around a field that holds "
                f"{delimiter!r}.",
                name="table_width",
                path=path,
                line=row.line,
                came=len(row.cells),
                expected=len(names),
                sign=repr(delimiter),
            )
    return names, rows[1:]


def _tsv(path: Path) -> tuple[list[str], list[_Row]]:
    return _csv(path, "\t")


def _jsonl(path: Path) -> tuple[list[str], list[_Row]]:
    names: list[str] = []
    rows = []
    for number, line in enumerate(read_utf8(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise _no_object(path, number, getattr(error, "msg", None) or "too deep") from None
        if not isinstance(found, dict) or not found:
            raise _no_object(path, number, "an object is expected")
        names = names or list(found)
        missing = [name for name in names[:2] if name not in found]
        if missing:
            raise _no_object(path, number, f"{missing[0]!r} is missing")
        rows.append((number, found))
    if not rows:
        raise InputError(
            f"{path} holds nothing but blank lines. Write one object on each line.",
            name="table_blank",
            path=path,
        )
    return names, [_Row(number, [found.get(name) for name in names]) for number, found in rows]


def _parquet(path: Path) -> tuple[list[str], list[_Row]]:
    parquet = require("pyarrow", "to read .parquet files") and require(
        "pyarrow.parquet", "to read .parquet files"
    )
    try:
        table = parquet.read_table(path)
        names = [str(name) for name in table.column_names]
        columns = [column.to_pylist() for column in table.columns]
    except Exception as error:  # pyarrow's many kinds
        why = str(error).strip().partition("\n")[0].rstrip(".")
        raise InputError(
            f"{path} can't be read as parquet: {why}.", name="unreadable", path=path, why=why
        ) from None
    rows = [_Row(at, cells) for at, cells in enumerate(zip(*columns, strict=True), start=1)]
    return names, rows


_READERS = {".csv": _csv, ".tsv": _tsv, ".jsonl": _jsonl, ".parquet": _parquet}


def _column(path: Path, names: list[str], asked: str | None, usual: int) -> int:
    if asked is None:
        return usual
    if names.count(asked) == 1:
        return names.index(asked)
    columns = ", ".join(repr(name) for name in names)
    often = "no" if asked not in names else "more than one"
    raise InputError(
        f"{path} has {often} column {asked!r}. Its columns are {columns}.",
        name="table_column" if asked not in names else "table_column_twice",
        path=path,
        column=repr(asked),
        columns=columns,
    )


def _key(path: Path, column: str, line: int, cell: Any) -> str:
    text = cell if isinstance(cell, str) else "" if cell is None else str(cell)
    if not text.strip():
        raise InputError(
            f"{path}, line {line}: the key (column {column!r}) is empty. Fill it in, or take the "
            "row out.",
            name="table_key",
            path=path,
            line=line,
            column=repr(column),
        )
    return text


def _numbers(cells: list[Any]) -> list[float | int] | None:
    """The cells as numbers, if all of them are."""
    numbers: list[float | int] = []
    for cell in cells:
        number = cell
        if isinstance(cell, str) and NUMBER.fullmatch(cell.strip()):
            text = cell.strip()
            number = int(text) if text.lstrip("+-").isdigit() and len(text) < 16 else float(text)
        plain = isinstance(number, int | float) and not isinstance(number, bool)
        if not plain or not math.isfinite(number):
            return None
        numbers.append(number)
    return numbers


def _once(
    path: Path, keys: list[str], values: list[Any], lines: list[int]
) -> tuple[list[str], list[Any], list[int]]:
    """Each key once: a row that says the same again adds nothing."""
    place: dict[str, int] = {}
    for at, key in enumerate(keys):
        first = place.setdefault(key, at)
        if values[first] != values[at]:
            shown = key if len(key) <= 40 else f"{key[:39]}…"
            raise InputError(
                f"{path}, line {lines[at]}: the key {shown!r} is there already, in line "
                f"{lines[first]}, with another value. Keep one of the two.",
                name="table_twice",
                path=path,
                line=lines[at],
                key=repr(shown),
                first=lines[first],
            )
    kept = place.values()
    return list(place), [values[at] for at in kept], [lines[at] for at in kept]


def _no_object(path: Path, line: int, why: str) -> InputError:
    return InputError(
        f'{path}, line {line}: {why}. Write one object on each line, as {{"key": "méxico", '
        '"value": 7}.',
        name="table_object",
        path=path,
        line=line,
        why=why,
    )


@contextmanager
def _long_fields() -> Iterator[None]:
    """Fields of any length; the limit is the whole program's, so it is put back."""
    before = csv.field_size_limit(LONGEST_FIELD)
    try:
        yield
    finally:
        csv.field_size_limit(before)
