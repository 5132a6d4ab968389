"""The grid of all heads: which come, in which order, and what their small maps show."""

import numpy as np
import pytest

pytestmark = pytest.mark.browser


def labels(page):
    return [node.get_attribute("aria-label") for node in page.locator(".head-card").all()]


def label(row):
    return f"Layer {row['layer']}, head {row['head']}: {row['role']}"


def test_every_head_has_a_card_with_its_number_and_role_layer_by_layer(open_page, samples):
    recording = samples.causal(layers=2, heads=5).recording
    page = open_page(recording).page
    assert labels(page) == [label(row) for row in recording.summary()]
    assert page.locator(".heads h3").all_inner_texts() == ["0 layers.0.attn", "1 layers.1.attn"]
    assert page.locator(".head-row").nth(1).locator(".head-name").all_inner_texts() == list("01234")
    assert "10 of 10 heads" in page.locator("#view").inner_text()


def test_a_small_map_is_darker_where_weights_are_larger(open_page, samples, pixels):
    made = samples.recorded(heads=2, queries=7, keys=11)
    page = open_page(made.recording).page
    for head in range(2):
        image = pixels(page, f".head-card:nth-child({head + 1}) canvas")
        assert image.shape == (7, 11, 4)
        light = image[..., :3].sum(-1).ravel()[np.argsort(made.weights[0, head].ravel())]
        assert np.all(np.diff(light) <= 3), "the order of the colours is not that of the weights"
        assert light[0] - light[-1] > 150
        red, _, blue, _ = image.reshape(-1, 4)[made.weights[0, head].argmax()]
        assert blue > red + 40, "weights are blue"


def test_small_maps_follow_the_theme(open_page, samples, pixels):
    made = samples.causal()
    page = open_page(made.recording, color_scheme="dark").page
    dark = pixels(page, ".head-card canvas")
    page.emulate_media(color_scheme="light")
    light = pixels(page, ".head-card canvas")
    assert dark[0, -1, :3].sum() < 150 < 700 < light[0, -1, :3].sum()


def test_heads_are_sorted_by_any_number_the_largest_first(open_page, samples):
    recording = samples.causal(layers=3, heads=4).recording
    page = open_page(recording).page
    rows = list(recording.summary())
    for number in ("entropy", "previous", "distance_mean", "uniform"):
        page.select_option("#heads-sort", number)
        expected = sorted(rows, key=lambda row: -row[number])
        assert labels(page) == [label(row) for row in expected]
        shown = page.locator(".head-name").first.inner_text()
        assert shown.endswith(f"{expected[0][number]:.3f}".replace("-", "−"))
    page.select_option("#heads-sort", "layer")
    assert labels(page) == [label(row) for row in rows]


def test_a_number_sifts_heads(open_page, samples):
    recording = samples.causal(layers=2, heads=4).recording
    page = open_page(recording).page
    assert page.locator("#heads-least").count() == 0
    page.select_option("#heads-sort", "first")
    values = sorted(row["first"] for row in recording.summary())
    least = (values[4] + values[5]) / 2
    page.evaluate(
        """(least) => {
          const slider = document.getElementById("heads-least");
          slider.value = least;
          slider.dispatchEvent(new Event("input"));
        }""",
        least,
    )
    kept = [label(row) for row in recording.summary() if row["first"] >= least]
    assert sorted(labels(page)) == sorted(kept)
    assert len(kept) == 3
    assert "3 of 8 heads" in page.locator("#view [role=status]").inner_text()
    assert page.locator(".choices output").inner_text() == f"{least:.4f}"
    page.select_option("#heads-sort", "entropy")
    assert len(labels(page)) == 8


def test_a_role_sifts_heads(open_page, samples):
    made = samples.causal(layers=2, heads=4, spread=4.0)
    roles = [row["role"] for row in made.recording.summary()]
    role = next(role for role in roles if role != roles[0])
    page = open_page(made.recording).page
    page.select_option("#heads-role", role)
    assert len(labels(page)) == roles.count(role)
    assert all(one.endswith(f": {role}") for one in labels(page))
    assert f"{role} ({roles.count(role)})" in page.locator("#heads-role").inner_text()


def test_heads_without_the_number_come_last(open_page, samples):
    made = samples.causal(layers=2, heads=2)
    first = made.recording[0]
    del first.statistics["entropy"], first.axes["entropy"]
    page = open_page(made.recording).page
    page.select_option("#heads-sort", "entropy")
    page.locator("#view summary").click()
    for _ in range(2):  # from the largest, and from the smallest
        assert [one[:21] for one in labels(page)[2:]] == ["Layer layers.0.attn, "] * 2
        assert page.locator(".head-name").last.inner_text().endswith("–")
        page.locator(".plain th[aria-sort] button").click()


