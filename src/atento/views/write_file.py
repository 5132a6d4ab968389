"""Whether a file can be written, and writing it whole or not at all, with errors in words."""

import os
import tempfile
from pathlib import Path

from atento._files import write_whole
from atento.views.words import Words, mistake, words

__all__ = ["check_writable", "is_our_page", "write_file"]

# What our pages carry: the mark in their head, or the format of the data inside them.
MARKS = (b'<meta name="generator" content="atento', b'"format":"atento.page/')


def check_writable(path: Path, word: Words | None = None) -> None:
    """Raises before any work is done if ``path`` could not be written afterwards.

    Raises:
        InputError: no such folder, a folder in the file's place, or no permission.
    """
    word = word or words("en")
    why: str | None = None
    try:
        target = path.resolve()  # a link's target is replaced, not the link
        folder = target.parent
        if target.is_dir():
            why = word("error.write.folder")
        elif target.exists() and not target.is_file():
            why = word("error.write.not_regular")
        elif not folder.exists():
            why = word("error.write.no_folder", folder=folder)
        elif not folder.is_dir():
            why = word("error.write.not_folder", folder=folder)
        else:
            # permissions, read-only disks and full ones say so only when asked for a real file
            handle, aside = tempfile.mkstemp(prefix=".atento-", dir=folder)
            os.close(handle)
            Path(aside).unlink()
    except OSError as error:
        why = error.strerror
    except (ValueError, RuntimeError) as error:  # a NUL in the name; links in a circle
        why = word("error.write.bad_name", why=error)
    if why is not None:
        raise mistake(word, "write", path=path, why=why)


def write_file(path: Path, content: str | bytes, word: Words | None = None) -> None:
    """Writes bytes, or text as UTF-8; on any failure the old file stays and nothing else is left.

    Raises:
        InputError: the system refused; says what it said.
    """
    try:
        write_whole(path, [content.encode("utf-8") if isinstance(content, str) else content])
    except OSError as error:
        raise mistake(word or words("en"), "write", path=path, why=error.strerror) from None


def is_our_page(path: Path) -> bool:
    """Whether the file is a page that atento wrote."""
    try:
        content = path.read_bytes()
    except OSError:
        return False
    return any(mark in content for mark in MARKS)
