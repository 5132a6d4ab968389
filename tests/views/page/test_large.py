"""Large matrices on canvas: few nodes, quick, and readable as text."""

import pytest

pytestmark = pytest.mark.browser


def test_128_tokens_are_drawn_on_canvas_with_few_nodes(open_page, samples):
    explanation = samples.model_like([f"t{i}" for i in range(128)], layers=1)
    opened = open_page(explanation, device_scale_factor=1)
    page = opened.page
    assert page.evaluate("document.querySelectorAll('*').length") < 1500
    weights = explanation.layers[0].trace["weights"].value[1]
    node = page.locator("#step-weights .canvas-matrix")
    node.focus()
    page.keyboard.press("Control+End")
    for key in ["ArrowLeft", "ArrowLeft", "PageUp", "ArrowUp"]:
        page.keyboard.press(key)
    assert opened.value() == pytest.approx(weights[116, 125], abs=5.2e-5)
    assert "t116, t125" in node.locator("[aria-live]").inner_text()
    assert "128 rows and 128 columns" in node.get_attribute("aria-label")
    box = node.locator(".over").bounding_box()
    page.mouse.move(box["x"] + box["width"] - 5, box["y"] + box["height"] - 5)
    assert opened.value() == pytest.approx(weights[127, 127], abs=5.2e-5)
    assert page.locator("#panel .shares tbody tr").count() <= 12 + 3
    page.get_by_role("button", name="Show all 128 terms").click()
    assert page.locator("#panel .shares tbody tr").count() == 128 + 1


WORK = """async () => {
  let [strokes, nodes] = [0, 0];
  const brush = CanvasRenderingContext2D.prototype;
  for (const [name, { value }] of Object.entries(Object.getOwnPropertyDescriptors(brush))) {
    if (typeof value !== "function") continue;
    brush[name] = function (...args) {
      strokes++;
      return value.apply(this, args);
    };
  }
  new MutationObserver((changes) => {
    for (const { addedNodes } of changes) nodes += addedNodes.length;
  }).observe(document.body, { childList: true, subtree: true });
  const over = document.querySelector("#step-scores .over");
  const box = over.getBoundingClientRect();
  for (let move = 0; move < 50; move++) {
    const along = move % 2 ? 0.6 : 0.8; // each move leads to another cell
    const [clientX, clientY] = [box.left + along * box.width, box.top + along * box.height];
    over.dispatchEvent(new PointerEvent("pointermove", { clientX, clientY }));
    await new Promise(requestAnimationFrame);
  }
  return [strokes / 50, nodes / 50];
}"""
"""What one move of the pointer costs: calls of a canvas, and parts of the page that are new."""


def test_moving_over_a_large_matrix_costs_no_more_than_over_a_small_one(open_page, samples):
    def work(tokens):
        opened = open_page(samples.model_like([f"t{i}" for i in range(tokens)], layers=1))
        opened.page.locator("#step-scores .over").scroll_into_view_if_needed()
        return opened.page.evaluate(WORK)

    small, large = work(40), work(160)
    assert min(small) > 0
    assert small == large


def test_a_large_matrix_has_a_text_equivalent_in_one_node(open_page, samples):
    explanation = samples.model_like([f"t{i}" for i in range(40)], layers=1)
    opened = open_page(explanation)
    section = opened.page.locator("#step-weights")
    section.locator("summary").click()
    lines = section.locator("pre").inner_text().split("\n")
    assert lines[0].split("\t") == ["", *[f"t{i}" for i in range(40)]]
    row = lines[40].split("\t")
    assert row[0] == "t39"
    weights = explanation.layers[0].trace["weights"].value[1]
    assert [opened.number(text) for text in row[1:]] == pytest.approx(
        weights[39].tolist(), abs=5.2e-5
    )
    assert section.locator("pre > *").count() == 0


def test_the_learned_map_can_be_looked_at(open_page, samples):
    explanation = samples.model_like(samples.SENTENCE)
    opened = open_page(explanation)
    section = opened.page.locator("#step-keys")
    section.locator("details.learned > summary").click()
    section.locator(".learned .canvas-matrix").focus()
    opened.page.keyboard.press("ArrowRight")
    weight = explanation.layers[2].projections["key"].weight[0, 1, 1]
    assert opened.value() == pytest.approx(weight, abs=5.1e-5)
    assert "learned in training" in opened.panel()


def test_a_matrix_that_is_drawn_again_looks_the_same(open_page, samples):
    page = open_page(samples.model_like([f"t{i}" for i in range(24)], layers=1)).page
    picture = """() => {
      const canvas = document.querySelector("#step-scores canvas");
      const often = { willReadFrequently: true };
      const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", often);
      copy.drawImage(canvas, 0, 0);
      const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
      return data.reduce((sum, value) => sum + value, 0);
    }"""
    once = page.evaluate(picture)
    page.set_viewport_size({"width": 1280, "height": 700})  # it is fitted anew
    page.wait_for_timeout(300)
    assert page.evaluate(picture) == once
