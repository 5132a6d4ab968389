"""Hostile tokens, the policy that would stop them, and a page that cannot be drawn."""

import dataclasses

import numpy as np
import pytest

from atento.views.page import render_page

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


def test_hostile_tokens_are_inert_and_visible(open_page, samples):
    x = np.eye(10)[None]
    opened = open_page(samples.given(x, x, x, tokens=HOSTILE))
    page = opened.page
    chips = page.locator(".tinted-chips .chip").all_inner_texts()
    assert chips[:7] == [
        "</script><img src=x onerror=alert(1)>",
        "<!--<script>",
        "aU+202EevilU+2066",
        "␀⏎⇥",
        "👩‍🚀",
        "U+2028",
        "U+D800",
    ]
    assert chips[7] == "x" * 40 + "…"
    assert chips[8:] == [HOSTILE[8], "{token}"]
    assert (
        page.evaluate(
            """document.querySelectorAll(
            "img, svg, body script:not(#data):not([type=module])").length"""
        )
        == 0
    )
    boxes = page.locator(".tinted-chips .hidden-char").all_inner_texts()
    assert boxes == ["U+202E", "U+2066", "␀", "⏎", "⇥", "U+2028", "U+D800"]
    raw = page.evaluate("document.getElementById('app').textContent")
    assert not set(raw) & set("\u202e\u2066\x00\u2028\ud800")
    assert not set(page.title()) & set("\u202e\u2066\x00\u2028\ud800")
    for row in range(10):
        opened.cell("weights", row, row).hover()
        assert opened.result() == opened.digits(
            float(np.exp(1 / 10**0.5) / (np.exp(1 / 10**0.5) + 9))
        )
    opened.cell("weights", 9, 8).hover()
    headline = page.locator("#panel .headline").inner_text()
    assert "{token}" in headline
    long = page.locator(".tinted-chips .chip bdi").nth(7).get_attribute("title")
    assert long == "x" * 1000 + "…"
    assert HOSTILE[8] in headline
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_hostile_tokens_on_canvas_and_as_text_are_inert(open_page, samples):
    tokens = [*HOSTILE, *(f"\u202e{i}" for i in range(20))]
    x = np.eye(30)[None]
    explanation = samples.given(x, x, x, tokens=tokens)
    opened = open_page(dataclasses.replace(explanation, model="\u202e<b>model"))
    page = opened.page
    page.locator("#step-weights .canvas-matrix").focus()
    page.keyboard.press("Control+End")
    page.locator("#step-weights summary").click()
    text = page.locator("#step-weights pre").inner_text()
    assert "</script><img src=x onerror=alert(1)>" in text
    assert "[U+202E]19" in text
    assert "U+202E<b>model" in page.locator(".model").inner_text()
    raw = page.evaluate("document.getElementById('app').textContent")
    assert not set(raw) & set("\u202e\u2066\x00\u2028\ud800")
    assert page.evaluate("document.querySelectorAll('#app img, #app script, #app b').length") == 0


def test_the_policy_stops_what_would_still_get_in(open_page, samples):
    """The page's tests would be worth little if its policy stopped nothing: try it."""
    opened = open_page(samples.journey(), loud=True)
    opened.page.wait_for_selector("#app:not([hidden])")
    outcome = opened.page.evaluate(
        """async () => {
          const blocked = [];
          document.addEventListener("securitypolicyviolation", (event) => {
            blocked.push(event.effectiveDirective);
          });
          const style = document.createElement("style");
          style.textContent = "h1 { color: red }";
          document.head.append(style);
          await fetch("https://example.invalid/").catch(() => {});
          try { document.body.innerHTML = "<b>x</b>"; } catch { blocked.push("trusted-types"); }
          await new Promise((done) => setTimeout(done, 50));
          return blocked;
        }"""
    )
    assert {"style-src-elem", "connect-src", "trusted-types"} <= set(outcome)
    assert opened.requests == [opened.url]


def test_without_script_the_page_says_so(open_page, samples):
    opened = open_page(samples.journey(), java_script_enabled=False)
    text = opened.page.locator("noscript").inner_text()
    assert "allow its script" in text
    assert "Permite" in text
    assert opened.page.locator("noscript p:visible").count() == 2
    opened.page.wait_for_timeout(3200)  # when the notice of failure would appear
    assert not opened.page.locator("#failure").is_visible()


def test_a_crash_is_said_in_words(open_page, samples):
    html = render_page(samples.journey()).replace('"arrays":[', '"arrays":[{"dtype":"f4"},')
    opened = open_page(html, loud=True)
    notice = opened.page.locator("#failure")
    notice.wait_for(state="visible")
    assert notice.evaluate("(node) => getComputedStyle(node).animationName") == "none", "at once"
    assert "could not be drawn" in notice.inner_text()
    assert "No se ha podido dibujar" in notice.inner_text()
    assert opened.page.locator("#failure-detail").inner_text()


def test_the_notice_of_failure_is_not_shown_otherwise(open_page, samples):
    opened = open_page(samples.journey())
    assert not opened.page.locator("#failure").is_visible()


def test_a_single_token(open_page, samples):
    x = np.ones((1, 1, 2))
    opened = open_page(samples.given(x, x, x, tokens=["only"]))
    opened.cell("weights", 0, 0).hover()
    assert opened.result() == "1.0000"
