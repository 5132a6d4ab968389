"""The picture of the README is what its script draws."""

import base64
import re

import numpy as np
import pytest
from docs.making.picture import PICTURE, draw

NUMBER = re.compile(r"-?\d+\.?\d*")


def parts(svg):
    """Its words, its numbers in order, and its embedded pictures."""
    from io import BytesIO

    from matplotlib.image import imread

    embedded = re.findall(r"data:image/png;base64,\s*([^\"]+)", svg)
    pictures = [imread(BytesIO(base64.b64decode(data))) for data in embedded]
    plain = re.sub(r"data:image/png;base64,[^\"]+", "", svg)
    plain = re.sub(r"<metadata>.*?</metadata>|[pmi][0-9a-f]{10}", "", plain, flags=re.DOTALL)
    words = re.findall(r">([^<>]+)</text>", plain)
    return words, [float(number) for number in NUMBER.findall(plain)], pictures


def test_it_is_what_the_script_draws(tmp_path):
    draw(tmp_path / "made.svg")
    made, kept = (parts(path.read_text("utf-8")) for path in (tmp_path / "made.svg", PICTURE))
    assert made[0] == kept[0]
    assert len(made[1]) == len(kept[1])
    np.testing.assert_allclose(made[1], kept[1], atol=0.02)  # the last digit of a processor
    assert len(made[2]) == len(kept[2]) > 0
    for one, other in zip(made[2], kept[2], strict=True):
        np.testing.assert_allclose(one, other, atol=3 / 255)


@pytest.mark.parametrize("word", ["queries", "keys", "values", "scores", "weights", "output"])
def test_it_names_the_steps(word):
    assert f">{word}</text>" in PICTURE.read_text("utf-8")


def test_it_is_small():
    assert PICTURE.stat().st_size <= 60 * 1024
