"""Figures of a training that was watched: curves over the steps, and all maps at one of them."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

import atento
from atento import InputError
from atento.views.figures.colours import ROLES
from watched_records import watched


def panels(axes):
    return [child for child in axes.child_axes if child.lines]


def test_a_panel_for_the_loss_and_each_statistic():
    record = watched()
    axes = atento.plot(record, lang="en")
    loss, *others = panels(axes)
    assert [panel.get_ylabel() for panel in (loss, *others)] == [
        "loss", "induction", "previous", "first", "entropy",
    ]  # fmt: skip
    training, prompts = loss.lines
    np.testing.assert_allclose(prompts.get_xydata(), np.stack([record.steps, record.loss], 1))
    assert training.get_xydata().tolist() == [[10, 3.95], [100, 3.5], [400, 2.0]]
    assert others[-1].get_xlabel() == "step"
    assert axes.figure.get_figwidth() == 3.3


def test_a_line_for_each_head_in_the_colour_of_its_role():
    record = watched()
    (_, panel) = panels(record.plot(statistics="induction", lang="es"))
    lines = panel.lines[:6]
    for head, line in enumerate(lines):
        np.testing.assert_array_equal(line.get_ydata(), record["induction"].reshape(4, 6)[:, head])
    colours = [to_hex(line.get_color()) for line in lines]
    assert colours[1] == ROLES["previous token"]
    assert colours[5] == ROLES["induction"]
    assert {colours[at] for at in (0, 2, 3, 4)} == {ROLES["other"]}
    assert panel.lines[6].get_ydata()[0] == 0.4  # the threshold
    assert panel.get_ylabel() == "inducción"


def test_all_maps_at_one_step():
    record = watched()
    axes = atento.plot(record, "grid", step=10, lang="en")
    assert axes.get_title() == "step 10"
    assert len(axes.images) == 6
    for head, image in enumerate(axes.images):
        shown = np.tril(record.maps[0][1, 0, head // 3, head % 3].astype(float))
        np.testing.assert_allclose(np.tril(image.get_array().filled(0)), shown, atol=1e-6)
        assert np.triu(image.get_array().mask, 1).sum() == 15  # what no query may see
    other = atento.plot(record, "grid", prompt=1, lang="en").images[0].get_array().filled(0)
    np.testing.assert_allclose(np.tril(other), np.tril(record.maps[1][-1, 0, 0, 0]), atol=1e-6)


def test_pooled_maps_say_so_and_have_both_pools():
    record = watched(text="abcdefghijkl", side=6, pools=2)
    largest, mean = (atento.plot(record, "grid", pool=pool, lang="en") for pool in ("max", "mean"))
    ratio = largest.images[0].get_array().max() / mean.images[0].get_array().max()
    assert ratio == pytest.approx(2)
    labels = [child.get_ylabel() for child in largest.child_axes]
    assert "weight, largest of each cell" in labels


@pytest.mark.parametrize("ending", ["svg", "png", "pdf"])
@pytest.mark.parametrize("kind", ["curves", "grid"])
def test_the_same_record_makes_the_same_file(tmp_path, kind, ending):
    one, other = tmp_path / f"a.{ending}", tmp_path / f"b.{ending}"
    for path in (one, other):
        atento.save(watched(), path, kind=kind, lang="en")
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kind": "map"}, "kind must be one of curves, grid; got 'map'"),
        ({"statistics": "duplicate"}, "no statistic 'duplicate' of these prompts. There are induc"),
        ({"statistics": []}, "there is no statistic"),
        ({"kind": "grid", "step": 7}, "step 7 was not looked at. There are 0, 10, 100, 400"),
        ({"kind": "grid", "prompt": 2}, "maps are kept of the first 2 prompts, from 0 on; got 2"),
        ({"kind": "grid", "prompt": True}, "got True"),
        ({"kind": "grid", "pool": "sum"}, "pool"),
        ({"step": 10}, "the kind 'curves' takes statistics; got step"),
        ({"head": 1}, "all heads are drawn: leave out layer, head"),
        ({"layer": 0, "kind": "grid"}, "all heads are drawn: leave out layer, head"),
    ],
)
def test_what_cannot_be_drawn(options, said):
    with pytest.raises(InputError) as caught:
        atento.plot(watched(), **options)
    assert said in str(caught.value)


def test_a_training_that_has_just_begun_can_be_drawn(tmp_path):
    for kind in ("curves", "grid"):
        atento.save(watched(steps=(0,), log=False), tmp_path / "a.svg", kind=kind)
