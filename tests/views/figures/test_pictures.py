"""The pictures themselves: what is drawn is what was computed, and all of it can be read."""

from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.collections import PathCollection, QuadMesh
from matplotlib.text import Text

import atento
from atento.masks import Causal
from atento.reading.recording import Recording
from atento.records import AttentionLayer, Explanation, Projection, Reason
from atento.views.figures.head_map import MOST_CELLS
from atento.views.figures.pictures import _bar_ticks
from reading_records import TK, TQ, made_of

WORDS = ["Your", "journey", "starts", "with", "one", "step"]


def texts(axes):
    """Everything that is written in the figure, as (text, its box in pixels)."""
    found = []
    draw = Text.draw

    def drawn(self, renderer):
        if self.get_visible() and self.get_text().strip():
            found.append((self.get_text(), self.get_window_extent(renderer)))
        draw(self, renderer)

    with patch.object(Text, "draw", drawn):
        axes.figure.draw_without_rendering()
    return found


def long_recording(T=512, heads=12, layers=6):
    """Layers of random heads, with the weights' statistics."""
    rng = np.random.default_rng(8)
    made = []
    for layer in range(layers):
        query, key = rng.normal(size=(2, 1, heads, T, 4)).astype(np.float32)
        scores = np.where(np.tri(T, dtype=bool), query @ key.mT / 2, -np.inf)
        lse = np.log(np.exp(scores).sum(-1))
        weights = np.exp(scores - lse[..., None])
        made.append(
            made_of(query, key, weights, lse, Causal("start"), np.float32, layer=f"h.{layer}")
        )
    names = [f"token{i % 37}" for i in range(T)]
    return Recording(made, np.arange(T), tokens=names)


@pytest.fixture(scope="module")
def long():
    return long_recording(layers=2, heads=3)


