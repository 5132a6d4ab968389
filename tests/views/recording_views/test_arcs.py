"""Arcs: the links of a token as a list and as lines, by mouse, key and touch."""

import numpy as np
import pytest

from atento.masks import Causal, Explicit

pytestmark = pytest.mark.browser

STEP = 20  # pixels of a token
CANVAS = ".arcs-box canvas"


def strongest(weights, count=8):
    order = np.argsort(-weights, kind="stable")[:count]
    return [int(at) for at in order if weights[at] > 0]


def names(page, part):
    tables = page.locator(".arcs-side .plain")
    return [
        text.rstrip("₀₁₂₃₄₅₆₇₈₉") for text in tables.nth(part).locator("tbody th").all_inner_texts()
    ]


def numbers(page, part):
    cells = page.locator(".arcs-side .plain").nth(part).locator("tbody td").all_inner_texts()
    return [float(text.replace("×10⁻⁴", "e-4")) for text in cells]


def planted(strong, length=16, features=17, heads=1):
    """Heads whose queries look evenly at all keys, but for strong: query -> key."""
    query = np.zeros((1, heads, length, features))
    key = np.zeros((1, heads, length, features))
    for j in range(length):
        key[0, :, j, j] = 1
    for head, links in enumerate(strong):
        for i, j in links.items():
            query[0, head, i, j] = 60
    return {"query": query, "key": key, "queries": length, "heads": heads}


def coloured(image, paper):
    """(row, column): whether something is drawn there."""
    return (
        np.abs(image[..., :3] * (image[..., 3:] / 255) - paper * (image[..., 3:] / 255)).sum(-1)
        > 30
    )


@pytest.fixture
def lines(pixels):
    """Heights at which lines pass the middle between the columns, in CSS pixels."""

    def find(page, share=0.5):
        image = pixels(page, CANVAS)
        width = image.shape[1]
        room = min(170, width * 0.3)
        column = image[:, round(room + share * (width - 2 * room)), 3] > 60
        starts = np.flatnonzero(np.diff(np.r_[0, column.astype(int)]) == 1)
        stops = np.flatnonzero(np.diff(np.r_[column.astype(int), 0]) == -1)
        return [(a + b) / 2 for a, b in zip(starts, stops, strict=True)]

    return find


def test_the_list_names_the_strongest_links_of_a_token_both_ways(open_page, samples):
    made = samples.causal()
    page = open_page(made.recording, place="#view=arcs&head=1&row=9").page
    page.wait_for_selector(".arcs-side .plain")
    weights = made.weights[0, 1]
    looks, looked = strongest(weights[9]), strongest(weights[:, 9])
    assert names(page, 0) == [samples.SENTENCE[j] for j in looks]
    assert names(page, 1) == [samples.SENTENCE[i] for i in looked]
    np.testing.assert_allclose(numbers(page, 0), weights[9][looks], atol=5e-3)
    np.testing.assert_allclose(numbers(page, 1), weights[:, 9][looked], atol=5e-3)
    assert page.locator(".arcs-side h3").all_inner_texts() == [
        "the looks at",
        "the is looked at by",
    ]


def test_pointing_at_a_key_says_who_looks_at_it_and_leaving_goes_back(open_page, samples, settle):
    made = samples.causal()
    page = open_page(made.recording, place="#view=arcs&row=3").page
    page.wait_for_selector(".arcs-side .plain")
    box = page.locator(".arcs-box").bounding_box()
    page.mouse.move(box["x"] + box["width"] - 60, box["y"] + 5 * STEP + 8)
    settle(page)
    looked = strongest(made.weights[0, 0][:, 5])
    titles = page.locator(".arcs-side h3").all_inner_texts()
    assert titles == ["step looks at", "step is looked at by"]
    assert names(page, 1) == [samples.SENTENCE[i] for i in looked]
    page.mouse.move(5, 5)
    settle(page)
    assert page.locator(".arcs-side h3").first.inner_text() == "with looks at"


