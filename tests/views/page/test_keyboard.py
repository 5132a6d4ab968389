"""Everything can be reached and read with the keyboard, and by touch."""

import pytest

pytestmark = pytest.mark.browser


def test_a_table_is_one_tab_stop_and_is_walked_by_arrows(open_page, samples):
    opened = open_page(samples.journey())
    page = opened.page
    assert page.locator("#step-scores [tabindex='0']").count() == 1
    page.locator("#step-scores td[tabindex='0']").focus()
    where = "[document.activeElement.dataset.row, document.activeElement.dataset.col].join()"
    for key, cell in [
        ("ArrowRight", "0,1"), ("ArrowDown", "1,1"), ("End", "1,5"), ("ArrowRight", "1,5"),
        ("Home", "1,0"), ("PageDown", "4,0"), ("PageUp", "1,0"), ("Control+End", "5,5"),
        ("Control+Home", "0,0"), ("ArrowUp", "0,0"), ("ArrowDown", "1,0"),
    ]:  # fmt: skip
        page.keyboard.press(key)
        assert page.evaluate(where) == cell, key
    assert "0.5500·0.4300" in opened.panel()
    assert page.locator("#step-scores [tabindex='0']").count() == 1
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
    assert float(outline.removesuffix("px")) >= 2
    page.keyboard.press("Escape")
    assert not page.locator("#panel").is_visible()
    page.keyboard.press("Enter")
    assert page.locator("#panel").is_visible()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('section').id") == "step-scaled"


def test_everything_is_reached_by_tab_alone(open_page, samples):
    opened = open_page(samples.journey())
    page = opened.page
    stops = []
    for _ in range(40):
        page.keyboard.press("Tab")
        stops.append(
            page.evaluate(
                """((a) => a.id || a.dataset.step || a.closest("section")?.dataset.step
                || a.className)(document.activeElement)"""
            )
        )
        if stops[-1] == "close":
            break
    assert stops[:2] == ["lang-en", "lang-es"]
    assert stops[2:10] == [
        "tokens",
        "output",
        "weights",
        "queries",
        "scores",
        "keys",
        "scaled",
        "values",
    ]
    assert stops[10:] == [
        "queries",
        "keys",
        "values",
        "scores",
        "scaled",
        "weights",
        "output",
        "close",
    ]


def test_the_equation_leads_to_its_steps(open_page, samples):
    opened = open_page(samples.journey())
    page = opened.page
    page.locator(".equation a[data-step='scaled']").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "title-scaled"
    assert page.locator(".equation [aria-current='step']").get_attribute("data-step") == "scaled"
    box = page.locator("#title-scaled").bounding_box()
    assert 0 < box["y"] < 300


def test_touching_a_cell_opens_the_sheet_and_it_can_be_closed(open_page, samples):
    opened = open_page(samples.journey(), viewport={"width": 360, "height": 740}, has_touch=True)
    opened.cell("scores", 1, 1).tap()
    assert "1.4950" in opened.panel()
    box = opened.page.locator("#panel").bounding_box()
    assert box["y"] + box["height"] == pytest.approx(740, abs=1)
    opened.page.locator("#panel .close").tap()
    assert not opened.page.locator("#panel").is_visible()
