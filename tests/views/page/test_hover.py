"""Hovering a cell shows the arithmetic that made it, to the digits of NumPy."""

import os
import re

import numpy as np
import pytest

import atento
from atento.views.page import render_page

pytestmark = pytest.mark.browser


def test_hovering_shows_numpys_number(open_page, samples):
    explanation = samples.everything()
    opened = open_page(explanation)
    trace = explanation.layers[0].trace
    assert len(trace) == 10
    for step in trace:
        matrix = step.value[1 if step.name in ("keys", "values") else 2]
        for row, col in [(0, 0), (4, 1), (3, 0)]:
            opened.cell(step.name, row, col).hover()
            assert opened.result() == opened.digits(matrix[row, col]), (step.name, row, col)
            assert opened.cell(step.name, row, col).inner_text() == opened.digits(matrix[row, col])


def test_the_dot_product_stands_term_by_term(open_page, samples):
    opened = open_page(samples.journey())
    opened.cell("scores", 1, 4).hover()
    q, k = samples.INPUT[1], samples.INPUT[4]
    line = " + ".join(f"{a:.4f}·{b:.4f}" for a, b in zip(q, k, strict=True))
    assert line + f" = {q @ k:.4f}" in opened.panel()


def test_the_scale_stands_with_its_numbers(open_page, samples):
    opened = open_page(samples.journey())
    opened.cell("scaled", 1, 1).hover()
    score = samples.INPUT[1] @ samples.INPUT[1]
    assert f"{score:.4f} × 0.5774 = {score / 3**0.5:.4f}" in opened.panel()


def test_the_softmax_stands_with_its_denominator(open_page, samples):
    explanation = samples.everything()
    opened = open_page(explanation)
    opened.cell("weights", 1, 6).hover()
    trace = explanation.layers[0].trace
    logits, sink = trace["masked"].value[2][1], trace.parameters["sinks"][2]
    top = max(logits.max(), sink)
    exps = np.exp(logits - top)
    total = exps.sum() + np.exp(sink - top)
    rows = opened.page.locator("#panel .shares tbody tr").all_inner_texts()
    assert len(rows) == 7 + 1 + 1  # every key, the sink and the sum
    for key, row in enumerate(rows[:7]):
        assert row.split()[0] == f"k{key}"
        assert row.split()[-1] == opened.digits(exps[key])
        assert ("exp(−∞)" in row) == bool(np.isneginf(logits[key]))
    assert "sink" in rows[7]
    assert rows[7].split()[-1] == opened.digits(np.exp(sink - top))
    assert rows[8].split()[-1] == opened.digits(total)
    assert (
        f"{opened.digits(exps[6])} / {opened.digits(total)} = {opened.digits(exps[6] / total)}"
        in opened.panel()
    )


def test_the_output_stands_as_weights_times_values(open_page, samples):
    explanation = samples.everything()
    opened = open_page(explanation)
    opened.cell("output", 4, 1).hover()
    trace = explanation.layers[0].trace
    weights, values = trace["weights"].value[2][4], trace["values"].value[1][:, 1]
    rows = opened.page.locator("#panel .shares tbody tr").all_inner_texts()
    for key, row in enumerate(rows[:7]):
        weight, value, product = re.findall(
            r"−?\d[\d.]*(?:×10[⁰-⁹⁻¹²³]+)?", row.replace(f"k{key}", "")
        )
        assert opened.number(weight) == pytest.approx(weights[key], abs=5.1e-5)
        assert opened.number(value) == pytest.approx(values[key], abs=5.1e-5)
        assert opened.number(product) == pytest.approx(weights[key] * values[key], abs=5.1e-5)
    assert rows[7].split()[-1] == opened.digits(weights @ values)


