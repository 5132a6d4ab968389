"""Text files cut into passages: paragraphs of at most about 500 characters, with file and line."""

from __future__ import annotations

import os
import re
from bisect import bisect_right
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from unicodedata import combining

from atento._errors import InputError
from atento.retrieval.text_files import check_path, read_utf8

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ENDINGS", "LONGEST", "Passage", "passages_of", "read_passages"]

ENDINGS = (".txt", ".md", ".markdown", ".rst", ".org")
LONGEST = 500
"""Characters: what the embedded model reads of a text is about as long."""

HEADING = 60
"""A paragraph of fewer characters that ends no sentence stands with the next one."""

SENTENCE = re.compile(r"[.!?…。！？][\"'”’»)\]]*(?= )")
ENDS = re.compile(r"[.!?…。！？:;][\"'”’»)\]]*$")


class Passage(NamedTuple):
    """A piece of a text: one line, its blanks made single; and where it begins."""

    text: str
    file: str
    line: int


def read_passages(path: Path) -> list[Passage]:
    """The passages of a text file, or of all text files in a folder and the folders in it.

    Args:
        path: a file that ends in .txt, .md, .markdown, .rst or .org, or a folder. Names that
            begin with a dot are left out. Links to folders are not followed.

    Raises:
        InputError: nothing is there, no text is in it, or a file is not UTF-8; says which byte.
    """
    check_path(path)
    files = list(_files(path)) if path.is_dir() else [path]
    if path.is_file() and path.suffix.lower() not in ENDINGS:
        raise InputError(
            f"{path}: texts are read from {', '.join(ENDINGS)}. Rename it, or name a folder.",
            name="text_ending",
            path=path,
            known=", ".join(ENDINGS),
        )
    base = path if path.is_dir() else path.parent
    found = [
        passage
        for file in files
        for passage in passages_of(read_utf8(file), str(file.relative_to(base)))
    ]
    if not found:
        raise InputError(
            f"{path} holds no text: expected files that end in {', '.join(ENDINGS)}, with words "
            "in them.",
            name="no_texts",
            path=path,
            known=", ".join(ENDINGS),
        )
    return found


def passages_of(text: str, file: str = "") -> list[Passage]:
    r"""The passages of one text.

    Paragraphs are what blank lines part. A long one is cut between sentences, else between words;
    a heading stands with what follows it.

    >>> passages_of("# Perros\n\nEl perro ladra.\n\nEl gato no.")
    [Passage(text='# Perros El perro ladra.', file='', line=1),
     Passage(text='El gato no.', file='', line=5)]
    """
    found: list[Passage] = []
    heading: _Paragraph | None = None
    for paragraph in _paragraphs(text):
        whole = paragraph if heading is None else heading.followed_by(paragraph)
        heading = None
        short = len(paragraph.text) <= HEADING and len(whole.text) <= LONGEST
        if short and not ENDS.search(paragraph.text):
            heading = whole
        else:
            found += (Passage(piece, file, line) for piece, line in whole.pieces())
    if heading is not None:
        found.append(Passage(heading.text, file, heading.lines[0]))
    return found


class _Paragraph(NamedTuple):
    """Lines joined to one: where each begins in it, and its number in the file."""

    text: str
    starts: list[int]
    lines: list[int]

    def followed_by(self, other: _Paragraph) -> _Paragraph:
        """Both as one."""
        shift = len(self.text) + 1
        starts = self.starts + [start + shift for start in other.starts]
        return _Paragraph(f"{self.text} {other.text}", starts, self.lines + other.lines)

    def pieces(self) -> Iterator[tuple[str, int]]:
        """At most `LONGEST` characters each, and the line in which each begins."""
        start = 0
        while start < len(self.text):
            stop = start + _cut(self.text[start : start + LONGEST + 1])
            yield self.text[start:stop], self.lines[bisect_right(self.starts, start) - 1]
            start = stop + (self.text[stop : stop + 1] == " ")


def _files(folder: Path) -> Iterator[Path]:
    """The text files in a folder, in the order of their names."""

    def told(error: OSError) -> None:
        raise InputError(
            f"{error.filename} can't be read: {error.strerror}.",
            name="unreadable",
            path=error.filename,
            why=error.strerror,
        )

    for place, folders, names in os.walk(folder, onerror=told):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            file = Path(place) / name
            if not name.startswith(".") and file.suffix.lower() in ENDINGS and file.is_file():
                yield file


def _paragraphs(text: str) -> Iterator[_Paragraph]:
    """What blank lines part, its blanks made single."""
    pieces: list[str] = []
    starts: list[int] = []
    lines: list[int] = []
    for number, line in enumerate([*text.split("\n"), ""], start=1):
        words = " ".join(line.split())
        if words:
            starts.append(starts[-1] + len(pieces[-1]) + 1 if starts else 0)
            pieces.append(words)
            lines.append(number)
        elif pieces:
            yield _Paragraph(" ".join(pieces), starts, lines)
            pieces, starts, lines = [], [], []


def _cut(window: str) -> int:
    """Where a text ends that is cut: behind a sentence, else a word, else anywhere."""
    if len(window) <= LONGEST:
        return len(window)
    sentences = [found.end() for found in SENTENCE.finditer(window)]
    if sentences:
        return sentences[-1]
    if (blank := window.rfind(" ")) > 0:
        return blank
    stop = LONGEST
    while stop > 1 and combining(window[stop]):  # a letter keeps its accents
        stop -= 1
    return stop
