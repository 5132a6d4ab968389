"""The notice that a page could not be drawn: not on pages that are, and at once after a fault."""

import pytest

import atento
from atento.views.recording_page import render_recording
from atento.views.watch_page import render_watched
from watched_records import watched

pytestmark = pytest.mark.browser

APPEARS = 3200
"""Milliseconds until the notice would appear."""


@pytest.fixture(params=["explanation", "recording", "watched"])
def record(request, make):
    return {
        "explanation": lambda: atento.explain("a b"),
        "recording": lambda: render_recording(make(6)[0]),
        "watched": lambda: render_watched(watched()),
    }[request.param]()


def test_a_page_that_is_drawn_has_no_notice(open_page, record):
    page = open_page(record).page
    page.wait_for_timeout(APPEARS)
    assert not page.locator("#failure").is_visible()


def test_what_goes_wrong_later_is_said(open_page, record):
    page = open_page(record, loud=True).page
    page.wait_for_selector("#app:not([hidden])")
    page.evaluate("void setTimeout(() => { throw new Error('too late'); })")
    notice = page.locator("#failure")
    notice.wait_for(state="visible")
    assert notice.evaluate("(node) => getComputedStyle(node).animationName") == "none", "at once"
    assert page.locator("#failure-detail").inner_text() == "too late"
