"""The corpus: texts out of a file, a folder, or lines of JSON."""

import json
from collections.abc import Iterator
from pathlib import Path

from atento._errors import InputError

__all__ = ["read_corpus"]

ENDINGS = (".txt", ".md")
LINES = (".jsonl", ".ndjson")


def read_corpus(path: str | Path) -> Iterator[str]:
    """The documents of a corpus, one after the other.

    Args:
        path: a text file, which is one document; a folder, whose .txt, .md and .jsonl files are
            read in the order of their names, folders within it too; or .jsonl, with a "text" in
            each line.

    Raises:
        InputError: no such file, nothing to read in it, not UTF-8 (where), or a line that is not
            of that form (which).
    """
    path = Path(path)
    files = list(_files(path))
    for file in files:
        yield from _lines(file) if file.suffix.lower() in LINES else [_text(file)]


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    if not path.is_dir():
        raise InputError(
            f"there is no corpus at {path}: give a text file, a folder or a .jsonl.",
            name="lm_corpus_missing",
            path=path,
        )
    wanted = (*ENDINGS, *LINES)
    found = [p for p in sorted(path.rglob("*")) if p.suffix.lower() in wanted and p.is_file()]
    if not found:
        raise InputError(
            f"{path} holds no corpus: files are read that end in {', '.join(wanted)}.",
            name="lm_corpus_endings",
            path=path,
            endings=", ".join(wanted),
        )
    yield from found


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{file} is not UTF-8: byte {error.start + 1} does not fit. Save it as UTF-8.",
            name="lm_not_utf8",
            path=file,
            byte=error.start + 1,
        ) from None
    except OSError as error:
        raise InputError(
            f"{file} cannot be read: {error.strerror}.",
            name="lm_unread",
            path=file,
            why=error.strerror,
        ) from None


def _lines(file: Path) -> Iterator[str]:
    for number, line in enumerate(_text(file).split("\n"), 1):
        if not line.strip():
            continue
        try:
            text = json.loads(line)["text"]
        except (ValueError, KeyError, TypeError, RecursionError):
            text = None
        if not isinstance(text, str):
            raise InputError(
                f'{file}, line {number}: each line must be a JSON object with a "text", as in '
                '{"text": "Once upon a time"}.',
                name="lm_corpus_line",
                path=file,
                line=number,
            )
        yield text
