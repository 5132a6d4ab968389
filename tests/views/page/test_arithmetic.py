"""The browser's arithmetic, run in node, against NumPy's: the page computes the trace anew."""

import dataclasses
import json

import numpy as np
import pytest

import atento
from atento.records import AttentionLayer, Trace
from atento.views.page_data import page_data

COMPUTE = """
import { recordReader } from "./record.js";
import { explain } from "./arithmetic.js";
const text = (value) => Number.isFinite(value) ? value : String(value);
const read = await recordReader(given.record);
answer = given.heads.map(([layer, head]) => {
  const run = read(layer, head);
  const steps = {};
  for (const [name, { matrix: m }] of run.steps) {
    steps[name] = [m.rows, m.cols, Array.from(m.data, text)];
  }
  const cells = given.cells.map(([name, row, col]) => explain(run, name, row, col).arithmetic);
  return { steps, cells, group: run.group };
});
"""


def computed(node, explanation, heads, cells=()):
    given = {"record": page_data(explanation), "heads": heads, "cells": list(cells)}
    return node(COMPUTE, given)


def matrix(entry):
    rows, cols, values = entry
    special = {"Infinity": np.inf, "-Infinity": -np.inf, "NaN": np.nan}
    return np.array([special.get(value, value) for value in values], float).reshape(rows, cols)


