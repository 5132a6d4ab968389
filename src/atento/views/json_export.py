"""An explanation as JSON: the steps of the head that is shown, as nested lists."""

import json
from dataclasses import asdict
from typing import Any

import numpy as np

from atento.records import Explanation
from atento.views.page_arrays import as_numpy

__all__ = ["NOTES", "plain", "to_json"]

NOTES = {
    "null": "minus infinity: a place that may not be seen",
    "NaN": "not a number",
    "Infinity": "plus infinity",
}
"""What stands for the numbers that JSON does not know."""


def to_json(explanation: Explanation) -> str:
    """Write an explanation as strictly valid JSON.

    JSON knows neither infinities nor NaN: −inf becomes ``null``, and NaN and +inf become the texts
    ``"NaN"`` and ``"Infinity"``; the field ``notes`` says so. Keys and values of grouped heads
    are those that the shown query head reads.
    """
    trace = explanation.layers[explanation.layer].trace
    heads = int(trace["queries"].value.shape[0])
    steps = []
    for step in trace:
        value = as_numpy(step.value)
        axes = list(step.axes)
        if axes and axes[0] == "head":
            group = heads // value.shape[0]  # consecutive query heads share one key head
            value, axes = value[explanation.head // group], axes[1:]
        steps.append(
            {
                "name": step.name,
                "formula": step.formula,
                "axes": axes,
                "value": plain(value.astype(np.float64).tolist()),
            }
        )
    return json.dumps(
        {
            "format": "atento.explanation/1",
            "tokens": list(explanation.tokens),
            "key_tokens": list(explanation.key_tokens),
            "model": explanation.model,
            "layer": explanation.layer,
            "head": explanation.head,
            "reason": plain(asdict(explanation.reason)),
            "notes": NOTES,
            "steps": steps,
        },
        allow_nan=False,
    )


def plain(value: Any) -> Any:
    """Lists and dicts with what `NOTES` says in the place of infinities and NaN."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, float) and not np.isfinite(value):
        if np.isnan(value):
            return "NaN"
        return None if value < 0 else "Infinity"
    return value
