"""The JSON form: strictly valid, and the numbers of the head that is shown."""

import json

import numpy as np

from atento.views.json_export import to_json


def strict(text: str) -> dict:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_every_step_of_the_shown_head(samples):
    explanation = samples.everything()
    data = strict(to_json(explanation))
    assert data["format"] == "atento.explanation/1"
    assert data["tokens"] == list("abcde")
    assert data["key_tokens"] == [f"k{i}" for i in range(7)]
    assert (data["layer"], data["head"], data["model"]) == (0, 2, None)
    assert data["reason"]["kind"] == "asked"
    trace = explanation.layers[0].trace
    assert [step["name"] for step in data["steps"]] == [step.name for step in trace]
    for written, step in zip(data["steps"], trace, strict=True):
        shown = step.value[1 if step.name in ("keys", "values") else 2]
        value = [[-np.inf if x is None else x for x in row] for row in written["value"]]
        assert np.array_equal(np.array(value), shown)
        assert written["axes"] == list(step.axes[1:])
        assert written["formula"] == step.formula
    masked = next(step for step in data["steps"] if step["name"] == "masked")
    assert masked["value"][3] == [None] * 7
    assert "minus infinity" in data["notes"]["null"]


def test_what_json_does_not_know(samples):
    x = np.array([[[np.nan], [np.inf], [1.0]]])
    one = np.ones((1, 3, 1))
    with np.errstate(invalid="ignore"):
        explanation = samples.given(x, one, one, tokens=["\ud800", "é", "\u2028"])
    data = strict(to_json(explanation))
    assert data["tokens"] == ["\ud800", "é", "\u2028"]
    assert data["steps"][0]["value"] == [["NaN"], ["Infinity"], [1.0]]
