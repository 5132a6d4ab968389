"""Two recordings side by side: whose tokens stand at which map, and the colours of a difference."""

import re

import numpy as np
import pytest

from atento.views.recording_page import render_recording

pytestmark = pytest.mark.browser

INK = """(canvas) => {
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d");
  copy.drawImage(canvas, 0, 0);
  const { data } = copy.getImageData(0, 0, 50, canvas.height); // left of bars and map
  return data.filter((_, p) => p % 4 === 3).reduce((sum, alpha) => sum + (alpha > 127), 0);
}"""


@pytest.fixture
def page(open_page, make):
    first, _ = make(["i"] * 12)
    second, _ = make(["WWWWWW"] * 12, seed=77)
    page = open_page(render_recording(first, other=second), place="#view=compare").page
    page.wait_for_timeout(400)
    return page


def test_each_map_names_its_own_tokens(page):
    first, second, difference = (box.evaluate(INK) for box in page.locator(".map canvas").all())
    assert second > 2 * first
    assert difference == first


def test_a_difference_reaches_from_orange_over_paper_to_blue(page):
    colours = page.locator(".ramp span").evaluate_all(
        "(all) => all.map((one) => getComputedStyle(one).backgroundColor)"
    )
    colours = [list(map(int, re.findall(r"\d+", colour))) for colour in colours]
    assert len(colours) == 9
    red, _, blue = np.array(colours)[:, :3].T
    assert np.all((red - blue)[:4] > 20)
    assert np.all((blue - red)[5:] > 20)
    assert abs(red[4] - blue[4]) < 10
    low, high = page.locator(".legend").inner_text().split("\n")[0], page.locator(".legend")
    assert low.startswith("−1")
    assert "no weight" in high.inner_text()