@pytest.fixture(scope="module")
def one_head_of_eight():
    """Facts 1 D: d_model 512, 8 heads of 64, 128 random tokens."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(128, 512))
    maps = {name: rng.normal(size=(512, 8, 64)) / 512**0.5 for name in ("query", "key", "value")}
    made = (np.einsum("tc,chf->htf", x, weight) for weight in maps.values())
    traced = atento.trace(*made, mask=Causal())
    projections = {name: Projection(weight, np.zeros((8, 64))) for name, weight in maps.items()}
    names = tuple(map(str, range(128)))
    layer = AttentionLayer(traced, x, projections)
    return Explanation(names, names, (layer,), 0, 3, Reason("asked", 8))


def mesh_of(axes):
    (mesh,) = [one for one in axes.collections if isinstance(one, QuadMesh)]
    return mesh.get_array()


def test_a_map_has_the_weights_and_names_the_tokens(mini):
    axes = atento.plot(mini, layer=1, head=2, lang="en")
    drawn = mesh_of(axes)
    weights = mini.layers[1].trace["weights"].value[2]
    seen = np.tri(6, dtype=bool)
    np.testing.assert_array_equal(drawn.mask, ~seen)
    np.testing.assert_allclose(drawn.data[seen], weights[seen])
    assert [label.get_text() for label in axes.get_yticklabels()] == WORDS
    assert [label.get_text() for label in axes.get_xticklabels()] == WORDS
    assert axes.get_title() == "layer 1, head 2"
    assert axes.yaxis_inverted()
    assert axes.get_position().width * 3.3 == pytest.approx(
        axes.get_position().height * axes.figure.get_figheight(), rel=1e-6
    )
    assert axes.patch.get_hatch()


def test_what_may_not_be_seen_is_no_weight_of_0():
    query = np.array([[60.0], [60.0], [60.0]])
    key = np.array([[0.0], [30.0], [0.0]])  # the weight of keys 0 and 2 underflows to 0
    axes = atento.plot(atento.trace(query, key, key, mask=Causal(), scale=30.0))
    drawn = mesh_of(axes)
    np.testing.assert_array_equal(drawn.mask, ~np.tri(3, dtype=bool))
    assert drawn[2, 0] == drawn[2, 2] == 0


def test_a_weight_of_0_has_a_colour_on_a_logarithmic_scale():
    query, key = np.array([[60.0], [60.0]]), np.array([[0.0], [30.0]])
    axes = atento.plot(atento.trace(query, key, key, scale=30.0), log=True)
    mesh = next(one for one in axes.collections if isinstance(one, QuadMesh))
    assert not mesh.get_array().mask.any()
    colours = mesh.to_rgba(mesh.get_array())
    assert (colours[..., 3] == 1).all()
    assert colours[0, 0, 2] > colours[0, 1, 2] + 0.3


@pytest.mark.parametrize("kind", ["map", "grid", "steps"])
def test_what_is_not_a_number_is_black_and_not_unseen(kind):
    x = np.random.default_rng(0).normal(size=(3, 4, 2))
    x[0, 1] = np.nan
    axes = atento.plot(atento.trace(*x, mask=Causal()), kind)
    panel = axes.child_axes[-2] if kind == "steps" else axes  # the weights
    marked = panel.images[-1 if kind == "grid" else 0]
    expected = np.zeros((4, 4), bool)
    expected[1, :2] = True
    np.testing.assert_array_equal(~marked.get_array().mask, expected)
    assert marked.to_rgba(marked.get_array())[1, 0].tolist() == [0, 0, 0, 1]
    assert marked.get_extent()[2] > marked.get_extent()[3]  # row 0 is at the top


def test_a_logarithmic_map_has_a_place_for_0(mini):
    axes = atento.plot(mini, log=True)
    mesh = next(one for one in axes.collections if isinstance(one, QuadMesh))
    weights = mini.layers[mini.layer].trace["weights"].value[mini.head]
    assert mesh.norm.vmax == pytest.approx(weights.max())
    assert mesh.norm.vmin == pytest.approx(max(weights[weights > 0].min(), 1e-6 * weights.max()))
    assert (mesh.get_array().compressed() >= mesh.norm.vmin).all()
    assert not mesh.get_array().mask[np.tri(6, dtype=bool)].any()


def test_a_long_text_is_pooled_and_numbered(long):
    axes = atento.plot(long, layer=1, head=2, pool="mean", lang="en")
    (image,) = axes.images
    assert max(image.get_array().shape) <= MOST_CELLS
    seen = np.tri(512, dtype=bool)
    np.testing.assert_allclose(image.get_array().data[seen], long[1].weights(2)[seen], rtol=1e-6)
    labels = [text for text, _ in texts(axes)]
    assert "400" in labels
    assert not any(label.startswith("token") for label in labels)
    few = atento.plot(long, layer=1, head=2, rows=(100, 115), cols=slice(90, 105))
    assert [label.get_text() for label in few.get_yticklabels()] == long.tokens[100:115]
    np.testing.assert_allclose(
        mesh_of(few).filled(0), long[1].weights(2, (100, 115), (90, 105)), rtol=1e-6
    )


def test_a_very_long_text_is_never_held_whole(monkeypatch):
    T = 4096
    rng = np.random.default_rng(8)
    query, key = rng.normal(size=(2, 1, 1, T, 2)).astype(np.float32)
    from atento.reading.layer import LayerRecord

    record = LayerRecord(
        "a", "self", None, "sdpa", query, key, np.zeros((1, 1, T), np.float32),
        Causal("start"), 1.0,
    )  # fmt: skip
    record.check()

    def whole(*_, **__):
        raise AssertionError("all weights were asked for")

    monkeypatch.setattr(LayerRecord, "weights", whole)
    axes = atento.plot(record, head=0, lang="en")
    (image,) = axes.images
    assert image.get_array().shape == (512, 512)
    np.testing.assert_array_equal(image.get_array().mask, ~np.tri(512, dtype=bool))
    label = next(text for text, _ in texts(axes) if text.startswith("weight"))
    assert label.replace("\n", " ") == "weight, largest of 8 × 8"


def test_the_grid_has_every_head_and_its_role(long):
    axes = atento.plot(long, lang="en")
    pooled = long[1].tile(1, 0, 0, 3, 64, "max")
    images = axes.images
    assert len(images) == 6
    np.testing.assert_allclose(images[4].get_array().filled(0), pooled, rtol=1e-6)
    left, right, bottom, top = images[4].get_extent()
    assert (left, right) == (1, 1.9)
    assert bottom > top > 0.9  # in the second row
    roles = [row["role"].replace("previous token", "previous") for row in long.summary()]
    written = [text for text, _ in texts(axes)]
    for role in set(roles):
        assert written.count(role) == roles.count(role)
    assert {"0", "1", "2", "head", "layer"} <= set(written)


def test_chosen_heads_of_layers_are_numbered_under_their_maps(long):
    long[0].head_numbers, before = (4, 6, 9), long[0].head_numbers
    try:
        axes = atento.plot(long, lang="en")
        written = [text.split()[0] for text, _ in texts(axes)]
        assert {"4", "6", "9", "0", "1", "2"} <= set(written)
    finally:
        long[0].head_numbers = before


def test_many_narrow_maps_have_a_legend_of_roles():
    many = long_recording(T=16, heads=32, layers=2)
    many[0].statistics = {**many[0].statistics, "previous": np.full((1, 32, 16), 0.9)}
    axes = atento.plot(many, lang="en")
    assert len(axes.images) == 64
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert "previous token" in legend


def test_arcs_are_the_weights_above_the_threshold(traced):
    axes = atento.plot(traced, "arcs", head=[2, 0], threshold=0.3, lang="en")
    weights = traced["weights"].value[[2, 0]]
    (lines,) = [one for one in axes.collections if isinstance(one, PathCollection)]
    head, query, key = np.nonzero(weights >= 0.3)
    assert len(lines.get_paths()) == len(head) > 3
    ends = {(tuple(path.vertices[0]), tuple(path.vertices[-1])) for path in lines.get_paths()}
    assert ends == {
        ((0, (i + 0.5) / 5), (1, (j + 0.5) / 7)) for i, j in zip(query, key, strict=True)
    }
    strengths = lines.get_linewidths()
    assert (np.diff(strengths) >= 0).all()  # weak ones first
    np.testing.assert_allclose(
        (np.array(strengths) - 0.25) / 2.35, np.sort(weights[weights >= 0.3]) / weights.max()
    )
    written = [text for text, _ in texts(axes)]
    assert written.count("5") == 2  # a query and a key
    assert written.count("7") == 1
    assert {"head 2", "head 0", "weights from 0.3 on"} <= set(written)
    colours = {tuple(colour[:3].round(3)) for colour in lines.get_edgecolors()}
    assert len(colours) == 2


def test_an_arc_needs_a_weight():
    x = np.random.default_rng(0).normal(size=(3, 4, 2))
    x[0, 1] = np.nan
    axes = atento.plot(atento.trace(*x, mask=Causal()), "arcs", threshold=1e-9)
    (lines,) = [one for one in axes.collections if isinstance(one, PathCollection)]
    assert len(lines.get_paths()) == 10 - 2  # the row of NaN has none


def test_steps_stand_in_order_over_their_shapes(one_head_of_eight):
    axes = atento.plot(one_head_of_eight, "steps", lang="en")
    panels = axes.child_axes
    names = ["input", "queries", "keys", "values", "scores", "scaled", "masked", "weights",
             "output"]  # fmt: skip
    assert [panel.get_title() for panel in panels] == names
    shapes = [panel.get_xlabel().split("\n")[0] for panel in panels]
    assert shapes == [
        "128 × 512", *["128 × 64"] * 3, *["128 × 128"] * 4, "128 × 64",
    ]  # fmt: skip
    trace = one_head_of_eight.layers[0].trace
    for panel, name in zip(panels[1:], names[1:], strict=True):
        drawn = panel.images[0].get_array()
        value = trace[name].value[3]
        seen = np.tri(128, dtype=bool) if name in ("masked", "weights") else np.ones(value.shape)
        np.testing.assert_array_equal(~drawn.mask, seen.astype(bool))
        np.testing.assert_allclose(drawn.compressed(), value[seen.astype(bool)])
    said = [text for text, _ in texts(axes)]
    assert {"× W", "Q Kᵀ", "× 0.125", "mask", "softmax", "× V"} <= set(said)
    lowest = min(value for value in trace["scores"].value[3].ravel())
    assert f"{lowest:.2g}".replace("-", "−") in panels[4].get_xlabel()


def test_grouped_heads_show_the_keys_that_they_share():
    rng = np.random.default_rng(2)
    query, key = rng.normal(size=(6, 3, 4)), rng.normal(size=(2, 5, 4))
    axes = atento.plot(atento.trace(query, key, key), "steps", head=4)
    keys = next(panel for panel in axes.child_axes if panel.get_title() in ("keys", "claves"))
    np.testing.assert_allclose(mesh_of(keys), key[1])


def test_steps_that_are_too_large_are_averaged_over_what_is_seen():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(3, 700, 3))
    axes = atento.plot(atento.trace(*x, mask=Causal()), "steps")
    masked = axes.child_axes[5].images[0].get_array()
    assert masked.shape == (350, 350)
    np.testing.assert_array_equal(masked.mask, ~np.tri(350, dtype=bool))
    score = atento.trace(*x)["scaled"].value
    assert masked[7, 7] == pytest.approx((score[14, 14] + score[15, 14] + score[15, 15]) / 3)


def test_curves_are_the_statistics(surveyed):
    axes = atento.plot(surveyed, head=1, lang="en")
    panels = axes.child_axes
    labels = [panel.get_ylabel() for panel in panels]
    assert labels == ["entropy (nats)", "received (weight)", "distance (tokens)"]
    for panel, name in zip(panels, ("entropy", "received", "distance_mean"), strict=True):
        (line,) = panel.lines
        np.testing.assert_allclose(line.get_ydata(), surveyed[name][1])
        np.testing.assert_array_equal(line.get_xdata(), np.arange(11))
    band = panels[2].collections[0].get_paths()[0].vertices
    mean, spread = surveyed["distance_mean"][1], surveyed["distance_std"][1]
    assert band[:, 1].max() == pytest.approx((mean + spread).max())
    several = atento.plot(surveyed, "curves", head=[0, 1], statistics=["max"], lang="en")
    assert [len(panel.lines) for panel in several.child_axes] == [2]
    assert several.child_axes[0].get_ylabel() == "max"


def test_curves_of_later_queries_begin_where_they_stand(recording):
    axes = atento.plot(recording, "curves", layer=0, head=1, statistics=["entropy", "received"])
    entropy, received = (panel.lines[0] for panel in axes.child_axes)
    np.testing.assert_array_equal(entropy.get_xdata(), np.arange(TK - TQ, TK))
    np.testing.assert_array_equal(received.get_xdata(), np.arange(TK))


def test_a_long_curve_keeps_its_extremes():
    from atento.views.figures.curves import MOST_POINTS, _thinned

    values = np.zeros(5003)
    values[1234] = 7.0
    at, mean, low, high = _thinned(values)
    assert len(at) <= MOST_POINTS
    assert high.max() == 7.0
    assert low.min() == 0.0
    assert at[0] == 3.0  # the middle of 0 … 6
    np.testing.assert_allclose(np.sum(mean[:-1]) * 7, 7.0)


def test_only_cells_of_a_dot_or_two_are_smoothed(long, mini):
    assert atento.plot(long, layer=0, head=0).images[0].get_interpolation() == "antialiased"
    assert atento.plot(mini, "grid").images[0].get_interpolation() == "nearest"
    panel = atento.plot(mini, "steps").child_axes[0]  # 6 rows, 128 columns
    assert panel.images[0].get_interpolation() == "nearest"


def test_numbers_along_a_colour_bar_have_room(long, mini):
    for axes, few in (
        (atento.plot(long, layer=0, head=0, rows=511), True),
        (atento.plot(mini, log=True), False),
    ):
        bar = axes.child_axes[0]
        labels = [label.get_text() for label in bar.get_yticklabels()]
        assert 2 <= len(labels) <= (3 if few else 6)
        low, high = bar.get_ylim()
        assert all(low <= place <= high for place in bar.get_yticks())
        assert not any("$" in label for label in labels)


@given(
    st.floats(1e-9, 1.0), st.floats(1.0, 1e8), st.booleans(), st.sampled_from([0.25, 0.4, 0.9, 1.3])
)
def test_a_bar_never_has_more_numbers_than_room(high, ratio, log, length):
    from matplotlib.colors import LogNorm, Normalize

    norm = LogNorm(high / ratio / 1.01, high) if log else Normalize(0, high)
    ticks = _bar_ticks(norm, length)
    assert 1 <= len(ticks) <= max(2, length / 0.2)
    assert all(norm.vmin <= place <= norm.vmax for place in ticks)


def test_many_layers_stay_on_the_page():
    axes = atento.plot(long_recording(T=8, heads=2, layers=40))
    assert axes.figure.get_figheight() <= 9.5
    assert axes.figure.get_figwidth() == 6.9


PICTURES = {
    "map": lambda get: atento.plot(get("mini"), layer=2, head=2),
    "map in Spanish": lambda get: atento.plot(get("mini"), lang="es", log=True),
    "map as wide as a page": lambda get: atento.plot(get("mini"), width="text"),
    "map of 512": lambda get: atento.plot(get("long"), layer=0, head=0),
    "map of 40 by 40": lambda get: atento.plot(
        get("long"), layer=0, head=0, rows=(0, 40), cols=(0, 40), width="text", labels=True
    ),
    "map of one row": lambda get: atento.plot(get("long"), layer=0, head=0, rows=511),
    "map of one column": lambda get: atento.plot(get("long"), layer=0, head=0, cols=1),
    "map with a long title": lambda get: atento.plot(
        get("mini"), title="The quick brown fox jumps over the lazy dog, again and again, always"
    ),
    "map of a layer": lambda get: atento.plot(get("recording")[0], head=3, tokens=["wide"] * TQ),
    "grid": lambda get: atento.plot(get("mini"), "grid"),
    "grid of a recording": lambda get: atento.plot(get("long"), lang="es"),
    "grid of a survey": lambda get: atento.plot(get("surveyed"), "grid", width="column"),
    "arcs": lambda get: atento.plot(get("mini"), "arcs"),
    "arcs of heads": lambda get: atento.plot(get("mini"), "arcs", layer=0, head=range(4)),
    "arcs across": lambda get: atento.plot(get("traced"), "arcs", width="text"),
    "arcs of 60": lambda get: atento.plot(
        get("long"), "arcs", layer=0, head=0, rows=(0, 60), cols=(0, 60), lang="es"
    ),
    "steps": lambda get: atento.plot(get("one_head_of_eight"), "steps"),
    "steps in a column": lambda get: atento.plot(
        get("one_head_of_eight"), "steps", width="column", lang="es"
    ),
    "steps of a sentence": lambda get: atento.plot(get("mini"), "steps"),
    "steps of a sentence in a column": lambda get: atento.plot(
        get("mini"), "steps", width="column"
    ),
    "steps of narrow matrices": lambda get: atento.plot(
        atento.trace(np.ones((2, 1)), np.ones((1, 1)), np.ones((1, 1)), mask=[[True], [False]]),
        "steps",
        width="column",
        lang="es",
    ),
    "curves": lambda get: atento.plot(get("surveyed"), head=0),
    "curves of heads": lambda get: atento.plot(get("surveyed"), head=[0, 1], lang="es"),
    "curves of many heads": lambda get: atento.plot(
        get("recording"), "curves", layer=0, head=range(6)
    ),
    "curves of a long text": lambda get: atento.plot(get("long"), "curves", layer=0, head=1),
}


@pytest.mark.parametrize("name", PICTURES)
def test_everything_written_is_inside_and_nothing_on_top_of_another(name, request):
    axes = PICTURES[name](request.getfixturevalue)
    figure = axes.figure
    whole = figure.bbox
    boxes = texts(axes)
    assert len(boxes) >= 3
    for text, box in boxes:
        inside = (
            box.x0 >= whole.x0 - 0.5
            and box.x1 <= whole.x1 + 0.5
            and box.y0 >= whole.y0 - 0.5
            and box.y1 <= whole.y1 + 0.5
        )
        assert inside, f"{text!r} is cut: {box} in {whole}"
    slack = 0.012 * figure.dpi  # letters seldom fill their box
    for at, (text, box) in enumerate(boxes):
        for other, beside in boxes[:at]:
            across = min(box.x1, beside.x1) - max(box.x0, beside.x0)
            down = min(box.y1, beside.y1) - max(box.y0, beside.y0)
            assert min(across, down) <= slack, f"{text!r} over {other!r}"
    width = figure.get_figwidth()
    assert width in (3.3, 6.9)
    assert figure.get_figheight() <= 9.5


def test_no_print_is_smaller_than_journals_take(long, mini):
    for axes in (
        atento.plot(long, layer=0, head=0, rows=(0, 60), cols=(0, 60), width="text", labels=True),
        atento.plot(mini, "steps"),
        atento.plot(long, "arcs", layer=0, head=0, rows=(0, 90), cols=(0, 30)),
    ):
        sizes = [one.get_fontsize() for one in axes.figure.findobj(Text) if one.get_text()]
        assert min(sizes) >= 5.0


def test_seventy_two_heads_can_be_read_at_a_texts_width():
    axes = atento.plot(long_recording(T=32), lang="en")
    assert len(axes.images) == 72
    frame = axes.get_position()
    side = 0.9 * frame.width * 6.9 / 12
    assert side >= 0.42  # inches
    roles = [one for one in axes.texts if one.get_text() in ("other", "uniform", "previous")]
    assert len(roles) == 72
    assert min(one.get_fontsize() for one in roles) >= 4.5
    assert axes.figure.get_figheight() <= 5
