"""Every lesson, in both languages, run as a reader runs it.

In English the notebook runs as it is delivered: all outputs are compared, and every question says
that it is open. In Spanish it runs with the solutions in place of the questions: the rest of the
outputs is the same, since the code is, and every verdict must be right. Both run in one kernel,
which forgets the names of the first before the second.
"""

import nbformat
import pytest
from docs.making.lesson_pages import told_of

from lessons import expected, running, sources

STEMS = sources.stems()
OPEN, RIGHT = "○", "✓"


def test_there_are_eight():
    assert [stem[:2] for stem in STEMS] == [f"{n:02}" for n in range(1, 9)]


@pytest.mark.parametrize("stem", STEMS)
def test_both_languages_have_the_same_code(stem):
    assert sources.differences(stem) == []


@pytest.mark.parametrize("lang", sources.LANGUAGES)
@pytest.mark.parametrize("stem", STEMS)
def test_the_notebook_is_the_one_that_its_source_makes(stem, lang):
    path = sources.source(lang, stem).with_suffix(".ipynb")
    delivered = nbformat.read(path, as_version=4)
    assert delivered == sources.notebook(lang, stem), "run: python -m lessons pair"


@pytest.mark.parametrize("stem", STEMS)
def test_every_lesson_asks_and_its_first_questions_are_open(stem):
    asked = [cell for cell in sources.notebook("en", stem).cells if sources.is_question(cell)]
    assert len(asked) >= 2
    verdicts = [cell["text"] for cell in expected.load(stem) if is_verdict(cell)]
    assert len(verdicts) >= len(asked)
    assert all(text.startswith(OPEN) for text in verdicts)


@pytest.mark.slow
@pytest.mark.parametrize("stem", STEMS)
def test_english_as_delivered_and_spanish_with_every_question_answered(stem):
    delivered, solved = sources.notebook("en", stem), sources.solved("es", stem)
    running.run_in_turn(delivered, solved)
    assert expected.compare(stem, delivered) == []
    assert all(is_told(words) for words in told(delivered))
    compare_solved(stem, solved)
    assert all(is_told(words) for words in told(solved))


def compare_solved(stem, done):
    """Every verdict must be right, and everything else as it is in English."""
    then = expected.load(stem)
    code = [cell for cell in done.cells if sources.is_code(cell)]
    answered = [
        cell["text"]
        for cell, was in zip(expected.printed(done), then, strict=True)
        if is_verdict(was)
    ]
    assert answered
    assert [text for text in answered if not text.startswith(RIGHT)] == []
    for cell, was in zip(code, then, strict=True):
        if is_verdict(was):  # compared above
            cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=was["text"])]
    assert expected.compare(stem, done) == []


@pytest.mark.parametrize("stem", STEMS)
def test_every_picture_that_pyplot_shows_is_told_in_both_languages(stem):
    """Those of `atento.show` tell it themselves."""
    for lang in sources.LANGUAGES:
        code = [cell for cell in sources.notebook(lang, stem).cells if sources.is_code(cell)]
        for cell, then in zip(code, expected.load(stem), strict=True):
            pictured = "image/png" in then["kinds"] and "atento.show(" not in cell.source
            assert pictured == ("alt" in cell.metadata), cell.source
            assert not pictured or is_told(cell.metadata["alt"])


def told(done):
    """The alternative texts of all pictures, as the site shows them."""
    return [
        told_of(output, cell)
        for cell in done.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]


def is_told(words):
    """Whether it is a sentence, no number and no name of a file."""
    return len(words.split()) > 4 and words.endswith(".") and not words.endswith(".png")


def is_verdict(cell):
    return cell["text"].startswith((OPEN, RIGHT))
