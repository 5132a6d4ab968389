"""The map in a real browser: what it shows, how it moves, what it says."""

import re
from itertools import pairwise

import numpy as np
import pytest

from atento.views.recording_page import render_recording

pytestmark = pytest.mark.browser

PAIR = re.compile(r"t(\d+) (?:looks at|may not look at) t(\d+)[^.]*? weight (\S+)\. q")


def settled(opened, wait=150):
    opened.page.wait_for_timeout(wait)
    return opened.page.locator(".readout").inner_text()


def read(opened):
    """(query, key, weight) as the page says them."""
    row, col, weight = PAIR.search(settled(opened)).groups()
    return int(row), int(col), opened.number(weight)


def strongest(opened, count=10):
    rows = opened.page.locator(".strongest tbody tr")
    for _ in range(100):
        if rows.count() == count:
            break
        opened.page.wait_for_timeout(100)
    opened.page.wait_for_timeout(500)  # tiles that came last
    rows = opened.page.locator(".strongest tbody tr").all()
    cells = [[td.inner_text() for td in row.locator("th, td").all()] for row in rows]
    return [(int(q[1:]), int(k[1:]), opened.number(w)) for w, q, k in cells]


@pytest.mark.parametrize(("row", "col"), [(0, 0), (39, 0), (17, 9), (20, 20)])
def test_a_pair_is_told_as_python_computes_it(open_page, make, row, col):
    recording, (dense,) = make()
    opened = open_page(recording, place=f"#view=map&head=1&row={row}&col={col}")
    assert read(opened) == (row, col, pytest.approx(dense[1, row, col], abs=2e-3))
    text = opened.page.locator(".readout").inner_text()
    layer = recording[0]
    dot = float(layer.query[0, 1, row] @ layer.key[0, 1, col])
    said = re.search(r"q·k = (\S+), log-sum-exp of the row = (\S+)\.", text)
    assert opened.number(said.group(1)) == pytest.approx(dot, abs=2e-2)
    assert opened.number(said.group(2)) == pytest.approx(layer.lse[0, 1, row], abs=6e-5)


def test_a_pair_that_may_not_be_seen_weighs_nothing(open_page, make):
    opened = open_page(make()[0], place="#view=map&row=3&col=30")
    assert "t3 may not look at t30: weight 0." in settled(opened)


def test_what_is_pointed_at_is_what_is_drawn(open_page, make):
    """Colours under the pointer are those of the weight that is told."""
    recording, (dense,) = make(24, sharp=2.5)
    opened = open_page(recording, place="#view=map&log=0")
    page = opened.page
    page.wait_for_timeout(400)
    page.locator(".map canvas").scroll_into_view_if_needed()
    box = page.locator(".map canvas").bounding_box()
    seen = {}
    for x, y in np.random.default_rng(2).uniform(0.25, 0.98, (30, 2)):
        at = box["x"] + x * min(box["width"], box["height"]), box["y"] + y * box["height"]
        page.mouse.move(*at)
        found = PAIR.search(page.locator(".readout").inner_text())
        if not found:
            continue
        row, col, weight = int(found[1]), int(found[2]), opened.number(found[3])
        assert weight == pytest.approx(dense[0, row, col], abs=2e-3)
        pixel = page.evaluate(
            """([x, y]) => {
              const canvas = document.querySelector(".map canvas");
              const box = canvas.getBoundingClientRect();
              const scale = canvas.width / box.width;
              const often = { willReadFrequently: true };
              const copy = new OffscreenCanvas(1, 1).getContext("2d", often);
              copy.drawImage(canvas, -(x - box.left) * scale, -(y - box.top) * scale);
              return [...copy.getImageData(0, 0, 1, 1).data];
            }""",
            at,
        )
        if row >= col:
            seen[weight] = sum(pixel[:3])
    assert len(seen) > 8
    order = [seen[weight] for weight in sorted(seen)]
    assert all(a >= b - 12 for a, b in pairwise(order)), "darker is stronger"
    assert order[0] - order[-1] > 100


def zoom_of(page):
    """As the address says it; 0 where it says nothing."""
    said = re.search(r"zoom=(-?[\d.]+)", page.url)
    return float(said.group(1)) if said else 0.0


INK = """() => {
  const canvas = document.querySelector(".map canvas");
  const often = { willReadFrequently: true };
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", often);
  copy.drawImage(canvas, 0, 0);
  const { data } = copy.getImageData(200, 200, 300, 300);
  return data.reduce((sum, value) => sum + value, 0) / data.length;
}"""