def check(explanation, answers, heads, rtol):
    for (layer, head), answer in zip(heads, answers, strict=True):
        trace = explanation.layers[layer].trace
        assert list(answer["steps"]) == [step.name for step in trace]
        for step in trace:
            group = trace["queries"].value.shape[0] // step.value.shape[0]
            np.testing.assert_allclose(
                matrix(answer["steps"][step.name]),
                step.value[head // group],
                rtol=rtol,
                atol=rtol,
                err_msg=f"layer {layer}, head {head}, {step.name}",
            )


def test_a_plain_head_is_numpys(node, samples):
    explanation = samples.journey()
    check(explanation, computed(node, explanation, [(0, 0)]), [(0, 0)], 1e-14)


def test_published_weights(node, samples):
    """The book's weights, computed without scaling."""
    answer = computed(node, samples.journey(scale=1.0), [(0, 0)])[0]
    weights = matrix(answer["steps"]["weights"])
    assert weights[1].round(4).tolist() == [0.1385, 0.2379, 0.2333, 0.1240, 0.1082, 0.1581]
    output = matrix(answer["steps"]["output"])
    assert output[1].round(4).tolist() == [0.4419, 0.6515, 0.5683]


def test_everything_at_once_for_every_head(node, samples):
    explanation = samples.everything()
    heads = [(0, head) for head in range(4)]
    answers = computed(node, explanation, heads)
    check(explanation, answers, heads, 1e-13)
    assert answers[0]["group"] == 2
    for answer in answers:  # the query that sees nothing
        assert matrix(answer["steps"]["weights"])[3].tolist() == [0] * 7
        assert matrix(answer["steps"]["output"])[3].tolist() == [0] * 2


@pytest.mark.parametrize("shape", [(), (7,), (5, 7), (1, 5, 1), (4, 1, 7), (1, 1)])
def test_masks_and_biases_broadcast_as_numpys(node, samples, shape):
    rng = np.random.default_rng(3)
    q, k, v = rng.normal(size=(4, 5, 3)), rng.normal(size=(4, 7, 3)), rng.normal(size=(4, 7, 2))
    explanation = samples.given(
        q,
        k,
        v,
        tokens="abcde",
        key_tokens="tuvwxyz",
        mask=rng.random(shape) > 0.4,
        bias=rng.normal(size=shape),
    )
    heads = [(0, 0), (0, 3)]
    check(explanation, computed(node, explanation, heads), heads, 1e-13)


def test_learned_maps_give_the_traces_numbers(node, samples):
    explanation = samples.model_like(["a", "b", "c", "d", "e"], layers=2, d_model=24, heads=4)
    heads = [(layer, head) for layer in range(2) for head in range(4)]
    check(explanation, computed(node, explanation, heads), heads, 1e-6)


def test_numbers_at_the_edge(node, samples):
    """Large scores do not overflow, −inf in a bias is a mask, and a NaN is not hidden."""
    x = np.array([[[800.0], [-800.0], [1.0]]])
    explanation = samples.given(
        x, x, x, tokens="abc", scale=1.0, bias=np.array([0.0, -np.inf, 0.0])
    )
    check(explanation, computed(node, explanation, [(0, 0)]), [(0, 0)], 1e-14)
    x = np.array([[[1.0], [np.nan], [1.0]]])
    explanation = samples.given(x, np.ones((1, 3, 1)), np.ones((1, 3, 1)), tokens="abc")
    answer = computed(node, explanation, [(0, 0)])[0]
    assert np.isnan(matrix(answer["steps"]["weights"])).tolist() == [
        [False] * 3,
        [True] * 3,
        [False] * 3,
    ]
    assert np.isnan(matrix(answer["steps"]["output"])).ravel().tolist() == [False, True, False]


def test_a_nan_that_may_not_be_seen_stays_unseen(node):
    query, key, value = np.random.default_rng(5).standard_normal((3, 1, 4, 3))
    value[0, 2, 1] = np.nan
    explanation = atento.explain(query=query, key=key, value=value, mask=np.tri(4, dtype=bool))
    output = explanation.layers[0].trace.output[0]
    assert np.isnan(output[:, 1]).tolist() == [False, False, True, True]
    check(explanation, computed(node, explanation, [(0, 0)]), [(0, 0)], 1e-14)


def test_the_terms_of_each_number_make_that_number(node, samples):
    explanation = samples.everything()
    trace = explanation.layers[0].trace
    row, col = 4, 1
    names = ["scores", "scaled", "capped", "biased", "masked", "weights", "output", "values"]
    cells = dict(
        zip(
            names,
            computed(node, explanation, [(0, 2)], [(n, row, col) for n in names])[0]["cells"],
            strict=True,
        )
    )
    q, k, v = trace["queries"].value[2], trace["keys"].value[1], trace["values"].value[1]
    value = {name: trace[name].value[2][row, col] for name in names[:-1]}

    terms = cells["scores"]["terms"]
    assert [term["a"] for term in terms] == pytest.approx(q[row])
    assert [term["b"] for term in terms] == pytest.approx(k[col])
    assert sum(term["product"] for term in terms) == pytest.approx(value["scores"], rel=1e-14)
    assert cells["scaled"]["value"] * cells["scaled"]["scale"] == pytest.approx(value["scaled"])
    assert cells["capped"]["softcap"] == 3.0
    assert cells["biased"]["value"] + cells["biased"]["bias"] == pytest.approx(value["biased"])
    assert cells["masked"]["visible"] == bool(trace.parameters["mask"][2, row, col])

    softmax = cells["weights"]
    logits, sink = trace["masked"].value[2][row], trace.parameters["sinks"][2]
    assert softmax["max"] == pytest.approx(max(logits.max(), sink))
    assert softmax["sink"]["logit"] == pytest.approx(sink)
    total = np.exp(logits - softmax["max"]).sum() + np.exp(sink - softmax["max"])
    assert softmax["denominator"] == pytest.approx(total)
    assert [share["exp"] for share in softmax["shares"]] == pytest.approx(
        np.exp(logits - softmax["max"])
    )
    assert softmax["numerator"] / softmax["denominator"] == pytest.approx(value["weights"])

    terms = cells["output"]["terms"]
    assert [term["b"] for term in terms] == pytest.approx(v[:, col])
    assert sum(term["product"] for term in terms) == pytest.approx(value["output"])
    assert cells["values"]["kind"] == "given"


def test_a_projections_terms_and_bias_make_the_query(node, samples):
    explanation = samples.model_like(["a", "b"], layers=1, d_model=20, heads=4)
    layer = explanation.layers[0]
    cell = computed(node, explanation, [(0, 3)], [("queries", 1, 2)])[0]["cells"][0]
    assert [term["a"] for term in cell["terms"]] == pytest.approx(layer.input[1])
    assert [term["b"] for term in cell["terms"]] == pytest.approx(
        layer.projections["query"].weight[:, 3, 2]
    )
    assert cell["plus"] == pytest.approx(layer.projections["query"].bias[3, 2])
    total = sum(term["product"] for term in cell["terms"]) + cell["plus"]
    assert total == pytest.approx(layer.trace["queries"].value[3, 1, 2])


def test_many_terms_show_the_largest_and_the_sum_of_the_rest(node):
    answer = node(
        """
        import { largest } from "./arithmetic.js";
        answer = given.map((values) => largest(values, (value) => value, values[0]));
        """,
        [list(range(32)), [1, -50, *range(2, 40)]],
    )
    assert answer[0] == {"shown": list(range(32)), "hidden": 0, "rest": 0}
    assert answer[1]["shown"] == [1, -50, *range(29, 40)]
    assert answer[1]["hidden"] == 27
    assert answer[1]["rest"] == sum(range(2, 29))


def test_every_float16_is_read_as_numpy_reads_it(node):
    answer = node(
        """
        import { halfToNumber } from "./decode.js";
        answer = Array.from({ length: 65536 }, (_, bits) => String(halfToNumber(bits)));
        """,
        None,
    )
    numpys = np.arange(65536, dtype=np.uint16).view(np.float16).astype(float)
    np.testing.assert_array_equal(
        np.array([float(text.replace("Infinity", "inf")) for text in answer]), numpys
    )


def test_numbers_are_written_in_both_languages(node):
    values = [0.95441, -0.5, 0, 1234.56789, 0.00049, -3.14159e-9, 2.5e7, 0.99999, 5e-324]
    script = """
        import { numberFormat } from "./numbers.js";
        answer = {};
        for (const lang of ["en", "es"]) {
          const n = numberFormat(lang);
          answer[lang] = [...given.map(n.full), n.full(-Infinity), n.full(NaN), n.full(-0)];
          answer[`${lang} cells`] = given.map((value) => n.cell(value, 2));
        }
        """
    answer = node(script, values)
    assert answer["en"] == [
        "0.9544", "−0.5000", "0", "1234.5679", "4.9000×10⁻⁴", "−3.1416×10⁻⁹", "2.5000×10⁷",
        "1.0000", "4.9407×10⁻³²⁴", "−∞", "NaN", "0",
    ]  # fmt: skip
    assert answer["es"] == [text.replace(".", ",") for text in answer["en"]]
    assert answer["en cells"] == [
        "0.95",
        "−0.50",
        "0",
        "1234.57",
        "0.00",
        "0.00",
        "2.50×10⁷",
        "1.00",
        "0.00",
    ]


def test_what_cannot_be_seen_is_named(node):
    tokens = {
        "plain": "plain",
        "a\u202eb": "a[U+202E]b",
        "\x00": "␀",
        "\n": "⏎",
        "\t": "⇥",
        "\x7f": "␡",
        "\u2028": "[U+2028]",
        "\ud800x": "[U+D800]x",
        "x\udc00": "x[U+DC00]",
        "👩‍🚀": "👩‍🚀",
        "a\u200db": "a[U+200D]b",
        "\U000e0041": "[U+E0041]",
        " the": "␣the",
        "end ": "end␣",
        "": "∅",
        "niño": "niño",
        "<b>": "<b>",
        "x" * 10_000: "x" * 24 + "…",
        "👍🏽" * 30: "👍🏽" * 24 + "…",
    }
    script = """
        import { plainLabel } from "./labels.js";
        answer = given.map((token) => plainLabel(token, 24));
        """
    assert dict(zip(tokens, node(script, list(tokens)), strict=True)) == tokens


def test_tokens_that_occur_twice_carry_their_position(node):
    answer = node(
        """
        import { namesOf } from "./labels.js";
        answer = namesOf(given).map(({ text, mark }) => text + mark);
        """,
        ["the", "cat", "the", *"abcdefgh", "the"],
    )
    assert answer == ["the₀", "cat", "the₂", *"abcdefgh", "the₁₁"]


def test_one_sink_for_all_heads(node):
    x = np.eye(3)
    explanation = atento.explain(query=[x] * 2, key=[x] * 2, value=[x] * 2, sinks=0.5)
    heads = [(0, 0), (0, 1)]
    check(explanation, computed(node, explanation, heads), heads, 1e-14)


def test_a_step_that_did_not_happen_is_not_shown(node, samples):
    """A parameter may be there without its step, such as a mask that hides nothing."""
    explanation = samples.journey()
    trace = explanation.layers[0].trace
    parameters = {**trace.parameters, "mask": np.ones((6, 6), bool), "softcap": None, "bias": None}
    layer = AttentionLayer(Trace(trace.steps, parameters), None, {})
    unmasked = dataclasses.replace(explanation, layers=(layer,))
    check(unmasked, computed(node, unmasked, [(0, 0)]), [(0, 0)], 1e-14)


def test_the_record_survives_json(samples):
    record = page_data(samples.everything())
    assert json.loads(json.dumps(record, allow_nan=False)) == record
