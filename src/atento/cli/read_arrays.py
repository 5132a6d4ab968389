"""Reads arrays from .npy, .csv and .json, and names from a text file; a bad file says where."""

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atento.cli.read_json import read_json
from atento.cli.read_text import check_file, read_text, shortened
from atento.views.words import Words, mistake, words

__all__ = ["read_array", "read_names"]

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(nan|inf|infinity)", re.I | re.A)
DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+", re.A)


def read_array(path: Path, word: Words | None = None) -> NDArray[np.floating]:
    """The array in a file, by its ending: .npy, .csv or .json.

    NaN and infinity are numbers like any other: they are read, and shown.

    Args:
        path: the file.
        word: the language of the errors; None: English.

    Raises:
        InputError: the file can't be read as numbers; says which place and what to do.
    """
    word = word or words("en")
    readers = {".npy": _read_npy, ".csv": _read_csv, ".json": read_json}
    ending = path.suffix.lower()
    if ending not in readers and not path.is_dir():
        hint = f"error.extension{ending}"
        raise mistake(
            word,
            "extension",
            path=path,
            ending=ending or word("error.extension.none"),
            hint=word(hint) if ending and hint in word else "",
        )
    check_file(path, word)
    try:
        array: NDArray[np.floating] = readers[ending](path, word)
    except OSError as error:
        raise mistake(word, "unreadable", path=path, why=error.strerror) from None
    return array


def read_names(path: Path, word: Words | None = None) -> list[str]:
    """The lines of a UTF-8 text file, one name a line; blank lines at the end don't count."""
    word = word or words("en")
    check_file(path, word)
    lines = read_text(path, word).replace("\r\n", "\n").split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise mistake(word, "no_names", path=path)
    return lines


def _read_npy(path: Path, word: Words) -> NDArray[Any]:
    # The header is checked before anything is loaded: an array of Python objects is a pickle, and
    # unpickling runs whatever code the file holds.
    with path.open("rb") as file:
        start = file.read(1)
        file.seek(0)
        try:
            version = np.lib.format.read_magic(file)
            if version == (1, 0):
                shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            else:
                shape, _, dtype = np.lib.format.read_array_header_2_0(file)
        except (ValueError, EOFError, TypeError, SyntaxError, OverflowError):
            # every pickle since protocol 2 begins with this byte
            raise mistake(
                word, "npy_pickle" if start == b"\x80" else "npy_not", path=path
            ) from None
        there = path.stat().st_size - file.tell()
    if dtype.hasobject:
        raise mistake(word, "npy_pickle", path=path)
    if dtype.kind != "f":
        raise mistake(word, "npy_dtype", path=path, dtype=dtype)
    promised = dtype.itemsize
    for size in shape:
        promised *= size  # Python's integers: a forged header can't overflow
    if promised != there:
        counts = {"promised": f"{promised:,}", "there": f"{there:,}"}
        raise mistake(word, "npy_size", path=path, shape=shape, dtype=dtype, **counts)
    try:
        array: NDArray[Any] = np.load(path, allow_pickle=False)
    except (ValueError, EOFError):
        raise mistake(word, "npy_not", path=path) from None
    return array.astype(dtype.newbyteorder("="), copy=False)


def _read_csv(path: Path, word: Words) -> NDArray[np.float64]:
    """Rows of numbers between commas, semicolons, tabs or blanks.

    A first row without any number in it is a header; blank lines and lines that begin with ``#``
    (as np.savetxt writes) are skipped.
    """
    rows: list[list[float]] = []
    header: tuple[int, list[str]] | None = None
    delimiter: str | None = None
    for line, content in enumerate(read_text(path, word).split("\n"), start=1):
        if not content.strip() or content.startswith("#"):
            continue
        if not rows:
            # the first row of numbers decides, so that a header may hold other signs
            delimiter = next((sign for sign in "\t;," if sign in content), None)
        cells = [cell.strip().strip('"').strip() for cell in content.split(delimiter)]
        if not rows and header is None and not any(_is_number(cell) for cell in cells):
            header = (line, cells)
            continue
        numbers = [_number(path, word, (line, at), cell) for at, cell in enumerate(cells, start=1)]
        if rows and len(numbers) != len(rows[0]):
            raise mistake(
                word,
                "csv_width",
                path=path,
                line=line,
                came=word.count("error.numbers", len(numbers)),
                expected=len(rows[0]),
            )
        rows.append(numbers)
    if not rows and header is not None:
        _number(path, word, (header[0], 1), header[1][0])
    if not rows:
        raise mistake(word, "csv_empty", path=path)
    return np.array(rows, dtype=np.float64)


def _is_number(cell: str) -> bool:
    return bool(NUMBER.fullmatch(cell) or DECIMAL_COMMA.fullmatch(cell))


def _number(path: Path, word: Words, where: tuple[int, int], cell: str) -> float:
    if NUMBER.fullmatch(cell):
        return float(cell)
    place = {"path": path, "line": where[0], "column": where[1]}
    if not cell:
        raise mistake(word, "csv_cell_empty", **place)
    if DECIMAL_COMMA.fullmatch(cell):
        better = cell.replace(",", ".")
        raise mistake(word, "csv_comma", cell=cell, better=better, **place)
    raise mistake(word, "csv_text", cell=shortened(cell), **place)
