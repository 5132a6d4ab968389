"""Hostile tokens, layer names and roles are visible and inert in every view."""

import numpy as np
import pytest

from atento.reading.recording import Recording
from reading_records import made_of

pytestmark = pytest.mark.browser

HOSTILE = [
    "</script><img src=x onerror=alert(1)>",
    "<!--<script>",
    "a\u202eevil\u2066",
    "\x00\n\t",
    "👩‍🚀",
    "\u2028",
    "\ud800",
    "x" * 10_000,
    "'\"><svg onload=alert(2)>&amp;",
    "{token}",
]
LAYER = "\u202e<img src=x onerror=alert(3)>\x00</script>" + "y" * 5000
RAW = set("\u202e\u2066\x00\u2028\ud800")


@pytest.fixture
def hostile(samples):
    made = samples.recorded(heads=2, queries=10, tokens=HOSTILE, layer=LAYER)
    made.recording.patches = (2, 4, 1, 1)
    return made.recording


@pytest.mark.parametrize("view", ["heads", "arcs", "pair", "patches"])
def test_hostile_text_is_visible_and_inert(open_page, hostile, view, settle):
    page = open_page(hostile, place=f"#view={view}&row=0&col=2").page
    page.wait_for_selector(f"#tab-{view}[aria-selected=true]")
    for summary in page.locator("#view summary").all():
        summary.click()
    settle(page)
    markup = "document.querySelectorAll('#app :is(img, svg, script, iframe, object)').length"
    assert page.evaluate(markup) == 0
    assert not set(page.evaluate("document.getElementById('app').textContent")) & RAW
    labels = page.evaluate(
        """[...document.querySelectorAll("#app *")].flatMap((node) =>
          [...node.attributes].filter(({ name }) => name !== "value").map(({ value }) => value))"""
    )
    assert not set("".join(labels)) & RAW
    assert max(map(len, labels)) < 2000
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    text = page.locator("#view").inner_text()
    assert len(text) < 8000
    if view == "heads":
        assert "<img src=x onerror=alert(3)>" in text
        assert "U+202E" in text
    else:
        assert "</script><img src=x onerror=alert(1)>"[:20] in text


def test_every_token_can_be_pointed_at(open_page, hostile, settle):
    page = open_page(hostile, place="#view=arcs").page
    page.locator(".arcs-box").focus()
    shown = []
    for _ in HOSTILE:
        settle(page)
        shown.append(page.locator(".arcs-side h3").first.inner_text())
        page.keyboard.press("ArrowDown")
    assert shown[1] == "<!--<script> looks at"
    assert shown[2] == "aU+202EevilU+2066 looks at"
    assert shown[3] == "␀⏎⇥ looks at"
    assert shown[7] == "x" * 24 + "… looks at"
    assert shown[9] == "{token} looks at"


def test_numbers_that_are_none_and_weights_that_are_not_numbers(open_page, samples, settle):
    """NaN in a query makes its row NaN in Python; the page shows it, and nothing breaks."""
    rng = np.random.default_rng(1)
    query, key = rng.normal(size=(2, 1, 2, 6, 4))
    query[0, 0, 3] = np.nan
    weights = np.full((1, 2, 6, 6), 1 / 6)
    weights[0, 0, 3] = np.nan
    lse = np.full((1, 2, 6), 2.0)
    lse[0, 0, 3] = np.nan
    layer = made_of(query, key, weights, lse, None, np.float64, layer="a")
    recording = Recording([layer], token_ids=[range(6)])
    recording.name_tokens(list("abcdef"))
    recording.patches = (2, 3)
    for view in ("heads", "arcs", "pair", "patches"):
        page = open_page(recording, place=f"#view={view}&row=3&col=1").page
        page.wait_for_selector(f"#tab-{view}[aria-selected=true]")
        settle(page)
        assert not page.locator("#failure").is_visible()
        if view in ("pair", "patches"):
            assert "NaN" in page.locator("#view").inner_text()
