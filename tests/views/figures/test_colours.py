"""Colours stay apart, and ramps climb, for every colour vision; simulated after Machado (2009)."""

from itertools import pairwise

import numpy as np
import pytest

from atento.reading.roles import OTHER, ROLES
from atento.views.figures import colours
from atento.views.figures.colours import BLUE, HEADS, ORANGE, signed_map, weight_map

# Severity 1.0, for linear RGB: Machado, Oliveira and Fernandes 2009, table 1.
VISION = {
    "any": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
JUST_SEEN = 2.3  # CIE76; a thin line needs several times as much
APART = 20.0


def lab(rgb, vision):
    """CIE L*a*b* (D65) of sRGB colours as such eyes see them: (..., 3)."""
    rgb = np.asarray(rgb, float)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ np.array(VISION[vision]).T, 0, 1)
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    xyz = linear @ to_xyz.T / [0.9505, 1.0, 1.089]
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def rgb(code):
    return [int(code[at : at + 2], 16) / 255 for at in (1, 3, 5)]


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