def test_a_line_leads_from_the_query_to_its_key_and_no_other_is_drawn(open_page, samples, lines):
    """Weights of 1/16 everywhere, below the threshold, but 2 -> 12 and 9 -> 4."""
    made = samples.recorded(**planted([{2: 12, 9: 4}]), tokens=[f"t{i}" for i in range(16)])
    assert made.weights[0, 0, 2, 12] > 0.99
    page = open_page(made.recording, place="#view=arcs").page
    page.locator(".arcs-box").focus()
    page.keyboard.press("Escape")  # all links
    for share in (0.25, 0.5, 0.75):
        expected = [(i + share * (j - i) + 0.5) * STEP for i, j in [(2, 12), (9, 4)]]
        np.testing.assert_allclose(lines(page, share), sorted(expected), atol=2)


def test_only_lines_above_the_threshold_are_drawn(open_page, samples, lines):
    made = samples.recorded(**planted([{2: 12}]), tokens=[f"t{i}" for i in range(16)])
    page = open_page(made.recording, place="#view=arcs").page
    page.locator(".arcs-box").focus()
    page.keyboard.press("Escape")
    set_threshold = """(value) => {
      const slider = document.getElementById("arcs-least");
      slider.value = Math.log10(value);
      slider.dispatchEvent(new Event("input"));
    }"""
    assert len(lines(page)) == 1
    page.evaluate(set_threshold, 0.05)  # 1/16 is above
    assert len(lines(page, 0.03)) > 10
    assert page.locator("#arcs-least + output, output").first.inner_text() == "0.05"
    page.evaluate(set_threshold, 0.07)
    assert len(lines(page)) == 1
    page.evaluate(set_threshold, 1)
    assert len(lines(page)) <= 1


def test_other_lines_fade_when_a_token_is_pointed_at(open_page, samples, pixels):
    made = samples.recorded(**planted([{2: 12, 9: 4}]), tokens=[f"t{i}" for i in range(16)])
    page = open_page(made.recording, place="#view=arcs&row=2").page
    image = pixels(page, CANVAS)
    width = image.shape[1]
    room = min(170, width * 0.3)

    def strength(i, j):
        x, y = round(room + 0.3 * (width - 2 * room)), round((i + 0.3 * (j - i) + 0.5) * STEP)
        return image[y - 3 : y + 4, x, 3].max()

    assert strength(2, 12) > 200
    assert 0 < strength(9, 4) < 60


def test_several_heads_have_colours_of_their_own_and_lie_side_by_side(open_page, samples, pixels):
    strong = [{2: 12}, {2: 12}, {9: 4}]
    made = samples.recorded(
        **planted(strong, heads=3, length=16), tokens=[f"t{i}" for i in range(16)]
    )
    page = open_page(made.recording, place="#view=arcs").page
    page.locator(".arcs-box").focus()
    page.keyboard.press("Escape")
    page.locator("#arcs-head-1").click()
    page.locator("#arcs-head-2").click()
    assert page.evaluate("document.activeElement.id") == "arcs-head-2"
    chips = [chip.get_attribute("aria-pressed") for chip in page.locator(".head-chip").all()]
    assert chips == ["true", "true", "true"]
    image = pixels(page, CANVAS)
    column = image[:, round(image.shape[1] / 2)]
    seen = [tuple(pixel[:3]) for pixel in column if pixel[3] > 240]
    palette = {(24, 144, 240), (120, 0, 0), (168, 144, 0)}
    assert all(
        any(np.abs(np.subtract(one, colour)).max() < 12 for one in seen) for colour in palette
    )
    page.locator("#arcs-head-1").click()
    assert page.locator("#arcs-head-1").get_attribute("aria-pressed") == "false"
    assert page.locator("#arcs-head-0").is_disabled(), "the head of the page is always drawn"


def test_at_most_six_heads_are_drawn(open_page, samples):
    page = open_page(samples.causal(heads=8).recording, place="#view=arcs").page
    for head in range(1, 6):
        page.locator(f"#arcs-head-{head}").click()
    assert page.locator(".head-chip[aria-pressed=true]").count() == 6
    assert page.locator("#arcs-head-6").is_disabled()
    assert page.locator("#arcs-head-5").is_enabled()
    heads = page.locator(".arcs-side .plain").first.locator("thead th").all_inner_texts()
    assert heads == ["token", "head", "weight"]