def test_a_query_is_input_times_learned_map_and_can_show_all_its_terms(open_page, samples):
    explanation = samples.model_like(samples.SENTENCE)
    opened = open_page(explanation)
    layer = explanation.layers[2]
    opened.cell("queries", 3, 5).click()
    assert opened.value() == pytest.approx(layer.trace["queries"].value[1, 3, 5], abs=5.1e-5)
    assert opened.page.locator("#panel .term").count() == 12 + 2  # the largest, the rest, the bias
    opened.page.get_by_role("button", name="Show all 128 terms").click()
    terms = opened.page.locator("#panel .term").all_inner_texts()
    assert len(terms) == 128 + 1
    first = terms[0].replace("(", "").replace(")", "").split("·")
    assert opened.number(first[0]) == pytest.approx(layer.input[3, 0], abs=5.1e-5)
    assert opened.number(first[1]) == pytest.approx(
        layer.projections["query"].weight[0, 1, 5], abs=5.1e-5
    )
    assert opened.number(terms[-1].split()[0].strip("()")) == pytest.approx(
        layer.projections["query"].bias[1, 5], abs=5.1e-5
    )


def test_a_masked_place_and_a_query_that_sees_nothing_are_said(open_page, samples):
    opened = open_page(samples.everything())
    opened.cell("masked", 3, 2).hover()
    assert "It may not: −∞ will become a weight of exactly 0." in opened.panel()
    opened.cell("weights", 3, 2).hover()
    assert "may see nothing at all" in opened.panel()
    assert "unseen" in opened.cell("weights", 3, 2).get_attribute("class")


def test_the_cells_that_a_number_came_from_are_marked(open_page, samples):
    opened = open_page(samples.journey())
    opened.cell("scores", 1, 4).hover()
    marked = opened.page.evaluate(
        """[...document.querySelectorAll("td.source")]
        .map((td) => td.closest("section").dataset.step + td.dataset.row)"""
    )
    assert marked == ["queries1"] * 3 + ["keys4"] * 3
    opened.cell("output", 2, 1).hover()
    assert opened.page.locator("#step-weights td.source").count() == 6
    assert opened.page.locator("#step-values td.source[data-col='1']").count() == 6
    assert opened.page.locator("#step-queries td.source").count() == 0
    assert opened.page.locator("td.here").count() == 1


def test_the_real_trace_of_arrays(open_page, samples):
    """What `atento explain --query … --causal` gives, with every option that it has."""
    rng = np.random.default_rng(11)
    mask = np.tril(np.ones((6, 6), bool))
    mask[0] = False
    explanation = atento.explain(
        query=rng.normal(size=(4, 6, 3)).astype(np.float32),
        key=rng.normal(size=(2, 6, 3)).astype(np.float32),
        value=rng.normal(size=(2, 6, 5)).astype(np.float32),
        mask=mask, bias=rng.normal(size=(6, 6)), softcap=5.0, sinks=rng.normal(size=4),
        names=list(samples.JOURNEY), head=3,
    )  # fmt: skip
    opened = open_page(explanation)
    for step in explanation.layers[0].trace:
        matrix = step.value[3 * step.value.shape[0] // 4]
        for row, col in [(0, 0), (5, 2)]:
            opened.cell(step.name, row, col).hover()
            assert opened.value() == pytest.approx(matrix[row, col], abs=5.2e-5)


def test_the_real_model_reads_a_sentence(open_page, samples):
    try:
        explanation = atento.explain("Your journey starts with one step")
    except (FileNotFoundError, ImportError):
        if os.environ.get("CI"):
            raise
        pytest.skip("the embedded model is not here yet")
    html = render_page(explanation)
    assert len(html.encode()) <= 600_000
    opened = open_page(html)
    for layer, one in enumerate(explanation.layers):
        opened.page.select_option("#layer", str(layer))
        opened.page.select_option("#head", "2")
        assert opened.page.locator("#step-input").count() == 1, "projections are not used"
        for name in ("queries", "scores", "weights", "output"):
            value = one.trace[name].value[2]
            for row, col in [(0, 0), (5, 3)]:
                opened.cell(name, row, col).hover()
                assert opened.value() == pytest.approx(value[row, col], abs=6e-5)
