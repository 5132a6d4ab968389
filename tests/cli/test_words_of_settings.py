"""What a setting of training or sampling must be is said in Spanish too, for every one of them."""

import re
from pathlib import Path

import pytest

from atento.views.words import words

LM = Path(__file__).parents[2] / "src/atento/lm"
FILES = ("training/settings.py", "generating/sampling.py", "generating/generate.py")
PHRASES = sorted(
    {
        phrase
        for file in FILES
        for phrase in re.findall(
            r"within\(.*, [\"'](.+?)[\"']\)$", (LM / file).read_text(), re.MULTILINE
        )
    }
)


@pytest.mark.parametrize("phrase", PHRASES)
def test_each_has_its_words(phrase):
    assert words("en")(f"wanted.{phrase}") == phrase
    assert words("es")(f"wanted.{phrase}")


def test_they_are_found():
    assert len(PHRASES) >= 12