def test_cross_attention_has_two_texts_and_one_list(open_page, samples, settle):
    made = samples.recorded(queries=4, keys=9, kind="cross", layer="decoder.cross")
    page = open_page(made.recording, place="#view=arcs&row=2").page
    page.wait_for_selector(".arcs-side .plain")
    looks = strongest(made.weights[0, 0, 2])
    assert [int(name or 0) for name in names(page, 0)] == looks
    assert page.locator(".arcs-side .plain").count() == 1
    assert page.locator("#arcs-columns").count() == 0, "there is no one column of two texts"
    page.locator(".arcs-box").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Control+End")
    settle(page)
    assert page.locator(".arcs-side h3").inner_text() == "8 is looked at by"
    assert len(numbers(page, 0)) == 4


def test_queries_that_continue_a_text_stand_beside_their_own_keys(open_page, samples, settle):
    """Cached decoding: the three queries are the last of seven tokens."""
    seen = np.tril(np.ones((7, 7), bool))[None, None, 4:]
    words = list("abcdefg")
    made = samples.recorded(
        queries=3, keys=7, visible=seen, rule=Causal("end"), tokens=words, first_query=4
    )
    page = open_page(made.recording, place="#view=arcs&row=1").page
    page.wait_for_selector(".arcs-side .plain")
    assert page.locator(".arcs-side h3").all_inner_texts() == ["f looks at", "f is looked at by"]
    weights = made.weights[0, 0]
    assert names(page, 0) == [words[j] for j in strongest(weights[1])]
    assert names(page, 1) == [words[4 + i] for i in strongest(weights[:, 5])]
    box = page.locator(".arcs-box").bounding_box()
    page.mouse.move(box["x"] + 60, box["y"] + 6 * STEP + 8)
    settle(page)
    assert page.locator(".arcs-side h3").first.inner_text() == "g looks at"
    page.mouse.move(box["x"] + 60, box["y"] + 2 * STEP + 8)  # no query stands there
    settle(page)
    assert page.locator(".arcs-side h3").first.inner_text() == "f looks at"


def test_one_column_shows_both_ways(open_page, samples, pixels):
    made = samples.recorded(**planted([{2: 9, 13: 2, 5: 6}]), tokens=[f"t{i}" for i in range(16)])
    page = open_page(made.recording, place="#view=arcs&row=2").page
    page.select_option("#arcs-columns", "1")
    image = pixels(page, CANVAS)
    room = round(min(170, image.shape[1] * 0.3))
    beside = image[:, room + 12, 3]

    def strength(at):
        y = round((at + 0.5) * STEP)
        return beside[y - 4 : y + 5].max()

    assert min(strength(at) for at in (2, 9, 13)) > 100
    assert max(strength(at) for at in (5, 6)) < 60
    assert strength(0) == 0


def test_the_keyboard_walks_tokens_and_opens_the_strongest_pair(open_page, samples, settle):
    made = samples.causal()
    page = open_page(made.recording, place="#view=arcs&head=2").page
    page.locator(".arcs-box").focus()
    for key, titles in [
        ("ArrowDown", ["journey looks at", "journey is looked at by"]),
        ("PageDown", ["then looks at", "then is looked at by"]),
        ("ArrowUp", ["and looks at", "and is looked at by"]),
        ("ArrowRight", ["and looks at", "and is looked at by"]),
        ("Control+Home", ["Your looks at", "Your is looked at by"]),
        ("Control+End", [". looks at", ". is looked at by"]),
    ]:
        page.keyboard.press(key)
        settle(page)
        assert page.locator(".arcs-side h3").all_inner_texts() == titles, key
    page.wait_for_url(lambda url: "col=13" in url)
    assert "row=0" in page.url, "the last query was the first token"
    page.keyboard.press("Control+End")
    page.keyboard.press("Home")
    settle(page)
    page.keyboard.press("Enter")
    page.wait_for_selector("#tab-pair[aria-selected=true]")
    row = int(page.locator("#pair-row").input_value())
    col = int(page.locator("#pair-col").input_value())
    assert (row, col) == (13, int(made.weights[0, 2, 13].argmax()))
    assert page.locator("#head").input_value() == "2"