def test_the_table_says_the_same_and_its_headings_sort(open_page, samples, read_table):
    recording = samples.causal(layers=2, heads=3).recording
    page = open_page(recording).page
    page.locator("#view summary").click()
    titles = page.locator("#view .plain thead th").all_inner_texts()
    rows = list(recording.summary())
    table = read_table(page, "#view")
    assert [line[:3] for line in table] == [
        [f"{row['layer'][7]} {row['layer']}", str(row["head"]), row["role"]] for row in rows
    ]
    at = titles.index("entropy")
    assert [line[at] for line in table] == [f"{row['entropy']:.4f}" for row in rows]
    heading = page.locator("#view .plain thead th", has_text="entropy")
    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    assert page.evaluate("document.activeElement.textContent") == "entropy"
    down = [line[at] for line in read_table(page, "#view")]
    assert down == sorted(down, reverse=True)
    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    assert [line[at] for line in read_table(page, "#view")] == down[::-1]
    assert labels(page)[0].startswith(f"Layer {rows[0]['layer'][:7]}")


def test_a_head_opens_its_map_by_mouse_and_key(open_page, samples):
    page = open_page(samples.causal(layers=2, heads=4).recording).page
    page.locator(".head-card").nth(6).click()
    page.wait_for_selector("#tab-map[aria-selected=true]")
    assert [page.locator(f"#{name}").input_value() for name in ("layer", "head")] == ["1", "2"]
    page.locator("#tab-heads").click()
    page.wait_for_selector(".head-card")
    assert (
        page.locator(".head-card[aria-current]")
        .get_attribute("aria-label")
        .startswith("Layer layers.1.attn, head 2")
    )
    page.locator(".head-card[tabindex='0']").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_selector("#tab-map[aria-selected=true]")
    assert [page.locator(f"#{name}").input_value() for name in ("layer", "head")] == ["0", "1"]


def test_the_grid_is_one_tab_stop_and_is_walked_by_arrows(open_page, samples):
    page = open_page(samples.causal(layers=3, heads=4).recording).page
    assert page.locator(".heads [tabindex='0']").count() == 1
    page.locator(".head-card").first.focus()
    where = """[...document.querySelectorAll(".head-card")].indexOf(document.activeElement)"""
    for key, place in [
        ("ArrowLeft", 0), ("ArrowRight", 1), ("ArrowDown", 5), ("ArrowDown", 9), ("ArrowDown", 9),
        ("ArrowRight", 10), ("ArrowUp", 6), ("End", 11), ("ArrowRight", 11), ("Home", 0),
        ("ArrowUp", 0),
    ]:  # fmt: skip
        page.keyboard.press(key)
        assert page.evaluate(where) == place, key
    assert page.locator(".heads [tabindex='0']").count() == 1
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
    assert float(outline.removesuffix("px")) >= 2


def test_nodes_grow_with_heads_and_not_with_tokens(open_page, samples):
    count = "document.querySelectorAll('.heads *').length"
    few = open_page(samples.causal(8, layers=6, heads=12).recording).page.evaluate(count)
    long = open_page(samples.causal(90, layers=6, heads=12).recording).page.evaluate(count)
    assert few == long
    assert few < 5 * 72


def test_a_recording_of_statistics_alone_has_its_heads(open_page, samples):
    made = samples.causal(heads=2)
    made.recording[0].query = made.recording[0].key = None
    page = open_page(made.recording).page
    assert len(labels(page)) == 2
    assert page.locator("#tab-arcs").count() == 0


def test_small_maps_show_the_mean_or_the_largest_weight(open_page, samples, pixels):
    """Of 96 tokens a cell pools 2 × 2 weights; above the diagonal half of them are hidden."""
    made = samples.causal(96, heads=1, spread=3.0)
    page = open_page(made.recording).page
    light = {}
    for pool in ("mean", "max"):
        page.select_option("#pool", pool)
        image = pixels(page, ".head-card canvas")
        assert image.shape == (48, 48, 4)
        blocks = made.weights[0, 0].reshape(48, 2, 48, 2)
        cells = getattr(blocks, pool)((1, 3))
        light[pool] = image[..., :3].sum(-1)
        assert np.all(np.diff(light[pool].ravel()[np.argsort(cells.ravel())]) <= 3)
    assert light["mean"].mean() > light["max"].mean() + 5
