"""The page of a training that was watched: curves, the film, the keyboard, the tables."""

import numpy as np
import pytest

import atento
from atento import InputError
from atento.views.page_shell import page_words
from atento.views.watch_page import MOST_CELLS, render_watched, watch_data
from watched_records import watched

pytestmark = pytest.mark.browser

READ = """
  const canvas = node.querySelector("canvas");
  const { width, height } = canvas;
  const copy = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  copy.drawImage(canvas, 0, 0);
  const { data } = copy.getImageData(0, 0, width, height);
"""

CANVAS = f"""(node) => {{{READ}
  return Array.from({{ length: height }}, (_, y) =>
    Array.from({{ length: width }}, (_, x) => data[4 * (y * width + x)]));
}}"""

ACCENTED = f"""(node) => {{{READ}
  let found = 0;
  for (let p = 0; p < data.length; p += 4)
    if (data[p] === 0xa3 && data[p + 1] === 0x15 && data[p + 2] === 0x5b) found++;
  return found;
}}"""


@pytest.fixture
def opened(open_page):
    def open_(record=None, lang="en", **options):
        html = render_watched(watched() if record is None else record, lang=lang)
        return open_page(html, **options)

    return open_


def card(page, head):
    return page.locator(".head-card").nth(head)


def darkest(page, head):
    """The column that every row of a head's map is darkest in (light theme)."""
    rows = np.array(card(page, head).evaluate(CANVAS))
    columns = set(rows.argmin(axis=1).tolist())
    assert len(columns) == 1
    return columns.pop()


def title(page):
    return page.locator("main h2").last.inner_text()


def readout(page):
    return page.locator(".watch-readout").inner_text()


def panel(page, name):
    return page.locator("figure", has=page.locator("figcaption", has_text=name)).locator(".curve")


def to_step(page, at):
    page.locator("#watch-step").fill(str(at))


def test_it_opens_at_the_last_step_with_the_induction_head(opened):
    page = opened().page
    assert "Looked at 4 times, up to step 400 of 800. Layers: 2; heads: 6" in page.inner_text(
        "header"
    )
    assert title(page) == "All heads at step 400"
    assert "Layer blocks.1, head 2, induction: induction 0.75" in readout(page)
    assert "Step 400: loss 1.2500" in readout(page)
    assert page.locator(".head-card[aria-current]").count() == 1
    assert card(page, 5).get_attribute("aria-current") == "true"
    legend = page.locator(".watch-legend li").all_inner_texts()
    assert sorted(legend) == ["induction", "other", "previous token"]


def test_the_film_shows_the_maps_of_the_step(opened):
    page = opened().page
    for at, step in enumerate((0, 10, 100, 400)):
        to_step(page, at)
        assert title(page) == f"All heads at step {step}"
        assert [darkest(page, head) for head in range(6)] == [
            (head % 3 + at) % 6 for head in range(6)
        ]
        roles = page.locator(".head-role").all_inner_texts()
        assert roles[1] == ("previous token" if at > 1 else "other")
        assert roles[5] == ("induction" if at > 2 else "other")
    page.locator("#watch-prompt").select_option("1")
    assert darkest(page, 0) == 5 - 3


def test_maps_that_are_pooled_can_be_seen_by_mean(opened):
    page = opened(watched(pools=2, side=4)).page
    largest = np.array(card(page, 0).evaluate(CANVAS)).min()
    page.locator("#watch-pool").select_option("mean")
    mean = np.array(card(page, 0).evaluate(CANVAS)).min()
    page.locator("#watch-colours").select_option("log")
    logarithm = np.array(card(page, 0).evaluate(CANVAS)).min()
    assert largest < logarithm < mean
    assert opened().page.locator("#watch-pool").count() == 0