def test_pooling_colours_and_theme_are_drawn_anew(open_page, make, eventually):
    opened = open_page(make(900, heads=1)[0], place="#view=map")
    assert len(strongest(opened)) == 10
    page = opened.page
    largest = page.evaluate(INK)
    page.locator("#pool").select_option("mean")
    eventually(page, lambda: page.evaluate(INK) > largest + 3)  # means are smaller, so paler
    mean = page.evaluate(INK)
    page.locator("#log").select_option("0")
    eventually(page, lambda: page.evaluate(INK) > mean + 5)  # most weights are small
    linear = page.evaluate(INK)
    page.emulate_media(color_scheme="dark")
    eventually(page, lambda: page.evaluate(INK) < linear - 60)


@pytest.mark.parametrize("tokens", [300, 900])
def test_the_strongest_in_view_are_the_strongest(open_page, make, tokens):
    """Of 900 tokens a cell holds 2 × 2 weights: each of the largest is looked into."""
    recording, (dense,) = make(tokens, sharp=1.2)
    opened = open_page(recording, place="#view=map&head=1")
    found = strongest(opened)
    order = np.argsort(dense[1], axis=None)[::-1][:10]
    wanted = [dense[1].flat[p] for p in order]
    assert [weight for _, _, weight in found] == pytest.approx(wanted, abs=2e-3)
    for row, col, weight in found:
        assert weight == pytest.approx(dense[1, row, col], abs=2e-3)
    opened.page.get_by_role("button", name="Next strongest in view").click()
    assert read(opened)[:2] == found[0][:2]
    opened.page.get_by_role("button", name="Next strongest in view").click()
    assert read(opened)[:2] == found[1][:2]
    opened.page.locator(".strongest button").nth(6).click()
    assert read(opened)[:2] == found[6][:2]


def test_in_a_part_of_the_map_only_that_part_counts(open_page, make):
    recording, (dense,) = make(300)
    opened = open_page(recording, place="#view=map&zoom=-4&x=100&y=200")
    for row, col, weight in strongest(opened):
        assert abs(row - 200) < 40
        assert abs(col - 100) < 60
        assert weight == pytest.approx(dense[0, row, col], abs=2e-3)


def test_cells_of_a_long_text_pool_what_python_pools(open_page, make, monkeypatch):
    """Coarse levels come with the page, here from 4 × 4 on, finer ones from the worker."""
    monkeypatch.setattr("atento.views.recording_data.OVERVIEW_FROM", 1000)
    monkeypatch.setattr("atento.views.recording_data.OVERVIEW", 500)
    monkeypatch.setattr("atento.views.recording_data.FINEST", 2)
    recording, (dense,) = make(1500, heads=1, sharp=1.0)
    opened = open_page(recording, place="#view=map&row=1200&col=700")
    layer, sides = recording[0], set()
    for _ in range(5):
        for _ in range(50):
            text = settled(opened)
            cell = re.search(r"pools (\d+) × \d+ weights: mean (\S+), largest (\S+)\.", text)
            if cell:
                break
        if not cell:
            break
        side = int(cell.group(1))
        sides.add(side)
        zoom = side.bit_length() - 1
        for pool, said in (("mean", cell.group(2)), ("max", cell.group(3))):
            row0, col0 = 1200 // side * side, 700 // side * side
            wanted = layer.tile(0, row0, col0, zoom, 1, pool)[0, 0]
            assert opened.number(said) == pytest.approx(wanted, rel=5e-3, abs=1e-4)
        opened.page.get_by_role("button", name="Zoom in").click()
        opened.page.wait_for_timeout(300)
    assert sides == {4, 2}
    assert read(opened) == (1200, 700, pytest.approx(dense[0, 1200, 700], abs=2e-3))


def test_nodes_do_not_grow_with_the_text(open_page, make):
    count = []
    for tokens in (30, 300, 1500):
        opened = open_page(make(tokens, heads=1)[0], place="#view=map")
        assert len(strongest(opened)) == 10
        count.append(opened.page.evaluate("document.querySelectorAll('*').length"))
    assert max(count) - min(count) <= 12, count


