"""The colours of heads: told apart with every kind of colour vision, and seen on their paper."""

import re
from itertools import combinations

import numpy as np
import pytest

from atento.views.page_bundle import asset

PAPER = {"light": "#fcfcfa", "dark": "#131519"}

# Machado, Oliveira & Fernandes 2009, severity 1, on linear RGB.
VISION = {
    "usual": np.eye(3),
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
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colour):
    share = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    share = XYZ @ np.clip(rgb, 0, 1) / XYZ.sum(1)
    x, y, z = np.where(share > 0.008856, np.cbrt(share), 7.787 * share + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def palette(theme):
    found = re.search(rf"{theme}: \[([^\]]*)\]", asset("arcs.js"))
    return re.findall(r"#[0-9a-f]{6}", found.group(1))


@pytest.mark.parametrize("theme", PAPER)
@pytest.mark.parametrize("vision", VISION)
def test_heads_are_told_apart_by_all_kinds_of_eyes(theme, vision):
    """CIE 1976 differences; 20 is told apart at a glance. The palette of a rainbow gives 1."""
    seen = [lab(np.array(VISION[vision]) @ linear(colour)) for colour in palette(theme)]
    assert len(seen) == 6
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 30


@pytest.mark.parametrize("theme", PAPER)
def test_lines_of_heads_are_seen_on_their_paper(theme):
    """WCAG 1.4.11: 3 to 1 for what is not text."""
    ground = XYZ[1] @ linear(PAPER[theme])
    for colour in palette(theme):
        light = XYZ[1] @ linear(colour)
        assert (max(light, ground) + 0.05) / (min(light, ground) + 0.05) >= 3