def test_keys_walk_steps_and_heads(opened):
    page = opened().page
    panel(page, "key before").focus()
    page.keyboard.press("ArrowLeft")
    assert title(page) == "All heads at step 100"
    assert "Layer blocks.1, head 2" in readout(page)
    page.keyboard.press("Control+ArrowUp")  # the largest
    assert readout(page).startswith("Layer blocks.0, head 1, previous token: key before 0.88")
    page.keyboard.press("ArrowDown")
    assert "Layer blocks.1, head 2, other: key before 0.19" in readout(page)
    page.keyboard.press("Home")
    assert title(page) == "All heads at step 0"
    page.keyboard.press("End")
    assert title(page) == "All heads at step 400"
    page.locator("#watch-step").focus()
    page.keyboard.press("ArrowLeft")
    assert title(page) == "All heads at step 100"
    assert page.locator("#watch-step").get_attribute("aria-valuetext") == "100"
    card(page, 5).focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowLeft")
    assert (
        page.evaluate("document.activeElement.ariaLabel")
        == "Layer blocks.0, head 1: previous token"
    )
    assert "Layer blocks.0, head 1" in readout(page)


def test_one_tab_stop_for_all_heads(opened):
    page = opened().page
    assert page.locator('.head-card[tabindex="0"]').count() == 1


def test_pointing_names_the_nearest_line(opened):
    page = opened().page
    box = panel(page, "key before").bounding_box()
    x = box["x"] + box["width"] - 8
    page.mouse.move(x, box["y"] + 150 - 20 - 122 * 0.875)
    assert readout(page).startswith("Layer blocks.0, head 1, previous token: key before 0.88")
    assert "Step 400" in readout(page)
    page.mouse.move(box["x"] + 40, box["y"] + 150 - 20 - 122 * 0.125)
    assert "Layer blocks.0, head 0, other: key before 0.13" in readout(page).replace("0.12", "0.13")
    assert "Step 0: loss 4.2500" in readout(page)
    page.mouse.move(5, 5)
    assert "Layer blocks.1, head 2, induction" in readout(page)  # what is chosen
    page.mouse.click(x, box["y"] + 150 - 20 - 122 * 0.875)
    assert card(page, 1).get_attribute("aria-current") == "true"


def test_the_chosen_head_is_drawn_anew_in_the_accent(opened):
    """Pixels of the accent in the panel, along the line of the head."""
    page = opened().page
    assert panel(page, "induction").evaluate(ACCENTED) > 300
    assert panel(page, "loss").evaluate(ACCENTED) > 300
    to_step(page, 0)
    card(page, 0).click()
    assert panel(page, "induction").evaluate(ACCENTED) > 300


def test_with_calm_asked_for_it_moves_when_pressed_alone(opened):
    page = opened().page
    button = page.locator("#watch-play")
    assert button.inner_text() == "Next picture"
    button.click()
    assert title(page) == "All heads at step 0"
    button.click()
    page.wait_for_timeout(600)
    assert title(page) == "All heads at step 10"


WATCHED = """() => {
  window.told = [];
  const titles = document.querySelectorAll("main h2");
  const tell = () => {
    const now = [...titles].pop().innerText;
    const button = document.querySelector("#watch-play").innerText;
    if (window.told.at(-1)?.[0] !== now) window.told.push([now, button]);
  };
  const all = { childList: true, subtree: true, characterData: true };
  new MutationObserver(tell).observe(document.querySelector("main"), all);
}"""
"""Every title as the page has it, in its own time: a frame may be over before a test looks."""


def test_the_film_plays_to_its_end_and_can_be_stopped(opened, eventually):
    page = opened(reduced_motion="no-preference").page
    button = page.locator("#watch-play")
    assert button.inner_text() == "Play"
    page.wait_for_timeout(400)
    assert title(page) == "All heads at step 400"  # nothing moves by itself
    page.evaluate(WATCHED)
    button.click()
    eventually(page, lambda: page.evaluate("window.told.at(-1)?.[1]") == "Play")
    assert page.evaluate("window.told") == [
        ["All heads at step 0", "Stop"],
        ["All heads at step 10", "Stop"],
        ["All heads at step 100", "Stop"],
        ["All heads at step 400", "Play"],
    ]
    page.evaluate("document.querySelector('#watch-play').click()")
    page.evaluate("document.querySelector('#watch-play').click()")
    page.wait_for_timeout(700)
    assert (title(page), button.inner_text()) == ("All heads at step 0", "Play")


