"""Query and key: the arithmetic of one weight, feature by feature."""

import re

import numpy as np
import pytest

from atento.masks import Explicit

pytestmark = pytest.mark.browser

CAPPED = {"softcap": 4.0, "scale": 0.9}


def chain(page):
    """(name, formula, number) of each step."""
    steps = []
    for item in page.locator(".chain li").all():
        name, formula = item.locator("> span").all_inner_texts()
        left, _, result = formula.rpartition(" = ")
        steps.append((name, left, number(result)))
    return steps


def number(text):
    text = text.replace("−", "-").replace("∞", "inf").strip("() ")
    mantissa, _, power = text.partition("×10")
    raised = power.translate(str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-"))
    return float(mantissa) * 10.0 ** int(raised or 0)


def features(page, read_table):
    """(feature, q, k, product) of each feature, as the table has them."""
    if page.locator("#view details[open]").count() == 0:
        page.locator("#view summary").click()
        page.wait_for_selector("#view .plain")
    return np.array([[number(text) for text in row] for row in read_table(page, "#view")])


def test_every_step_has_its_number_and_they_follow_from_one_another(open_page, samples, read_table):
    rng = np.random.default_rng(3)
    bias = rng.normal(size=(1, 3, 7, 11))
    options = {**CAPPED, "bias": bias}
    made = samples.recorded(queries=7, keys=11, theirs=options, **options)
    page = open_page(made.recording, place="#view=pair&head=2&row=4&col=8").page
    page.wait_for_selector(".chain li")
    steps = chain(page)
    assert [name for name, _, _ in steps] == [
        "dot product", "scaled", "capped", "with bias", "minus the row's log-sum-exp", "weight",
    ]  # fmt: skip
    dot, scaled, capped, score, log, weight = (value for _, _, value in steps)
    table = features(page, read_table)
    assert len(table) == 5
    assert table[:, 3].sum() == pytest.approx(dot, abs=1e-3)
    assert scaled == pytest.approx(dot * 0.9, abs=2e-4)
    assert capped == pytest.approx(4 * np.tanh(scaled / 4), abs=2e-4)
    assert score == pytest.approx(capped + bias[0, 2, 4, 8], abs=2e-4)
    lse = made.recording[0].lse[0, 2, 4]
    assert log == pytest.approx(score - lse, abs=2e-4)
    assert weight == pytest.approx(np.exp(log), rel=1e-3, abs=1e-4)
    assert weight == pytest.approx(made.weights[0, 2, 4, 8], abs=5e-3)
    layer = made.recording[0]
    exact = layer.query[0, 2, 4] * layer.key[0, 2, 8]
    found = table[np.argsort(table[:, 0])]
    np.testing.assert_allclose(found[:, 3], exact, atol=0.02)
    np.testing.assert_allclose(found[:, 1] * found[:, 2], found[:, 3], atol=1e-3)


def test_steps_that_do_not_happen_are_not_there(open_page, samples):
    page = open_page(samples.causal().recording, place="#view=pair&row=4&col=2").page
    page.wait_for_selector(".chain li")
    names = [name for name, _, _ in chain(page)]
    assert names == ["dot product", "scaled", "minus the row's log-sum-exp", "weight"]


@pytest.mark.parametrize(("row", "col"), [(4, 9), (0, 0)])
def test_what_may_not_be_seen_has_no_weight(open_page, samples, row, col):
    """A masked key; and a query that sees no key at all, whose log-sum-exp is −∞."""
    seen = np.tril(np.ones((14, 14), bool), -1)[None, None]
    made = samples.recorded(visible=seen, rule=Explicit(seen))
    page = open_page(made.recording, place=f"#view=pair&row={row}&col={col}").page
    page.wait_for_selector(".chain li")
    assert chain(page)[-1] == ("the query may not look there", "exp(−∞)", 0)
    assert "NaN" not in page.locator("#view").inner_text()


def test_features_are_sorted_by_size_or_number(open_page, samples, read_table):
    made = samples.causal(features=9)
    page = open_page(made.recording, place="#view=pair&row=8&col=5").page
    table = features(page, read_table)
    assert np.all(np.diff(np.abs(table[:, 3])) <= 1e-9)
    page.select_option("#pair-order", "number")
    assert features(page, read_table)[:, 0].tolist() == list(range(9))
    assert page.evaluate("document.activeElement.id") in ("pair-order", "")


def test_it_is_said_which_features_carry_the_score(open_page, samples, read_table):
    made = samples.causal(features=9)
    for row, col in [(8, 5), (7, 1), (13, 0)]:
        page = open_page(made.recording, place=f"#view=pair&row={row}&col={col}").page
        table = features(page, read_table)
        dot = table[:, 3].sum()
        sign = np.sign(dot)
        best = table[np.argsort(-table[:, 3] * sign)]
        many = int(np.argmax(np.cumsum(best[:, 3] * sign) >= 0.8 * abs(dot))) + 1
        text = page.locator("#view .note").first.inner_text()
        listed = ", ".join(str(int(feature)) for feature in best[:many, 0])
        assert f"{many} of 9: {listed}." in text
        sums = [number(one) for one in re.findall(r"−?\d+\.\d+", text)]
        np.testing.assert_allclose(sums, [best[:many, 3].sum(), dot], atol=2e-3)


def test_stronger_and_weaker_walk_the_strongest_pairs(open_page, samples):
    made = samples.causal()
    weights = made.weights[0, 1]
    order = np.argsort(-weights.ravel(), kind="stable")
    page = open_page(made.recording, place="#view=pair&head=1").page
    page.wait_for_selector(".chain li")

    def place():
        return tuple(int(page.locator(f"#pair-{name}").input_value()) for name in ("row", "col"))

    assert weights[place()] == weights.max(), "it opens with the strongest"
    seen = [place()]
    for _ in range(3):
        page.locator("#pair-weaker").click()
        seen.append(place())
    assert len(set(seen)) == 4
    expected = [weights.ravel()[at] for at in order[:4]]
    np.testing.assert_allclose([weights[at] for at in seen], expected, atol=5e-3)
    assert page.evaluate("document.activeElement.id") == "pair-weaker"
    page.locator("#pair-stronger").click()
    assert place() == seen[2]


def test_any_pair_can_be_chosen_and_places_stay_within(open_page, samples):
    page = open_page(samples.causal().recording, place="#view=pair&row=4&col=2").page
    page.wait_for_selector(".chain li")
    assert (
        "How much of its attention one₄ gives to starts"
        in page.locator("#view .headline").inner_text()
    )
    for value, kept in [("6", "6"), ("99", "13"), ("-3", "0"), ("", "0"), ("2.7", "2")]:
        page.locator("#pair-col").fill(value)
        page.locator("#pair-col").press("Enter")
        assert page.locator("#pair-col").input_value() == kept
    page.wait_for_url(lambda url: "col=2" in url)


def test_features_are_read_by_key_and_mouse(open_page, samples, read_table, pixels):
    page = open_page(samples.causal(features=6).recording, place="#view=pair&row=8&col=5").page
    table = features(page, read_table)
    readout = page.locator("#view .caption")
    assert readout.inner_text() == ""
    page.locator(".pair-box").focus()
    before = pixels(page, ".pair-box canvas")
    for key, at in [
        ("ArrowRight", 0), ("ArrowRight", 1), ("ArrowLeft", 0), ("ArrowLeft", 0), ("End", 5),
        ("ArrowRight", 5), ("Home", 0),
    ]:  # fmt: skip
        page.keyboard.press(key)
        said = [number(part) for part in re.split(r"[:×=]| × ", readout.inner_text()[8:])]
        np.testing.assert_allclose(said, table[at], atol=1e-9)
    assert (pixels(page, ".pair-box canvas") != before).any(), "the feature is marked"
    box = page.locator(".pair-box canvas").bounding_box()
    page.mouse.move(box["x"] + box["width"] - 8, box["y"] + 30)
    assert readout.inner_text().startswith(f"Feature {int(table[5, 0])}: ")


def test_bars_stand_up_where_a_product_is_positive_and_hang_where_it_is_not(
    open_page, samples, read_table, pixels, settle
):
    page = open_page(samples.causal(features=4).recording, place="#view=pair&row=8&col=5").page
    table = features(page, read_table)
    settle(page)
    image = pixels(page, ".pair-box canvas")
    wide = (image.shape[1] - 34) / 4
    blue = image[..., 2] > image[..., 0] + 40
    orange = image[..., 0] > image[..., 2] + 40
    for place, (_, q, k, product) in enumerate(table):
        x = round(34 + (place + 0.5) * wide)
        for top, high, value, column in [(0, 44, q, 1), (44, 44, k, 2), (88, 96, product, 3)]:
            area = slice(top, top + high)
            values = table[:, column]
            span = max(0, values.max()) - min(0, values.min())
            expected = abs(value) / span * (high - 10)
            found = (blue if value > 0 else orange)[area, x].sum()
            assert found == pytest.approx(expected, abs=2)


def test_long_texts_walk_the_pairs_of_the_query(open_page, samples):
    """Of more than 2^21 pairs only one query's are searched."""
    made = samples.causal(1500, heads=1)
    weights = made.weights[0, 0]
    page = open_page(made.recording, place="#view=pair&row=1200&col=1300").page
    page.wait_for_selector(".chain li")
    page.locator("#pair-weaker").click()
    row, col = (int(page.locator(f"#pair-{name}").input_value()) for name in ("row", "col"))
    assert row == 1200
    assert weights[1200, col] == pytest.approx(weights[1200].max(), abs=5e-3)


def test_a_bias_may_take_every_key_from_a_query(open_page, samples):
    """No mask hides them, and yet the log-sum-exp is −∞: the weight is 0, never NaN."""
    bias = np.zeros((1, 1, 6, 6))
    bias[0, 0, 2] = -np.inf
    made = samples.recorded(heads=1, queries=6, bias=bias, theirs={"bias": bias})
    page = open_page(made.recording, place="#view=pair&row=2&col=4").page
    page.wait_for_selector(".chain li")
    steps = chain(page)
    assert [name for name, _, _ in steps[2:]] == ["with bias", "the query may not look there"]
    assert steps[-1][1:] == ("exp(−∞)", 0)
    assert "NaN" not in page.locator("#view").inner_text()
