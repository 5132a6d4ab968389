"""What the heads of a survey do, as a table for the terminal."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from rich.text import Text

from atento._arrays import to_numpy
from atento.statistics import Survey
from atento.views.terminal_heads import SHOWN, Column, number_column, table_lines
from atento.views.terminal_text import fold
from atento.views.words import Words

__all__ = ["survey_lines", "survey_rows"]


def survey_lines(survey: Survey, width: int, word: Words) -> Iterator[Text]:
    """A row for each head: the means of the statistics that have a number for each query.

    Args:
        survey: what `atento.survey` returned.
        width: columns of the terminal.
        word: the reader's language.
    """
    rows = survey_rows(survey)
    queries = survey.lse.shape[-1]
    counted = f"{word.count('heads', len(rows))}, {word.count('axis.query', queries)}"
    for sentence in (counted, word("survey.means")):
        yield from map(Text, fold(sentence.split(" "), width))
    yield Text()
    there = survey_names(survey)
    ordered = sorted(there, key=lambda name: SHOWN.index(name) if name in SHOWN else len(SHOWN))
    head = Column(word("table.head"), [str(row["head"]) for row in rows])
    numbers = [number_column(name, [row[name] for row in rows], word) for name in ordered]
    yield from table_lines([head], numbers, width)


def survey_rows(survey: Survey) -> list[dict[str, Any]]:
    """A row for each head: its number, and means over batch and the queries that see a key.

    A mean is None where no query of the head sees a key.
    """
    lse = _by_head(survey.lse)
    seen = lse != -np.inf
    means = {name: _means(_by_head(survey[name]), seen) for name in survey_names(survey)}
    return [
        {"head": head, **{name: mean[head] for name, mean in means.items()}}
        for head in range(len(lse))
    ]


def survey_names(survey: Survey) -> list[str]:
    """The statistics that are a number for each query, and no place among the keys."""
    return [
        name
        for name in survey
        if survey[name].ndim == survey.lse.ndim
        and survey.axes[name][-1] == "query"
        and to_numpy(survey[name]).dtype.kind == "f"
    ]


def _by_head(values: Any) -> Any:
    """(..., head, query) -> (head, batch and query); (query,) is of one head."""
    array = to_numpy(values).astype(np.float64)
    if array.ndim == 1:
        return array[None]
    return np.moveaxis(array, -2, 0).reshape(array.shape[-2], -1)


def _means(values: Any, seen: Any) -> list[float | None]:
    return [
        float(own[used].mean()) if used.any() else None
        for own, used in zip(values, seen, strict=True)
    ]
