"""Layers, heads and languages, and why the page opens with the head it does."""

import dataclasses
import re

import numpy as np
import pytest

from atento.records import Reason

pytestmark = pytest.mark.browser


@pytest.mark.parametrize(
    ("kind", "link", "cross", "words"),
    [
        (
            "telling",
            True,
            False,
            "of all 12 heads it tells the most: it looks sharply, and elsewhere",
        ),
        (
            "telling",
            True,
            True,
            "of all 12 heads it looks most sharply. Its strongest link: c looks at z",
        ),
        ("telling", False, False, "none looks beyond the obvious places"),
        ("asked", True, False, "because you asked for it. Leaving aside the first token"),
        ("only", False, False, "This is the only head there is."),
    ],
)
def test_the_reason_is_said(open_page, samples, kind, link, cross, words):
    x = np.eye(3)[None]
    explanation = samples.given(x, x, x, tokens="abc", key_tokens="xyz" if cross else None)
    reason = Reason(kind, 12, 0.5, *((2, 2, 0.25) if link else ()))
    opened = open_page(dataclasses.replace(explanation, reason=reason))
    said = opened.page.locator("#reason").inner_text()
    assert words in said
    assert ("with weight 0.2500" in said) == link
    if link:
        assert opened.page.locator("td.here").get_attribute("data-row") == "2"


def test_layers_and_heads_can_be_switched(open_page, samples):
    explanation = samples.model_like(samples.SENTENCE)
    opened = open_page(explanation)
    assert "of all 12 heads it tells the most" in opened.page.locator("#reason").inner_text()
    opened.page.locator("#head").focus()
    for layer, head in [("0", "3"), ("1", "0")]:
        opened.page.select_option("#layer", layer)
        opened.page.select_option("#head", head)
        weights = explanation.layers[int(layer)].trace["weights"].value[int(head)]
        opened.cell("weights", 6, 1).hover()
        assert opened.value() == pytest.approx(weights[6, 1], abs=5.2e-5)
        assert f"layer {layer}, head {head}" in opened.page.locator("#reason").inner_text()
    assert opened.page.evaluate("document.activeElement.id") == "head"


def test_grouped_heads_read_their_shared_keys(open_page, samples):
    explanation = samples.everything()
    opened = open_page(explanation)
    assert (
        "Groups of 2 query heads share them" in opened.page.locator("#step-keys .say").inner_text()
    )
    for head in range(4):
        opened.page.select_option("#head", str(head))
        keys = explanation.layers[0].trace["keys"].value[head // 2]
        assert opened.cell("keys", 6, 2).inner_text() == opened.digits(keys[6, 2])


def test_spanish_from_the_start_and_by_switch(open_page, samples):
    opened = open_page(samples.journey(), lang="es")
    page = opened.page
    assert page.locator("h1").inner_text() == "La atención, paso a paso"
    assert page.evaluate("document.documentElement.lang") == "es"
    opened.cell("scores", 1, 1).hover()
    assert "0,5500·0,5500 + 0,8700·0,8700 + 0,6600·0,6600 = 1,4950" in opened.panel()
    assert opened.cell("scores", 1, 1).inner_text() == "1,4950"
    assert page.title().endswith("La atención, paso a paso")
    page.click("#lang-en")
    assert page.locator("h1").inner_text() == "Attention, step by step"
    assert page.evaluate("document.documentElement.lang") == "en"
    assert opened.cell("scores", 1, 1).inner_text() == "1.4950"
    assert page.evaluate("document.activeElement.id") == "lang-en"
    page.click("#lang-es")
    assert "Puntuaciones" in page.locator("#title-scores").inner_text()
    assert not re.search(r"\{|page\.", page.locator("body").inner_text())
