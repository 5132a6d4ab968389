"""Light and dark, phones to large screens, paper, and motion."""

import re

import pytest

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read_in_both_schemes(open_page, samples, scheme):
    opened = open_page(samples.everything(), color_scheme=scheme)
    for step, row, col in [("weights", 1, 6), ("scores", 4, 1), ("output", 4, 0)]:
        opened.cell(step, row, col).hover()
        assert opened.unreadable() == []
    paper = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", paper))) < 150) == (scheme == "dark")


def test_no_width_makes_the_page_scroll_sideways(open_page, samples):
    opened = open_page(
        samples.model_like(samples.SENTENCE), viewport={"width": 3840, "height": 800}
    )
    page, panel = opened.page, opened.page.locator("#panel")
    for width in [3840, 1280, 820, 360]:
        page.set_viewport_size({"width": width, "height": 800})
        page.wait_for_timeout(150)  # matrices are fitted anew a moment after the last change
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert panel.is_visible() == (width >= 1000), "on a phone, nothing before somebody asks"
    opened.cell("scores", 2, 2).click()
    assert panel.is_visible()
    box, cell = panel.bounding_box(), opened.cell("scores", 2, 2).bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 360
    assert cell["y"] + cell["height"] <= box["y"], "the cell is under the panel that explains it"


def test_paper_is_white_and_carries_the_chosen_arithmetic(open_page, samples):
    opened = open_page(
        samples.model_like([f"t{i}" for i in range(24)], layers=1), color_scheme="dark"
    )
    page = opened.page
    page.locator("#step-scores .canvas-matrix").focus()
    page.keyboard.press("ArrowDown")
    ink = """() => {
      const canvas = document.querySelector("#step-scores canvas");
      const often = { willReadFrequently: true };
      const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", often);
      copy.drawImage(canvas, 0, 0);
      const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
      let dark = 0, light = 0;
      for (let p = 0; p < data.length; p += 4) {
        if (data[p + 3] < 250) continue;
        const sum = data[p] + data[p + 1] + data[p + 2];
        if (sum > 640) light++; else if (sum < 140) dark++;
      }
      return light > dark ? "light cells" : "dark cells";
    }"""
    assert page.evaluate(ink) == "dark cells"
    page.emulate_media(media="print", color_scheme="dark")
    for _ in range(40):  # not wait_for_function: the page's policy forbids the eval it needs
        if page.evaluate(ink) == "light cells":
            break
        page.wait_for_timeout(50)
    assert page.evaluate(ink) == "light cells"
    assert not page.locator("#panel").is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    printed = page.locator("#step-scores > .printed")
    assert printed.is_visible()
    assert "How well the query of t1 fits the key of t0" in printed.inner_text()
    assert page.locator(".printed:visible").count() == 1
    assert page.locator("section.step:visible").count() == 10
    assert len(page.pdf()) > 10_000


def test_nothing_moves_for_those_who_ask_for_that(open_page, samples):
    page = open_page(samples.journey(), reduced_motion="reduce").page
    assert page.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == "auto"
    page = open_page(samples.journey(), reduced_motion="no-preference").page
    assert page.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == "smooth"
