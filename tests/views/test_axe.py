"""axe objects to nothing in the page of an explanation and in any view of a recording."""

from typing import Any

import numpy as np
import pytest

import atento
from atento.masks import Causal
from atento.reading.recording import Recording
from atento.views.recording_page import render_recording
from atento.views.watch_page import render_watched
from reading_records import record_of
from watched_records import watched

pytestmark = pytest.mark.browser

VIEWS = ("heads", "map", "arcs", "pair", "compare", "patches")
SCHEMES = ("light", "dark")


def objections(page: Any) -> list[str]:
    """What axe finds with everything unfolded: the rule, the element, and what to do."""
    from axe_playwright_python.sync_playwright import Axe

    for summary in page.locator("summary").all():
        summary.click()
    page.wait_for_timeout(500)
    return [
        f"{found['id']}: {node['html'][:120]}: {node['failureSummary'][:200]}"
        for found in Axe().run(page).response["violations"]
        for node in found["nodes"]
    ]


def recording(seed: int) -> Recording:
    """Two layers of three heads over 18 tokens, 16 of which are patches of an image."""
    rng = np.random.default_rng(seed)
    seen = np.tril(np.ones((18, 18), bool))[None, None]
    layers = [
        record_of(*rng.normal(size=(2, 1, 3, 18, 5)), seen, Causal("start"), layer=name)[0]
        for name in ("first", "second")
    ]
    made = Recording(layers, token_ids=[range(18)])
    made.name_tokens(["[CLS]", *(f"p{i}" for i in range(16)), "[CLS]"])
    made.patches = (4, 4, 1, 1)
    return made


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("tokens", [6, 24])
def test_the_page_of_an_explanation(open_page, tokens, scheme):
    """As tables, and as canvases."""
    query, key, value = np.random.default_rng(2).normal(size=(3, 2, tokens, 4))
    explanation = atento.explain(
        query=query, key=key, value=value, mask=np.tri(tokens, dtype=bool), softcap=4.0, sinks=0.5
    )
    opened = open_page(explanation, color_scheme=scheme)
    assert objections(opened.page) == []


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("view", VIEWS)
def test_the_views_of_a_recording(open_page, view, scheme):
    html = render_recording(recording(1), other=recording(2))
    place = f"#view={view}&layer=1&head=1&row=9&col=3"
    opened = open_page(html, place=place, color_scheme=scheme)
    assert objections(opened.page) == []


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_page_of_a_training_that_was_watched(open_page, scheme):
    opened = open_page(render_watched(watched(pools=2)), color_scheme=scheme)
    assert objections(opened.page) == []


def test_axe_is_not_blind(open_page):
    """A control without a name, put into the page, is found."""
    opened = open_page(atento.explain(query=np.eye(3), key=np.eye(3), value=np.eye(3)))
    opened.page.evaluate("document.querySelector('main').append(document.createElement('button'))")
    assert any(one.startswith("button-name:") for one in objections(opened.page))