def test_a_tap_pins_a_token(open_page, samples, settle):
    made = samples.causal()
    page = open_page(
        made.recording,
        place="#view=arcs",
        viewport={"width": 360, "height": 740},
        has_touch=True,
    ).page
    page.wait_for_selector(".arcs-side .plain")
    page.locator(".arcs-box").tap(position={"x": 40, "y": 6 * STEP + 8})
    settle(page)
    assert page.locator(".arcs-side h3").first.inner_text() == ", looks at"
    page.wait_for_url(lambda url: "row=6" in url)


def test_a_thousand_tokens_scroll_in_a_constant_number_of_nodes(open_page, samples, pixels, settle):
    count = "document.querySelectorAll('#view *').length"
    few = open_page(samples.causal(20, heads=2).recording, place="#view=arcs").page
    few.wait_for_selector(".arcs-side .plain")
    made = samples.causal(1000, heads=2)
    page = open_page(made.recording, place="#view=arcs").page
    page.wait_for_selector(".arcs-side .plain")
    difference = page.evaluate(count) - few.evaluate(count)
    assert abs(difference) <= 40, "the lists hold at most eight links"
    assert page.evaluate("document.querySelector('.arcs-box').scrollHeight") == 1000 * STEP
    page.locator(".arcs-box").focus()
    page.keyboard.press("Control+End")
    settle(page)
    weights = made.weights[0, 0]
    np.testing.assert_allclose(numbers(page, 0), weights[999][strongest(weights[999])], atol=5e-3)
    image = pixels(page, CANVAS)
    assert image.shape[0] < 900
    assert image[-3 * STEP :, :170, 3].any(), "the last tokens are written"


def test_a_query_that_sees_nothing_has_no_links(open_page, samples):
    seen = np.tril(np.ones((6, 6), bool), -1)[None, None]
    made = samples.recorded(queries=6, visible=seen, rule=Explicit(seen), tokens=list("abcdef"))
    page = open_page(made.recording, place="#view=arcs&row=0").page
    page.wait_for_selector(".arcs-side .plain")
    assert numbers(page, 0) == []
    assert len(numbers(page, 1)) == 5


def test_the_address_says_which_token(open_page, samples):
    page = open_page(samples.causal().recording, place="#view=arcs&row=3").page
    page.wait_for_selector(".arcs-side .plain")
    page.evaluate("location.hash = '#view=arcs&row=5'")
    page.locator(".arcs-side h3", has_text="step looks at").wait_for()
    page.evaluate("location.hash = '#view=arcs&row=99'")
    page.locator(".arcs-side h3", has_text="step looks at").wait_for()


def test_labels_are_tinted_by_the_weight_of_the_token_that_is_pointed_at(
    open_page, samples, pixels
):
    made = samples.recorded(**planted([{2: 12}]), tokens=[f"t{i}" for i in range(16)])
    page = open_page(made.recording, place="#view=arcs&row=2").page
    page.locator(".arcs-box").focus()

    def tints(x):
        return [pixels(page, CANVAS)[i * STEP + 3, x, 3] for i in (11, 12, 13, 2)]

    assert np.array(tints(-3)) == pytest.approx([8, 126, 8, 8], abs=12), "weights 1 and 1/17"
    page.keyboard.press("ArrowRight")
    for _ in range(10):
        page.keyboard.press("ArrowDown")
    assert page.locator(".arcs-side h3").nth(1).inner_text() == "t12 is looked at by"
    assert np.array(tints(3)) == pytest.approx([8, 8, 8, 126], abs=12)


def test_lines_of_queries_out_of_view_reach_into_it(open_page, samples, lines):
    made = samples.recorded(
        **planted([{190: 3, 60: 199}], length=200, features=200),
        tokens=[f"t{i}" for i in range(200)],
    )
    page = open_page(made.recording, place="#view=arcs").page
    page.locator(".arcs-box").focus()
    page.keyboard.press("Escape")
    expected = (3 + 0.06 * 187 + 0.5) * STEP
    for _ in range(20):  # rows out of view are computed between frames
        found = lines(page, 0.94)
        if found:
            break
    np.testing.assert_allclose(found, [expected], atol=3)
