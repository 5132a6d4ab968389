"""An explanation in the terminal: why this head, every step as a heat-coloured matrix, one cell."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.style import Style
from rich.text import Text

from atento.records import Explanation, Projection, Step, Trace
from atento.views.page_arrays import as_numpy
from atento.views.terminal_matrix import Matrix, matrix_lines, row_label
from atento.views.terminal_text import fit, fold, named, visible
from atento.views.terminal_worked import worked_cell
from atento.views.words import Words, words

__all__ = ["render_terminal"]

WIDEST = 120  # beyond it, numbers are too far from their names
NARROWEST = 40
ROLES = {"queries": "query", "keys": "key", "values": "value"}
NAMED = ("scores", "scaled", "capped", "biased", "masked", "weights", "dropped", "bias", "kept")
MOST_ROWS = 12
TITLE = Style(bold=True)
HEADING = Style(bold=True)
DIM = Style(dim=True)


def render_terminal(explanation: Explanation, *, lang: str, console: Console) -> None:
    """Prints the steps of the explanation's head.

    Args:
        explanation: what to show.
        lang: "en" or "es".
        console: where to; its width decides how much is shown, its colours whether there is heat.

    Raises:
        InputError: there are no words in that language.
    """
    word = words(lang)
    width = max(NARROWEST, min(console.width, WIDEST))
    # folded by hand already, and printed at once; Text is never read as markup
    text = Text("\n").join(_lines(explanation, width, word))
    console.print(text, no_wrap=True, overflow="ignore", crop=False, highlight=False)


def _lines(explanation: Explanation, width: int, word: Words) -> Iterator[Text]:
    yield from _title(explanation, width, word)
    trace = explanation.layers[explanation.layer].trace
    cell = _cell(explanation, trace)
    for step in trace:
        yield Text()
        yield from _step(explanation, trace, step, cell, width, word)
    if cell is None:
        return
    yield Text()
    query, key = (explanation.tokens[cell[0]], explanation.key_tokens[cell[1]])
    names = (_quoted(query, word), _quoted(key, word))
    heading = word("worked.heading", query=names[0], key=names[1])
    yield from _wrapped(heading, width, HEADING)
    for line in worked_cell(trace, explanation.head, cell, names, explanation.key_tokens, word):
        yield from _wrapped(line, width, indent="  ")


def _title(explanation: Explanation, width: int, word: Words) -> Iterator[Text]:
    reason = explanation.reason
    layers = len(explanation.layers)
    heads = explanation.layers[explanation.layer].heads
    if explanation.model is None:
        title = word("title.arrays", head=explanation.head)
    else:
        model = visible(explanation.model)
        title = word("title.model", model=model, layer=explanation.layer, head=explanation.head)
    yield from _wrapped(title, width, TITLE)
    if layers * heads > 1:
        counts = {"layers": word.count("layers", layers), "heads": word.count("heads", heads)}
        yield from _wrapped(
            word("counted" if layers > 1 else "counted.heads", **counts), width, DIM
        )

    same = explanation.tokens == explanation.key_tokens
    obvious = "self" if same else "cross"
    if reason.kind == "telling":
        none = same and not (reason.score or 0) > 0
        yield from _wrapped(
            word("why.none" if none else f"why.telling.{obvious}", among=reason.among), width
        )
    else:
        yield from _wrapped(word(f"why.{reason.kind}"), width)
    if reason.query is not None and reason.key is not None and reason.weight is not None:
        named_above = same and reason.kind == "telling"
        link = word(
            "why.link.telling" if named_above else f"why.link.{obvious}",
            query=_quoted(explanation.tokens[reason.query], word),
            key=_quoted(explanation.key_tokens[reason.key], word),
            percent=word.percent(reason.weight),
        )
        yield from _wrapped(link, width)

    yield Text()
    yield from _tokens(word("tokens"), explanation.tokens, width, word)
    if not same:
        yield from _tokens(word("key_tokens"), explanation.key_tokens, width, word)


def _tokens(label: str, tokens: tuple[str, ...], width: int, word: Words) -> Iterator[Text]:
    """The tokens, each with its position, on about three lines."""
    most = 3 * width // 10
    shown = [row_label(at, token, cells=24) for at, token in enumerate(tokens[:most])]
    more = len(tokens) - len(shown)
    if more:
        shown.append(word("cut", parts=word.count("more_token", more)))
    for line in fold([f"{label} ({len(tokens)}):", *shown], width, between="  ", indent="  "):
        yield Text(line)


def _step(
    explanation: Explanation,
    trace: Trace,
    step: Step,
    cell: tuple[int, int] | None,
    width: int,
    word: Words,
) -> Iterator[Text]:
    layer = explanation.layers[explanation.layer]
    values = _of_head(trace, step, explanation.head)
    over_keys = step.axes[-1] == "key"
    of_keys = step.axes[-2] == "key"
    query, key = cell if cell is not None else (None, None)
    shares = step.name in ("weights", "dropped")

    formula = _formula(step, layer.projections, word)
    rows, columns = values.shape
    sizes = word(
        "sizes",
        rows=word.count("axis.key" if of_keys else "axis.query", rows),
        columns=word.count("axis.key" if over_keys else "axis.feature", columns),
    )
    heading = Text(word(step.name), style=HEADING)
    if formula:
        heading.append(f" = {formula}", style=Style(bold=False))
    heading.append(f"   {sizes}", style=DIM)
    if heading.cell_len > width:
        heading = Text(fit(heading.plain, width), style=HEADING)
    yield heading
    if meaning := _meaning(trace, step, word):
        yield from _wrapped(meaning, width, DIM, indent="  ")
    yield from matrix_lines(
        Matrix(
            values,
            explanation.key_tokens if of_keys else explanation.tokens,
            explanation.key_tokens if over_keys else None,
            row=key if of_keys else query,
            column=key if over_keys else None,
            closed=_closed(trace, explanation.head) if shares else None,
            shares=shares,
        ),
        width,
        MOST_ROWS,
        word,
    )


def _formula(step: Step, projections: Mapping[str, Projection], word: Words) -> str:
    """The record's formula, its step names in the reader's language."""
    role = ROLES.get(step.name)
    if role in projections:
        return f"{word('input')} @ W_{role} + b_{role}"
    if step.name == "masked":  # a sentence, which stands below the heading
        return ""
    formula = step.formula.replace(", with a sink", word("with_a_sink"))
    names = "|".join(NAMED)
    formula = re.sub(rf"\b({names})\b", lambda found: word(found[1]), formula)
    return word.number(formula)


def _meaning(trace: Trace, step: Step, word: Words) -> str:
    name = f"meaning.{step.name}"
    if step.name == "capped":
        return word(name, cap=word.number(f"{float(trace.parameters['softcap']):.4g}"))
    if step.name == "weights" and trace.parameters.get("sinks") is not None:
        return word("meaning.weights_sink")
    return word(name) if name in word else ""


def _of_head(trace: Trace, step: Step, head: int) -> NDArray[Any]:
    """(row, column) of one query head; heads of keys and values are shared in groups."""
    value = as_numpy(step.value)
    heads: int = trace["queries"].value.shape[0]
    return np.asarray(value[head // (heads // value.shape[0])])


def _closed(trace: Trace, head: int) -> NDArray[np.bool_]:
    """(query, key), True where a token may not look."""
    steps = list(trace)
    at = next(i for i, step in enumerate(steps) if step.name == "weights")
    return np.asarray(_of_head(trace, steps[at - 1], head) == -np.inf)


def _cell(explanation: Explanation, trace: Trace) -> tuple[int, int] | None:
    """The cell to work out: the head's strongest link, or else the last token's largest weight."""
    reason = explanation.reason
    if reason.query is not None and reason.key is not None:
        return reason.query, reason.key
    weights = _of_head(trace, trace["weights"], explanation.head)
    row = weights[-1]
    if np.isnan(row).any() or not row.max() > 0:
        return None
    return len(weights) - 1, int(row.argmax())


def _quoted(token: str, word: Words) -> str:
    return word("quoted", text=fit(named(token), 24))


def _wrapped(
    line: str, width: int, style: Style | None = None, *, indent: str = ""
) -> Iterator[Text]:
    """The line folded at blanks; nothing in it is markup. No-break blanks hold, then are blanks."""
    for part in fold(line.split(" "), width - len(indent), indent="  "):
        yield Text(indent + part.replace("\u00a0", " "), style=style or Style.null())
