"""The first cell of a lesson installs what is missing: from a clone around it, or by name."""

import re
import subprocess
import sys
from importlib import util
from types import SimpleNamespace

import pytest

from lessons import sources

STEMS = sources.stems()


def first_cell(stem):
    return next(cell for cell in sources.notebook("en", stem).cells if sources.is_code(cell)).source


@pytest.fixture
def pip(monkeypatch):
    """A pip that installs nothing; what it was asked for, and the code it ends with."""
    asked = SimpleNamespace(wanted=[], code=0)

    def run(words, **_):
        assert words[:5] == [sys.executable, "-m", "pip", "install", "-qq"]
        asked.wanted.append([word for word in words[5:] if not word.startswith("-")])
        return SimpleNamespace(returncode=asked.code, stderr="ERROR: No matching distribution")

    monkeypatch.setattr(subprocess, "run", run)
    return asked


def missing(monkeypatch, *names):
    monkeypatch.setattr(util, "find_spec", lambda name: None if name in names else name)


@pytest.fixture
def clone(tmp_path):
    """A folder in which a lesson lies as in the repository."""
    (tmp_path / "src/atento").mkdir(parents=True)
    (tmp_path / "lessons/es").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize("inside", [".", "lessons/es"])
def test_in_a_clone_it_is_the_clone_that_is_installed(pip, monkeypatch, clone, inside):
    missing(monkeypatch, "atento", "matplotlib")
    monkeypatch.chdir(clone / inside)
    exec(first_cell(STEMS[0]), {})  # noqa: S102 - the lesson's own code
    assert pip.wanted == [[str(clone), "matplotlib"]]


def test_elsewhere_everything_is_asked_for_by_name(pip, monkeypatch, tmp_path):
    missing(monkeypatch, "atento", "torch")
    monkeypatch.chdir(tmp_path)
    exec(first_cell(STEMS[1]), {})  # noqa: S102
    assert pip.wanted == [["atento", "torch"]]


def test_what_is_there_is_left_alone(pip, monkeypatch, clone):
    missing(monkeypatch)
    monkeypatch.chdir(clone)
    exec(first_cell(STEMS[1]), {})  # noqa: S102
    assert pip.wanted == []


def test_where_pip_fails_one_line_says_what_to_do(pip, monkeypatch, tmp_path, capsys):
    missing(monkeypatch, "atento")
    monkeypatch.chdir(tmp_path)
    pip.code = 1
    with pytest.raises(ImportError, match=r"clone its repository .* clona su repositorio") as told:
        exec(first_cell(STEMS[0]), {})  # noqa: S102
    assert "\n" not in str(told.value)
    assert capsys.readouterr().out == "ERROR: No matching distribution\n"


def test_all_lessons_begin_alike_but_for_what_they_need():
    cells = {re.sub(r"\(\"atento\".*?\)", "(...)", first_cell(stem), count=1) for stem in STEMS}
    assert len(cells) == 1
