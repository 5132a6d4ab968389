"""A survey through the doors: its numbers as JSON, its heads in the terminal."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from atento._arrays import to_numpy
from atento._errors import InputError
from atento.views.json_export import NOTES, plain
from atento.views.words import choose_language, words
from atento.views.write_file import check_writable, write_file

if TYPE_CHECKING:
    from typing import TypeGuard

    from rich.console import Console

    from atento.statistics import Survey

__all__ = ["is_survey", "save_survey", "show_survey", "survey_json"]


def is_survey(record: object) -> "TypeGuard[Survey]":
    """Asked without loading the room of statistics for other records."""
    room = sys.modules.get("atento.statistics.survey")
    return room is not None and isinstance(record, room.Survey)


def show_survey(
    survey: "Survey", lang: str | None = None, console: "Console | None" = None
) -> None:
    """Print a row for each head, with the means of its statistics."""
    from rich.console import Console

    from atento.views.terminal_survey import survey_lines

    console, word = console or Console(), words(choose_language(lang))
    for line in survey_lines(survey, console.width, word):
        console.print(line, soft_wrap=True)


def save_survey(survey: "Survey", target: Path, lang: str | None, options: dict[str, Any]) -> None:
    """Write the numbers (.json).

    Raises:
        InputError: for an option (there are none), another ending, or a place that cannot be
            written.
    """
    word = words(choose_language(lang))
    if options:
        raise InputError(f"{', '.join(options)}: is for other records; got a survey.")
    if target.suffix.lower() != ".json":
        raise InputError(
            f"a survey is written as .json, or drawn as .svg, .png or .pdf. Got {target.name}: a "
            "page (.html) needs queries and keys; atento.save(atento.trace(...), path) has them."
        )
    check_writable(target, word)
    write_file(target, survey_json(survey) + "\n", word)


def survey_json(survey: "Survey") -> str:
    """Write log-sum-exp and statistics, with the names of their axes, as strictly valid JSON.

    −inf is ``null``, NaN and +inf are the texts ``"NaN"`` and ``"Infinity"``: ``notes`` says so.
    """
    results = {"lse": (_axes_of_lse(survey.lse.ndim), survey.lse)}
    results |= {name: (survey.axes[name], survey[name]) for name in survey}
    return json.dumps(
        {
            "format": "atento.survey/1",
            "notes": NOTES,
            "statistics": {
                name: {"axes": list(axes), "value": plain(_listed(value))}
                for name, (axes, value) in results.items()
            },
        },
        allow_nan=False,
    )


def _axes_of_lse(count: int) -> tuple[str, ...]:
    batches = ("batch",) if count == 3 else tuple(f"batch{i}" for i in range(count - 2))
    return (*batches, "head", "query")[-count:]


def _listed(value: Any) -> Any:
    array = to_numpy(value)
    return (array.astype(np.float64) if array.dtype.kind == "f" else array).tolist()
