"""show and save: the two doors through which every record becomes a picture."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atento._errors import DTypeError, InputError
from atento._optional import require
from atento.records import Explanation, Trace
from atento.views.survey_doors import is_survey

if TYPE_CHECKING:
    from os import PathLike
    from typing import TypeGuard

    from atento.lm.watching.watched import Watched
    from atento.retrieval.match import Match

__all__ = ["save", "show"]

FIGURES = (".svg", ".png", ".pdf")


def show(record: Any, *, lang: str | None = None, **options: Any) -> None:
    """Print a record; in a notebook, display its page, which can be explored there.

    A terminal gets tokens, every step as a heat-coloured table and one cell worked out; of a
    recording, the heads with their roles; of a match, the keys with bars for their weights. A
    notebook gets a bundle of kinds, of which Jupyter, VS Code, Colab and marimo each take what they
    can show: the page, a still picture where it may not run (with matplotlib), or the terminal's
    table. From 10 MB on the output says its size; a page of more than 64 MB is left to `save`.

    Args:
        record: what `atento.explain`, `atento.trace` or `SoftDict.attend` returned, or a
            recording, or what `atento.lm.load_watch` or `atento.survey` returned.
        lang: "en" or "es"; by default from the locale.
        **options: of a recording's page in a notebook: ``batch``, ``layers``, ``heads`` and
            ``other``, as `save` has them; a terminal lists all heads. Of a match: ``steps=True``
            for every step in the terminal, too.

    Raises:
        DTypeError: for what is no such record.
        InputError: for an option that the page has not.

    >>> import numpy as np, atento
    >>> atento.show(atento.trace(np.eye(2), np.eye(2), np.eye(2)), lang="en")  # doctest: +ELLIPSIS
    Attention...
    """
    from atento.views.notebook import in_notebook, show_in_notebook

    steps = is_match(record) and options.pop("steps", False)
    if in_notebook():
        show_in_notebook(record, lang=lang, **options)
        return
    if _is_recording(record):
        from atento.views.recording_doors import show_recording

        show_recording(record, lang)
        return
    if options:
        raise InputError(f"{', '.join(options)}: is for a recording; got another record.")
    if is_watched(record):
        from atento.views.watch_doors import show_watched

        show_watched(record, lang)
        return
    if is_survey(record):
        from atento.views.survey_doors import show_survey

        show_survey(record, lang)
        return
    from rich.console import Console

    from atento.views.words import choose_language

    if is_match(record) and not steps:
        from atento.views.terminal_match import render_match

        render_match(record, lang=choose_language(lang), console=Console())
        return
    from atento.views.terminal import render_terminal

    render_terminal(_explanation(record), lang=choose_language(lang), console=Console())


def save(
    record: Any, path: "str | PathLike[str]", *, lang: str | None = None, **options: Any
) -> None:
    """Write a record to a file: a self-contained page (.html), its numbers (.json) or a figure.

    Figures (.svg, .png, .pdf) are those of `atento.plot`, of the same records and with the same
    options: ``atento.save(record, "heads.svg", kind="grid", width="text")``. Text in them is text,
    and the same record makes the same bytes.

    The file is written aside and renamed into place: on any failure the old one stays.

    Args:
        record: what `atento.explain`, `atento.trace` or `SoftDict.attend` returned (a match's page
            are its steps, its .json the ranked keys), a recording, or what `atento.lm.load_watch`
            returned; for a figure also a layer of a recording; for a figure or .json also what
            `atento.survey` returned.
        path: where to; the ending says what.
        lang: the language of a figure, or the page's first, "en" or "es"; by default from the
            locale.
        **options: of a recording's page: ``batch``, ``layers``, ``heads`` and ``other``, a second
            recording to compare with; of a figure: ``kind``, ``layer``, ``head``, ``width``, ...
            as `atento.plot` has them.

    Raises:
        InputError: for another ending, a place that cannot be written, or what `atento.plot`
            refuses.
        MissingLibraryError: for a figure, when matplotlib is not installed.

    >>> import pathlib, tempfile, numpy as np, atento
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "steps.html"
    ...     atento.save(atento.trace(np.eye(2), np.eye(2), np.eye(2)), path, lang="en")
    ...     path.read_text("utf-8")[:15]
    '<!doctype html>'
    """
    target = _target(path)
    ending = target.suffix.lower()
    _check_ending(record, target, lang)
    if ending in FIGURES:
        _save_figure(record, target, lang, options)
        return
    if _is_recording(record):
        from atento.views.recording_doors import save_recording_page

        save_recording_page(record, target, lang, options)
        return
    if is_watched(record):
        from atento.views.watch_doors import save_watched

        save_watched(record, target, lang, options)
        return
    if is_survey(record):
        from atento.views.survey_doors import save_survey

        save_survey(record, target, lang, options)
        return
    if options:
        raise InputError(
            f"{', '.join(f'{name}=' for name in options)} is for figures: {', '.join(FIGURES)}. "
            f"Got the file {target.name!r}."
        )
    from atento.views.words import choose_language, words
    from atento.views.write_file import check_writable, write_file

    explanation = _explanation(record)
    word = words(choose_language(lang))
    check_writable(target, word)
    if ending == ".json":
        content = _as_json(record, explanation) + "\n"
    else:
        from atento.views.page import render_page

        content = render_page(explanation, lang=word.lang)
    write_file(target, content, word)


def _target(path: Any) -> Path:
    try:
        return Path(path)
    except TypeError:
        raise DTypeError(
            f"save needs the path of a file, as in 'page.html'; got {type(path).__name__}."
        ) from None


def check_figures() -> None:
    """See that figures can be drawn, before the work whose picture they are.

    Raises:
        MissingLibraryError: when matplotlib is not installed.
    """
    require("matplotlib", "to draw figures")


def _check_ending(record: Any, target: Path, lang: str | None) -> None:
    from atento.views.words import choose_language, mistake, words

    if target.suffix.lower() in (".html", ".json", *FIGURES):
        return
    stored = _is_recording(record) and target.suffix.lower() == ".safetensors"
    name = "save_recording" if stored else "save_ending"
    raise mistake(words(choose_language(lang)), name, path=target.name)


def _save_figure(record: Any, target: Path, lang: str | None, options: dict[str, Any]) -> None:
    from atento.views.figures.drawing import plot
    from atento.views.figures.rendering import render_figure
    from atento.views.words import choose_language, words
    from atento.views.write_file import check_writable, write_file

    if "ax" in options:
        raise InputError("save makes a figure of its own: draw into ax with atento.plot.")
    word = words(choose_language(lang))
    check_writable(target, word)
    axes = plot(record, lang=word.lang, **options)
    write_file(target, render_figure(axes, target.suffix.lower()), word)


def _is_recording(record: object) -> bool:
    """Asked without loading the room of recordings for other records."""
    room = sys.modules.get("atento.reading.recording")
    return room is not None and isinstance(record, room.Recording)


def is_match(record: object) -> "TypeGuard[Match]":
    """Asked without loading the room of dictionaries that attend for other records."""
    room = sys.modules.get("atento.retrieval.match")
    return room is not None and isinstance(record, room.Match)


def is_watched(record: object) -> "TypeGuard[Watched]":
    """Asked without loading the room of language models for other records."""
    room = sys.modules.get("atento.lm.watching.watched")
    return room is not None and isinstance(record, room.Watched)


def _as_json(record: object, explanation: Explanation) -> str:
    if is_match(record):
        from atento.views.match_json import match_json

        return match_json(record)
    from atento.views.json_export import to_json

    return to_json(explanation)


def _explanation(record: object) -> Explanation:
    if isinstance(record, Explanation):
        return record
    if is_match(record):
        from atento.explanation.of_match import explanation_of_match

        return explanation_of_match(record)
    if not isinstance(record, Trace):
        raise DTypeError(
            "show and save take a recording, what load_watch or survey returned, a match, or what "
            f"atento.explain or atento.trace returned; got {type(record).__name__}."
        )
    from atento.explanation import explanation_of

    return explanation_of(record)
