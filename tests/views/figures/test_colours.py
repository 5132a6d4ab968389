"""Colours stay apart, and ramps climb, for every colour vision; simulated after Machado (2009)."""

from itertools import pairwise

import numpy as np
import pytest

from atento.reading.roles import OTHER, ROLES
from atento.views.figures import colours
from atento.views.figures.colours import BLUE, HEADS, ORANGE, signed_map, weight_map
from colour_vision import VISION, lab, rgb

JUST_SEEN = 2.3  # CIE76; a thin line needs several times as much
APART = 20.0


def test_the_ruler_itself():
    np.testing.assert_allclose(lab([1, 1, 1], "any"), [100, 0, 0], atol=0.02)
    np.testing.assert_allclose(lab([1, 0, 0], "any"), [53.24, 80.09, 67.20], atol=0.05)
    red, green = (lab(colour, "deuteranopia") for colour in ([0.8, 0.35, 0], [0.45, 0.5, 0]))
    apart = np.linalg.norm(lab([0.8, 0.35, 0], "any") - lab([0.45, 0.5, 0], "any"))
    assert np.linalg.norm(red - green) < apart / 3


@pytest.mark.parametrize("vision", VISION)
def test_heads_drawn_together_are_told_apart(vision):
    seen = [lab(rgb(code), vision) for code in HEADS]
    assert min(np.linalg.norm(a - b) for a, b in pairwise(seen)) >= 2 * APART
    white = lab([1, 1, 1], vision)
    assert min(np.linalg.norm(colour - white) for colour in seen) >= APART
    pairs = [(a, b) for i, a in enumerate(seen) for b in seen[:i]]
    assert min(np.linalg.norm(a - b) for a, b in pairs) >= 6 * JUST_SEEN


@pytest.mark.parametrize("vision", VISION)
def test_more_weight_is_always_darker(vision):
    shades = weight_map()(np.linspace(0, 1, 101))[:, :3]
    lightness = lab(shades, vision)[:, 0]
    assert (np.diff(lightness) < 0).all()
    assert lightness[0] > 95
    assert lightness[-1] < 30


@pytest.mark.parametrize("vision", VISION)
def test_plus_and_minus_are_told_apart_and_both_darken(vision):
    shades = signed_map()(np.linspace(0, 1, 201))[:, :3]
    seen = lab(shades, vision)
    assert (np.diff(seen[:101, 0]) > 0).all()
    assert (np.diff(seen[100:, 0]) < 0).all()
    for step in (20, 50, 80):
        assert np.linalg.norm(seen[100 + step] - seen[100 - step]) >= APART


@pytest.mark.parametrize("vision", VISION)
def test_unseen_and_not_a_number_look_like_no_weight(vision):
    nan = lab(rgb(colours.NAN), vision)
    for shades in (weight_map(), signed_map()):
        ramp = lab(shades(np.linspace(0, 1, 401))[:, :3], vision)
        assert np.linalg.norm(ramp - nan, axis=-1).min() >= APART
    ramp = lab(weight_map()(np.linspace(0, 1, 201))[:, :3], vision)
    unseen = lab(rgb(colours.UNSEEN), vision)
    assert np.linalg.norm(ramp - unseen, axis=-1).min() >= 2 * JUST_SEEN
    assert np.linalg.norm(ramp[0] - unseen) >= 4 * JUST_SEEN  # 0 is not "may not be seen"


def test_roles_have_colours_of_their_own():
    assert [*colours.ROLES] == [*(role.name for role in ROLES), OTHER]
    assert len({*colours.ROLES.values()}) == len(colours.ROLES)


def test_the_page_has_the_same_ramps():
    from atento.views.page_bundle import asset

    script = asset("colours.js")
    for name, stops in (("BLUE", BLUE), ("ORANGE", ORANGE)):
        light = script.split(f"const {name} = ")[1].split("light: [")[1].split("],\n  dark")[0]
        for code in stops:
            numbers = ", ".join(str(round(255 * channel)) for channel in rgb(code))
            assert f"[{numbers}]" in light
