"""Both themes, every width, both languages, assistive technology, paper."""

import re

import pytest

pytestmark = pytest.mark.browser

VIEWS = ("heads", "arcs", "pair", "patches")

CONTRASTS = """() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (text) => {
    const [r, g, b] = rgb(text)
      .map((c) => c / 255)
      .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if ((rgb(colour)[3] ?? 1) === 1) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  return [...document.querySelectorAll("#view *")]
    .filter((node) => node.offsetParent && !node.disabled && node.tagName !== "OPTION")
    .filter((node) => [...node.childNodes].some((one) => one.nodeType === 3 && one.data.trim()))
    .map((node) => {
      const [a, b] = [light(getComputedStyle(node).color), light(ground(node))];
      const what = `${node.tagName}.${node.className} ${node.textContent.slice(0, 20)}`;
      return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), what];
    }).filter(([ratio]) => ratio < 4.5);
}"""

NAMELESS = """() => {
  const name = (node) =>
    node.getAttribute("aria-label") || node.labels?.[0]?.textContent.trim()
    || node.textContent.trim() || node.title;
  const focusable = "button, select, input, summary, [tabindex]";
  const all = [...document.querySelectorAll(`#view :is(${focusable})`)];
  const bad = all.filter((node) => !name(node));
  const ids = [...document.querySelectorAll("[id]")].map((node) => node.id);
  const twice = ids.filter((id, at) => ids.indexOf(id) !== at);
  const unheard = [...document.querySelectorAll("#view canvas:not([aria-hidden])")];
  return [...bad.map((node) => node.outerHTML.slice(0, 80)), ...twice, ...unheard.map(String)];
}"""


@pytest.fixture
def image(samples):
    made = samples.recorded(
        heads=3, queries=18, tokens=["[CLS]", *(f"p{i}" for i in range(16)), "[END]"]
    )
    made.recording.patches = (4, 4, 1, 1)
    return made.recording


def everything_open(page, view):
    page.wait_for_selector(f"#tab-{view}[aria-selected=true]")
    for summary in page.locator("#view summary").all():
        summary.click()
    if view == "heads":
        page.select_option("#heads-sort", "entropy")
    if view == "arcs":
        page.locator("#arcs-head-2").click()
    if view == "pair":
        page.locator(".pair-box").focus()
        page.keyboard.press("ArrowRight")
    page.wait_for_timeout(150)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read_and_every_control_has_a_name(open_page, image, view, scheme):
    page = open_page(image, place=f"#view={view}&row=3&col=2", color_scheme=scheme).page
    everything_open(page, view)
    assert page.evaluate(CONTRASTS) == []
    assert page.evaluate(NAMELESS) == []


@pytest.mark.parametrize("view", VIEWS)
def test_no_width_makes_the_page_scroll_sideways(open_page, image, view):
    page = open_page(
        image, place=f"#view={view}&row=3&col=2", viewport={"width": 3840, "height": 900}
    ).page
    everything_open(page, view)
    for width in (3840, 1280, 820, 360):
        page.set_viewport_size({"width": width, "height": 800})
        page.wait_for_timeout(250)  # pictures are fitted anew a moment after the last change
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for canvas in page.locator("#view canvas").all()[:3]:
            box = canvas.bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width + 1


@pytest.mark.parametrize("view", VIEWS)
def test_the_language_is_switched_in_every_view(open_page, image, view):
    page = open_page(image, place=f"#view={view}&row=3&col=2").page
    everything_open(page, view)
    page.locator("#lang-es").click()
    page.wait_for_selector("html[lang=es]")
    everything_open(page, view)
    text = page.locator("#view").inner_text()
    assert "recording." not in text, "a word is missing"
    labels = [node.get_attribute("aria-label") for node in page.locator("#view [aria-label]").all()]
    for word in ("heads", "Order by", "Layer", "feature", "looks", "weight", "query", "As a table"):
        assert not re.search(rf"\b{word}\b", text), word
        assert not any(re.search(rf"\b{word}\b", label) for label in labels), word
    assert re.search(r"\d,\d{2}", text), "numbers have a decimal comma"
    assert not re.search(r"\d\.\d{4}", text)


def test_what_was_chosen_stays_when_the_language_changes(open_page, image):
    page = open_page(image).page
    page.select_option("#heads-sort", "entropy")
    page.locator("#lang-es").click()
    page.wait_for_selector("html[lang=es]")
    assert page.locator("#heads-sort").input_value() == "entropy"
    page.locator("#tab-arcs").click()
    page.wait_for_selector("#arcs-columns")
    page.select_option("#arcs-columns", "1")
    page.locator("#arcs-head-2").click()
    page.locator("#lang-en").click()
    page.wait_for_selector("html[lang=en]")
    assert page.locator("#arcs-columns").input_value() == "1"
    assert page.locator("#arcs-head-2").get_attribute("aria-pressed") == "true"


@pytest.mark.parametrize("view", ["arcs", "pair", "patches"])
def test_pictures_are_drawn_anew_on_white_paper(open_page, image, pixels, view):
    page = open_page(image, place=f"#view={view}&row=3&col=2", color_scheme="dark").page
    page.wait_for_selector("#view canvas")
    dark = pixels(page, "#view canvas")
    page.emulate_media(media="print", color_scheme="dark")
    for _ in range(20):  # the browser tells of the change when it has time
        light = pixels(page, "#view canvas")
        if light.shape != dark.shape or (light != dark).any():
            break
    else:
        pytest.fail("the picture on paper is the one of the dark screen")
    assert (light[..., 3] > 250).any()
