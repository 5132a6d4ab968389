"""The colours of heads: told apart with every kind of colour vision, and seen on their paper."""

import re
from itertools import combinations

import numpy as np
import pytest

from atento.views.page_bundle import asset
from colour_vision import VISION, lab, luminance, rgb

PAPER = {"light": "#fcfcfa", "dark": "#131519"}


def palette(theme):
    found = re.search(rf"{theme}: \[([^\]]*)\]", asset("arcs.js"))
    return re.findall(r"#[0-9a-f]{6}", found.group(1))


@pytest.mark.parametrize("theme", PAPER)
@pytest.mark.parametrize("vision", VISION)
def test_heads_are_told_apart_by_all_kinds_of_eyes(theme, vision):
    """CIE 1976 differences; 20 is told apart at a glance. The palette of a rainbow gives 1."""
    seen = [lab(rgb(colour), vision) for colour in palette(theme)]
    assert len(seen) == 6
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 30


@pytest.mark.parametrize("theme", PAPER)
def test_lines_of_heads_are_seen_on_their_paper(theme):
    """WCAG 1.4.11: 3 to 1 for what is not text."""
    ground = luminance(rgb(PAPER[theme]))
    for colour in palette(theme):
        light = luminance(rgb(colour))
        assert (max(light, ground) + 0.05) / (min(light, ground) + 0.05) >= 3
