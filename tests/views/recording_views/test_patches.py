"""Patches: what a query looks at, where the patches lie."""

import numpy as np
import pytest

pytestmark = pytest.mark.browser

ROWS, COLS, BEFORE, AFTER = 3, 5, 2, 1
TOKENS = ["[CLS]", "[REG]", *(f"p{i}" for i in range(ROWS * COLS)), "[END]"]


@pytest.fixture
def image(samples):
    made = samples.recorded(heads=2, queries=18, tokens=TOKENS)
    made.recording.patches = (ROWS, COLS, BEFORE, AFTER)
    return made


def grid(weights):
    return weights[BEFORE : BEFORE + ROWS * COLS].reshape(ROWS, COLS)


def cells(picture):
    """The brightness in the middle of each patch."""
    high, wide = picture.shape[0] / ROWS, picture.shape[1] / COLS
    return np.array(
        [
            [picture[int((r + 0.3) * high), int((c + 0.3) * wide), :3].sum() for c in range(COLS)]
            for r in range(ROWS)
        ]
    )


def assert_shows(picture, weights):
    """Darker patches have larger weights."""
    order = np.argsort(grid(weights).ravel())
    light = cells(picture).ravel()[order]
    assert np.all(np.diff(light) <= 6)
    assert light[0] - light[-1] > 100


@pytest.mark.parametrize("log", [0, 1])
def test_patches_are_darker_where_the_query_looks(open_page, image, pixels, log):
    page = open_page(image.recording, place=f"#view=patches&head=1&row=0&log={log}").page
    page.wait_for_selector(".patches-box")
    weights = image.weights[0, 1, 0]
    assert_shows(pixels(page, ".patches-box canvas"), weights)
    row, col = np.unravel_index(grid(weights).argmax(), (ROWS, COLS))
    said = page.locator("#view .headline").inner_text()
    assert said.startswith(f"[CLS] looks most at patch ({row}, {col}), with weight ")
    assert float(said.split()[-1]) == pytest.approx(grid(weights).max(), abs=5e-3)


def test_a_patch_becomes_the_query_when_it_is_chosen(open_page, image, pixels):
    page = open_page(image.recording, place="#view=patches&row=0").page
    box = page.locator(".patches-box canvas").bounding_box()
    cell = box["width"] / COLS
    assert box["height"] == pytest.approx(cell * ROWS, abs=1)
    page.mouse.click(box["x"] + 3.5 * cell, box["y"] + 1.5 * cell)
    page.mouse.move(5, 5)
    token = BEFORE + COLS + 3
    page.wait_for_url(lambda url: f"row={token}" in url)
    said = page.locator("#view .headline").inner_text()
    assert said.startswith("patch (1, 3) looks most at ")
    picture = pixels(page, ".patches-box canvas")
    weights = image.weights[0, 0, token].copy()
    assert_shows(picture, weights)
    accent = np.abs(picture[..., :3] - [163, 21, 91]).sum(-1) < 30
    where = np.argwhere(accent) / [picture.shape[0] / ROWS, picture.shape[1] / COLS]
    assert where.min(0) == pytest.approx([1, 3], abs=0.1)
    assert where.max(0) == pytest.approx([2, 4], abs=0.1)


def test_pointing_at_a_patch_reads_its_weight(open_page, image):
    page = open_page(image.recording, place="#view=patches&row=1").page
    box = page.locator(".patches-box canvas").bounding_box()
    cell = box["width"] / COLS
    page.mouse.move(box["x"] + 4.5 * cell, box["y"] + 2.5 * cell)
    said = page.locator("#view .headline").inner_text()
    assert said.startswith("[REG] looks at patch (2, 4) with weight ")
    assert float(said.split()[-1]) == pytest.approx(image.weights[0, 0, 1, 16], abs=5e-3)
    page.mouse.move(5, 5)
    assert "looks most at" in page.locator("#view .headline").inner_text()


def test_the_keyboard_walks_patches(open_page, image):
    page = open_page(image.recording, place="#view=patches&row=0").page
    page.locator(".patches-box").focus()
    for key, spot in [
        ("ArrowRight", "(0, 0)"), ("ArrowRight", "(0, 1)"), ("ArrowDown", "(1, 1)"),
        ("End", "(1, 4)"), ("Control+End", "(2, 4)"), ("ArrowDown", "(2, 4)"), ("Home", "(2, 0)"),
    ]:  # fmt: skip
        page.keyboard.press(key)
        assert page.locator("#view .headline").inner_text().startswith(f"patch {spot} "), key


def test_tokens_outside_the_image_are_queries_and_their_weights_are_said(open_page, image):
    page = open_page(image.recording, place="#view=patches&row=5").page
    buttons = page.locator("#view .choices button")
    assert buttons.all_inner_texts() == ["[CLS]", "[REG]", "[END]"]
    assert [one.get_attribute("aria-pressed") for one in buttons.all()] == ["false"] * 3
    buttons.nth(2).click()
    assert [one.get_attribute("aria-pressed") for one in buttons.all()][2] == "true"
    assert page.evaluate("document.activeElement.textContent") == "[END]"
    words = page.locator("#view .note").inner_text().split()
    weights = image.weights[0, 0, 17]
    assert words[::2] == ["[CLS]", "[REG]", "[END]"]
    found = [float(one) for one in words[1::2]]
    np.testing.assert_allclose(found, weights[[0, 1, 17]], atol=5e-3)


def test_the_table_has_rows_and_columns_of_the_image(open_page, image, read_table):
    page = open_page(image.recording, place="#view=patches&row=0&head=1").page
    page.locator("#view summary").click()
    page.wait_for_selector("#view .plain")
    table = read_table(page, "#view")
    assert [line[0] for line in table] == ["0", "1", "2"]
    found = [[float(cell.replace("×10⁻⁴", "e-4")) for cell in line[1:]] for line in table]
    np.testing.assert_allclose(found, grid(image.weights[0, 1, 0]), atol=5e-3)


def test_queries_of_a_text_look_at_an_image(open_page, samples, pixels):
    """Cross-attention: the keys are patches, the queries words."""
    made = samples.recorded(queries=4, keys=18, kind="cross", layer="decoder.cross")
    made.recording[0].patches = (ROWS, COLS, BEFORE, AFTER)
    page = open_page(made.recording, place="#view=patches&row=2").page
    buttons = page.locator("#view .choices button")
    assert buttons.count() == 4
    page.locator(".patches-box").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    said = page.locator("#view .headline").inner_text()
    assert said.startswith("2 looks at patch (0, 1) with weight ")
    buttons.nth(3).click()
    assert_shows(pixels(page, ".patches-box canvas"), made.weights[0, 0, 3])


def test_colours_are_by_the_logarithm_or_by_the_largest(open_page, image, pixels):
    page = open_page(image.recording, place="#view=patches&row=0").page
    page.wait_for_selector(".patches-box")
    log = cells(pixels(page, ".patches-box canvas"))
    page.select_option("#log", "0")
    linear = cells(pixels(page, ".patches-box canvas"))
    weights = grid(image.weights[0, 0, 0])
    darkest = 12 + 55 + 110
    assert linear[np.unravel_index(weights.argmax(), weights.shape)] == pytest.approx(
        darkest, abs=6
    )
    assert log.min() > darkest + 20
    assert page.evaluate("document.activeElement.id") in ("log", "")