def test_the_tables_say_the_same(opened):
    record = watched()
    page = opened(record).page
    page.locator("summary").nth(0).click()
    rows = page.locator("table").nth(0).locator("tbody tr").all_inner_texts()
    assert rows[1].split("\t") == ["blocks.0", "1", "previous token", "key before 0.88", "100"]
    assert rows[5].split("\t") == ["blocks.1", "2", "induction", "induction 0.75", "400"]
    assert rows[0].split("\t")[2:] == ["other", "–", "–"]
    page.locator("summary").nth(1).click()
    page.locator("#watch-table").select_option("previous")
    lines = page.locator("table").nth(1).locator("tbody tr").all_inner_texts()
    expected = record["previous"].reshape(4, 6)
    for at, line in enumerate(lines):
        step, loss, *cells = line.split("\t")
        assert (int(step), float(loss)) == (record.steps[at], record.loss[at])
        np.testing.assert_allclose([float(cell) for cell in cells], expected[at], atol=6e-4)
    page.locator("#watch-table").select_option("duplicate")
    assert "–" in page.locator("table").nth(1).inner_text()


def test_a_statistic_that_no_prompt_has_has_no_panel(opened):
    page = opened().page
    names = page.locator("figcaption").all_inner_texts()
    assert names == [
        "loss",
        "induction",
        "key before",
        "own key",
        "first key",
        "uniformity",
        "entropy",
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_telephone_nothing_is_cut_and_all_can_be_read(opened, scheme):
    one = opened(viewport={"width": 360, "height": 740}, color_scheme=scheme)
    page = one.page
    for summary in page.locator("summary").all():
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert one.unreadable() == []
    widths = page.locator(".curve canvas").evaluate_all("all => all.map((c) => c.clientWidth)")
    assert all(200 <= width <= 360 for width in widths)


def test_both_languages(opened):
    one = opened(lang="es")
    page = one.page
    assert page.inner_text("h1") == page_words("es", "watch")["watch.title"]
    assert "Paso 400: pérdida 1,2500" in readout(page)
    to_step(page, 1)
    page.locator("#lang-en").click()
    assert page.inner_text("h1") == "How the heads of a model formed"
    assert title(page) == "All heads at step 10"
    assert page.evaluate("document.documentElement.lang") == "en"
    assert page.evaluate("document.activeElement.id") == "lang-en"


HOSTILE = "</script><img src=x onerror=alert(1)>\u202e\ud800"


def test_hostile_names_and_tokens_are_text(opened):
    page = opened(watched(text=HOSTILE, layers=(HOSTILE, "b"))).page
    assert page.locator("img, script[src], b, i").count() == 0
    for summary in page.locator("summary").all():
        summary.click()
    assert "</script><img" in page.locator("table").first.inner_text()
    assert page.locator("h3").first.inner_text().startswith("0 </script><img")
    assert "[U+202E]" in page.locator("h3").first.inner_text()


def test_a_training_that_has_just_begun(opened):
    """One look, no log, no role."""
    page = opened(watched(steps=(0,), log=False)).page
    assert title(page) == "All heads at step 0"
    assert "up to step 0 of 800" in page.inner_text("header")
    assert readout(page) == "Step 0: loss 4.2500."


def test_of_too_many_maps_the_film_has_fewer_pictures(monkeypatch):
    assert watch_data(watched())["frames"] == [0, 1, 2, 3]
    record = watched()
    cells = sum(maps.size for maps in record.maps)
    monkeypatch.setattr("atento.views.watch_page.MOST_CELLS", cells // 2)
    assert watch_data(record)["frames"] == [0, 2, 3]
    assert MOST_CELLS >= 2**24


def test_a_page_of_it_is_saved_and_refuses_what_it_has_not(tmp_path, open_page):
    path = tmp_path / "film.html"
    atento.save(watched(), path, lang="es")
    page = open_page(path.read_text("utf-8")).page
    assert page.evaluate("document.documentElement.lang") == "es"
    with pytest.raises(InputError, match="batch: is for other records"):
        atento.save(watched(), path, batch=1)
    with pytest.raises(InputError, match="lang must be one of"):
        atento.save(watched(), path, lang="fr")
