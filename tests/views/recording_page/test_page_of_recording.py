"""The frame around the views: tabs, choices, the address, hostile text, two recordings."""

import re

import pytest

from atento.reading.recording import Recording
from atento.views.recording_page import render_recording

pytestmark = pytest.mark.browser

HOSTILE = [
    "</script><img src=x onerror=alert(1)>",
    "<!--<script>",
    "\u2028\u202e",
    "\ud800",
    "\0",
    "x" * 10_000,
    "${alert(1)}",
    "a\u2066b",
]


def test_tabs_are_walked_with_arrows(open_page, make, eventually):
    page = open_page(make()[0]).page
    tabs = page.get_by_role("tab")
    assert [tab.inner_text() for tab in tabs.all()] == ["Heads", "Map", "Arcs", "Query and key"]
    page.get_by_role("tab", name="Heads").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(".map")
    chosen = page.locator('[role="tab"][aria-selected="true"]')
    assert chosen.inner_text() == "Map"
    assert page.evaluate("document.activeElement.id") == "tab-map"
    assert page.get_by_role("tabpanel").get_attribute("aria-labelledby") == "tab-map"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    eventually(page, lambda: chosen.inner_text() == "Query and key")


def test_the_address_says_what_is_seen_and_can_be_shared(open_page, make, eventually):
    recording, _ = make(60, names=("one", "two"), causal=False)
    opened = open_page(recording)
    page = opened.page
    page.locator("#layer").select_option("1")
    page.locator("#head").select_option("1")
    page.get_by_role("tab", name="Map").click()
    page.locator("#pool").select_option("mean")
    page.locator("#log").select_option("0")
    page.locator(".map").focus()
    for key in ("ArrowDown", "+", "+"):
        page.keyboard.press(key)
    page.get_by_role("button", name="Español").click()
    eventually(page, lambda: "lang=es" in page.url)
    said = page.url.partition("#")[2]
    for part in ("view=map", "layer=1", "head=1", "pool=mean", "log=0", "lang=es", "zoom=", "row="):
        assert part in said
    again = open_page(recording, place=f"#{said}").page
    readouts = [one.locator(".readout") for one in (again, page)]
    eventually(again, lambda: readouts[0].inner_text() == readouts[1].inner_text())
    assert "mira a" in again.locator(".readout").inner_text()
    assert again.locator("#pool").input_value() == "mean"
    assert again.locator("#layer").input_value() == "1"
    assert again.locator("html").get_attribute("lang") == "es"


@pytest.mark.parametrize(
    "place",
    [
        "#view=nothing&layer=99&head=-1&row=1e9&col=x&pool=__proto__&zoom=NaN&x=Infinity&lang=fr",
        "#" + "%" * 50,
        "#view=constructor&log=2&layer=0.5&y=-3",
        "#lang=toString",
    ],
)
def test_what_the_address_says_in_vain_is_ignored(open_page, make, place):
    page = open_page(make(names=("one", "two"))[0], place=place).page
    assert page.locator('[role="tab"][aria-selected="true"]').inner_text() == "Heads"
    assert page.locator("#layer").input_value() == "0"


def test_a_changed_address_changes_the_page(open_page, make, eventually):
    opened = open_page(make()[0], place="#view=map&row=3&col=2")
    opened.page.evaluate("location.hash = 'view=map&row=9&col=1&head=1'")
    readout = opened.page.locator(".readout")
    eventually(opened.page, lambda: "t9 looks at t1" in readout.inner_text())
    assert opened.page.locator("#head").input_value() == "1"


def test_what_cannot_be_had_says_why(open_page, make):
    recording, _ = make()
    for layer in recording:
        layer.query = layer.key = None
        layer.key_length = 40
    for view, why in (
        ("map", "only statistics were kept"),
        ("patches", "how the tokens lie on an image"),
        ("compare", "a comparison needs two"),
    ):
        page = open_page(recording, place=f"#view={view}").page
        assert why in page.locator("#view").inner_text()
        assert len(page.get_by_role("tab").all()) == 2


def test_hostile_text_is_visible_and_inert(open_page, make):
    recording, _ = make([*HOSTILE, *(f"t{i}" for i in range(12))], names=(HOSTILE[0] + '"',))
    recording.skipped = [(HOSTILE[1], HOSTILE[0])]
    html = render_recording(recording, other=recording)
    for view in ("map", "compare"):
        for at in range(len(HOSTILE)):
            opened = open_page(html, place=f"#view={view}&row={at}&col={at}")
            page = opened.page
            page.wait_for_timeout(50)
            text = page.locator(".readout").inner_text()
            if at < 2:
                assert HOSTILE[at][:20] in text
            assert len(text) < 600
            assert not re.search("[\0\u2028\u202e\u2066]", text)
            assert page.locator("#app img, #app script").count() == 0
    title = page.title()
    assert "</script>" in title
    assert len(title) < 400
    page.locator("header summary").click()
    assert "<!--<script>" in page.locator("header li").inner_text()
    assert HOSTILE[0][:20] in page.locator("#layer option").inner_text()


def test_two_recordings_side_by_side(open_page, make):
    (mine, (first,)), (theirs, (second,)) = make(40), make(40, seed=77)
    opened = open_page(render_recording(mine, other=theirs), place="#view=compare&row=30&col=7")
    page = opened.page
    rows = page.locator(".strongest tbody tr")
    for _ in range(100):
        page.wait_for_timeout(100)
        if rows.count() == 10:
            break
    said = re.search(
        r"t30 looks at t7: (\S+) in the first, (\S+) in the second, difference (\S+)\.",
        page.locator(".readout").inner_text(),
    )
    found = [opened.number(text) for text in said.groups()]
    a, b = first[0, 30, 7], second[0, 30, 7]
    assert found == pytest.approx([a, b, a - b], abs=2e-3)
    difference = first[0] - second[0]
    rows = page.locator(".strongest tbody tr").all()
    listed = [opened.number(row.locator("th, td").first.inner_text()) for row in rows]
    largest = sorted(abs(difference).ravel())[::-1][:10]
    assert [abs(value) for value in listed] == pytest.approx(largest, abs=2e-3)
    assert min(listed) < 0 < max(listed)
    page.locator(".map").first.focus()
    page.keyboard.press("ArrowDown")
    assert "t31 looks at t7" in page.locator(".readout").inner_text()
    assert page.locator(".map").count() == 3


def test_recordings_of_other_lengths_are_not_subtracted(open_page, make):
    html = render_recording(make(40)[0], other=make(41)[0])
    page = open_page(html, place="#view=compare").page
    assert "These two cannot be subtracted" in page.locator("#view").inner_text()
    html = render_recording(make(40, names=("a", "b"))[0], other=make(40)[0])
    page = open_page(html, place="#view=compare&layer=1").page
    assert "does not have this layer" in page.locator("#view").inner_text()


def test_a_page_that_cannot_be_drawn_says_so(open_page, make):
    html = render_recording(make()[0]).replace('"dtype":"u1"', '"dtype":"q9"')
    page = open_page(html, loud=True).page
    page.wait_for_selector("#failure-detail:not(:empty)")
    assert page.locator("#failure").is_visible()


def test_the_policy_allows_a_worker_of_its_own_and_nothing_else(make):
    html = render_recording(make(names=("one",))[0])
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html).group(1)
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["worker-src"] == "blob:"
    assert rules["trusted-types"] == "atento-worker"
    assert "connect-src" not in rules
    assert "unsafe" not in policy
    assert isinstance(make()[0], Recording)