def test_everything_can_be_reached_by_keyboard(open_page, make, eventually):
    recording, (dense,) = make(40)
    opened = open_page(recording, place="#view=map&row=20&col=10")
    page = opened.page
    page.locator(".map").focus()
    for key, place in [
        ("ArrowDown", (21, 10)),
        ("ArrowRight", (21, 11)),
        ("ArrowUp", (20, 11)),
        ("ArrowLeft", (20, 10)),
        ("Shift+ArrowDown", (30, 10)),
        ("Shift+ArrowDown", (39, 10)),
        ("Shift+ArrowLeft", (39, 0)),
    ]:
        page.keyboard.press(key)
        assert read(opened) == (*place, pytest.approx(dense[0][place], abs=2e-3))
    for key in ("+", "+", "-"):
        page.keyboard.press(key)
    eventually(page, lambda: "zoom=" in page.url)
    page.keyboard.press("Home")
    eventually(page, lambda: "zoom=" not in page.url)
    assert page.locator(".map").get_attribute("role") == "application"
    assert "layer 0, head 0" in page.locator(".map").get_attribute("aria-label")
    assert page.locator(".readout").get_attribute("aria-live") == "polite"


def test_drag_wheel_and_tap_move_the_map(open_page, make, eventually):
    opened = open_page(make(300)[0], place="#view=map")
    page = opened.page
    page.wait_for_timeout(300)
    page.locator(".map canvas").scroll_into_view_if_needed()
    box = page.locator(".map canvas").bounding_box()
    x, y = box["x"] + 330, box["y"] + box["height"] - 150
    page.mouse.click(x, y)
    before = read(opened)
    page.mouse.wheel(0, -700)
    page.wait_for_timeout(300)
    page.mouse.click(x, y)
    assert abs(read(opened)[0] - before[0]) <= 1, "the place under the pointer stays"
    assert abs(read(opened)[1] - before[1]) <= 1
    page.mouse.down()
    page.mouse.move(x + 60, y - 40, steps=4)
    page.mouse.up()
    assert read(opened)[:2] == pytest.approx(before[:2], abs=1), "a drag chooses nothing"
    page.mouse.move(x + 60, y - 40)
    moved = read(opened)
    assert moved[:2] == pytest.approx(before[:2], abs=1), "the pair came along"
    page.mouse.dblclick(x, y)
    eventually(page, lambda: zoom_of(page) < -1)


def test_two_fingers_zoom(open_page, make, eventually):
    opened = open_page(make(300)[0], place="#view=map", has_touch=True)
    page = opened.page
    page.wait_for_timeout(300)
    page.locator(".map canvas").scroll_into_view_if_needed()
    session = page.context.new_cdp_session(page)
    box = page.locator(".map canvas").bounding_box()
    x, y = box["x"] + 350, box["y"] + box["height"] - 150

    def touch(kind, *points):
        at = [{"x": px, "y": py, "id": k} for k, (px, py) in enumerate(points)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})

    touch("touchStart", (x - 20, y), (x + 20, y))
    for apart in (40, 80, 120, 160):
        touch("touchMove", (x - apart, y), (x + apart, y))
    touch("touchEnd")
    eventually(page, lambda: zoom_of(page) < -1)  # eight times as far apart


@pytest.mark.parametrize(
    "worker",
    [
        "constructor() { throw 1; }",
        "constructor() { setTimeout(() => this.onerror(new Event('error')), 9); } postMessage() {}",
    ],
)
def test_without_workers_tiles_are_made_in_the_page(open_page, make, worker):
    recording, (dense,) = make(300)
    first = f"window.Worker = class {{ {worker} }};"
    found = strongest(open_page(recording, place="#view=map", first=first))
    assert len(found) == 10
    assert found[0][2] == pytest.approx(dense[0].max(), abs=2e-3)


def test_cross_attention_has_its_own_lengths_and_numbers_for_names(open_page, make):
    recording, (dense,) = make(50, causal=False, queries=23)
    opened = open_page(recording, place="#view=map&row=22&col=49&head=1")
    text = settled(opened)
    said = re.search(r"22 looks at 49 with weight (\S+)\.", text)
    assert opened.number(said.group(1)) == pytest.approx(dense[1, 22, 49], abs=2e-3)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(open_page, make, scheme):
    opened = open_page(make()[0], place="#view=map&row=9&col=3", color_scheme=scheme)
    opened.page.wait_for_timeout(700)
    assert opened.unreadable() == []


@pytest.mark.parametrize("width", [360, 1280, 3840])
def test_no_width_makes_the_page_scroll_sideways(open_page, make, width):
    html = render_recording(make(300)[0], other=make(300, seed=9)[0])
    for view in ("map", "compare"):
        opened = open_page(
            html, place=f"#view={view}&row=9&col=3", viewport={"width": width, "height": 800}
        )
        opened.page.wait_for_timeout(700)
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
