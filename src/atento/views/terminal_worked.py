"""One cell of the weights, worked out: the arithmetic of a single number, line by line."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atento.records import Trace
from atento.views.page_arrays import as_numpy
from atento.views.terminal_numbers import short_number
from atento.views.terminal_text import fit, named
from atento.views.words import Words

__all__ = ["worked_cell"]

TERMS = 3
NAME_CELLS = 12


def worked_cell(
    trace: Trace,
    head: int,
    cell: tuple[int, int],
    names: tuple[str, str],
    key_tokens: tuple[str, ...],
    word: Words,
) -> Iterator[str]:
    """Lines such as ``0.5510 = 0.9544 × 0.5774``, for the weight of one query on one key.

    The numbers are read from the trace; only sums that the trace doesn't keep (the softmax's
    denominator) are made here, for display.
    """
    query, key = cell

    def write(number: float) -> str:
        return short_number(number, word)

    def of(step: str) -> NDArray[np.float64]:
        value = as_numpy(trace[step].value)
        group = trace["queries"].value.shape[0] // value.shape[0]
        return np.asarray(value[head // group], dtype=np.float64)

    q, k = of("queries")[query], of("keys")[key]
    factors = [
        f"{_in_brackets(write(float(a)))}×{_in_brackets(write(float(b)))}"
        for a, b in zip(q[:TERMS], k[:TERMS], strict=True)
    ]
    more = len(q) - len(factors)
    rest = [word.count("more_term", more)] if more > 0 else []
    score = float(of("scores")[query, key])
    yield word("worked.score", sum=" + ".join([*factors, *rest]), value=write(score))

    before, last = score, "scores"
    for step in trace:
        if step.name not in ("scaled", "capped", "biased", "masked"):
            continue
        now, last = float(of(step.name)[query, key]), step.name
        if step.name == "scaled":
            factor = write(float(trace.parameters["scale"]))
            yield word("worked.scaled", before=write(before), factor=factor, value=write(now))
        elif step.name == "capped":
            cap = write(float(trace.parameters["softcap"]))
            yield word("worked.capped", before=write(before), cap=cap, value=write(now))
        elif step.name == "biased":
            added = write(now - before)
            yield word("worked.biased", before=write(before), bias=added, value=write(now))
        before = now

    row = of(last)[query]
    weight = float(of("weights")[query, key])
    seen = row[row > -np.inf]
    sinks = trace.parameters.get("sinks")
    sink = [] if sinks is None else [_sink_of(sinks, trace, head)]
    if not seen.size or not np.isfinite([*seen, *sink]).all():
        yield word("worked.not_finite", value=write(weight))
        return
    # e^1000 is no number that can be written: large rows are shifted, which changes no weight
    logits = np.array([*seen, *sink])
    shift = float(logits.max()) if float(np.abs(logits).max()) > 20 else 0.0

    def power(exponent: float) -> str:
        if not shift:
            return f"e^{_in_brackets(write(exponent))}"
        return f"e^({write(exponent)} - {_in_brackets(write(shift))})"

    terms = [power(float(one)) for one in seen[:TERMS]]
    more = len(seen) - len(terms)
    terms += [word.count("more_term", more)] if more else []
    terms += [word("worked.sink", power=power(one)) for one in sink]
    bottom = write(float(np.exp(logits - shift).sum()))
    yield word("worked.sum", sum=" + ".join(terms), value=bottom)
    yield word("worked.weight", top=power(before), bottom=bottom, value=write(weight))

    weights = of("dropped" if "dropped" in trace else "weights")[query]
    order = np.argsort(-weights, kind="stable")[:TERMS]
    mixed = []
    for at in order[weights[order] > 0]:
        name = fit(named(key_tokens[at]), NAME_CELLS)
        mixed.append(f"{write(float(weights[at]))}×{word('value_of', name=name)}")
    left = int((weights > 0).sum()) - len(mixed)
    rest = [word.count("more_term", left)] if left > 0 else []
    yield word("worked.output", name=names[0], sum=" + ".join([*mixed, *rest]))


def _sink_of(sinks: Any, trace: Trace, head: int) -> float:
    """The sink of one query head, from one number for all or one each."""
    heads: int = trace["queries"].value.shape[0]
    return float(np.broadcast_to(as_numpy(sinks), (heads,))[head])


def _in_brackets(number: str) -> str:
    return f"({number})" if number.startswith("-") else number
