"""Opens a file of the user: is it there, is it a file, is it text?"""

import json
from pathlib import Path
from typing import Any

from atento.views.words import Words, mistake

__all__ = ["check_file", "read_text", "shortened"]

LARGEST = 2**30  # bytes: 1 GiB, far beyond what can be explained step by step


def check_file(path: Path, word: Words) -> None:
    """Raises InputError unless ``path`` is a file that can be opened, with something in it."""
    problem: str | None = None
    try:
        size = path.stat().st_size
        if path.is_dir():
            problem = "folder"
        elif not path.is_file():
            problem = "not_regular"
        elif size == 0:
            problem = "empty_file"
        elif size > LARGEST:
            raise mistake(word, "large_file", path=path, size=f"{size:,}", most=f"{LARGEST:,}")
        else:
            path.open("rb").close()
    except FileNotFoundError:
        problem = "missing_file"
    except PermissionError:
        problem = "no_permission"
    except OSError as error:
        raise mistake(word, "unreadable", path=path, why=error.strerror) from None
    except ValueError as error:  # a NUL in the name; our own errors are ValueErrors, too
        if "\0" not in str(path):
            raise
        raise mistake(word, "bad_name", path=path, why=error) from None
    if problem is not None:
        raise mistake(word, problem, path=path)


def read_text(path: Path, word: Words) -> str:
    """The file's text, UTF-8 with or without a byte order mark."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise mistake(word, "not_utf8", path=path, byte=error.start + 1) from None


def shortened(content: Any) -> str:
    """What came, as JSON, in at most 40 characters."""
    text = json.dumps(content, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:39]}…"
