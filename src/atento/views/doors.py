"""show and save: the two doors through which every record becomes a picture."""

from pathlib import Path
from typing import TYPE_CHECKING

from atento._errors import DTypeError, InputError
from atento.records import Explanation, Trace

if TYPE_CHECKING:
    from os import PathLike

__all__ = ["save", "show"]


def show(record: Explanation | Trace, *, lang: str | None = None) -> None:
    """Print a record: tokens, every step as a heat-coloured table, one cell worked out.

    Args:
        record: what `atento.explain` or `atento.trace` returned.
        lang: "en" or "es"; by default from the locale.

    >>> import numpy as np, atento
    >>> atento.show(atento.trace(np.eye(2), np.eye(2), np.eye(2)), lang="en")  # doctest: +ELLIPSIS
    Attention...
    """
    from rich.console import Console

    from atento.views.terminal import render_terminal
    from atento.views.words import choose_language

    render_terminal(_explanation(record), lang=choose_language(lang), console=Console())


def save(
    record: Explanation | Trace, path: "str | PathLike[str]", *, lang: str | None = None
) -> None:
    """Write a record to a file: a self-contained page (.html) or its numbers (.json).

    The file is written aside and renamed into place: on any failure the old one stays.

    Args:
        record: what `atento.explain` or `atento.trace` returned.
        path: where to; the ending says what.
        lang: the page's first language, "en" or "es"; by default from the locale.

    Raises:
        InputError: for another ending, or a place that cannot be written.
    """
    from atento.views.words import choose_language, words
    from atento.views.write_file import check_writable, write_file

    explanation = _explanation(record)
    word = words(choose_language(lang))
    target = Path(path)
    ending = target.suffix.lower()
    if ending not in (".html", ".json"):
        raise InputError(
            f"save writes .html and .json; got {target.name!r}. (.svg, .png and .pdf are not "
            "there yet.)"
        )
    check_writable(target, word)
    if ending == ".json":
        from atento.views.json_export import to_json

        content = to_json(explanation) + "\n"
    else:
        from atento.views.page import render_page

        content = render_page(explanation, lang=word.lang)
    write_file(target, content, word)


def _explanation(record: object) -> Explanation:
    if isinstance(record, Explanation):
        return record
    if not isinstance(record, Trace):
        raise DTypeError(
            "show and save take what atento.explain or atento.trace returned; got "
            f"{type(record).__name__}."
        )
    from atento.explanation import explanation_of

    return explanation_of(record)
