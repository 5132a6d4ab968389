"""`atento lessons`: the list, a copy of one's own, Jupyter where it is there."""

import json
import subprocess

import pytest

from atento.cli import lessons as command
from atento.cli import main


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_list_names_all_eight(capsys):
    assert main(["lessons", "--lang", "es"]) == 0
    out = capsys.readouterr().out
    assert "1  Del diccionario a la atención" in out
    assert [line.split()[0] for line in out.splitlines()[:8]] == [str(n) for n in range(1, 9)]
    assert "atento lessons 1" in out


def test_a_copy_is_a_notebook_and_is_never_overwritten(tmp_path, capsys):
    assert main(["lessons", "1", "--lang", "en"]) == 0
    (copy,) = tmp_path.iterdir()
    assert copy.name == "01_from_dictionary_to_attention.en.ipynb"
    assert json.loads(copy.read_text())["nbformat"] == 4
    assert str(copy.name) in capsys.readouterr().out
    copy.write_text("my answers")
    assert main(["lessons", "1", "--lang", "en"]) == 0
    assert copy.read_text() == "my answers"
    assert "stays as it is" in capsys.readouterr().out


def test_both_languages_lie_side_by_side(tmp_path):
    for lang in ("en", "es"):
        assert main(["lessons", "2", "--lang", lang, "--to", str(tmp_path)]) == 0
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["9"], "from 1 to 8. Got 9"),
        (["0"], "from 1 to 8. Got 0"),
        (["1", "--to", "nowhere"], "no folder nowhere"),
        (["one"], "whole number"),
        (["1", "--lang", "fr"], "lang"),
    ],
)
def test_mistakes_get_one_line(arguments, told, capsys):
    arguments = arguments if "--lang" in arguments else [*arguments, "--lang", "en"]
    assert main(["lessons", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line


def test_jupyter_is_started_with_the_copy(monkeypatch, tmp_path):
    called = []
    monkeypatch.setattr(subprocess, "run", lambda words, check: called.append(words))
    assert main(["lessons", "1", "--lang", "en", "--open"]) == 0
    ((_, _, program, path),) = called
    assert (program, path) == ("jupyterlab", "01_from_dictionary_to_attention.en.ipynb")


def test_without_jupyter_it_says_what_else_opens_it(monkeypatch, capsys):
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    assert main(["lessons", "1", "--lang", "en", "--open"]) == 0
    assert "VS Code" in capsys.readouterr().out


def test_a_pipe_starts_nothing(monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("started Jupyter"))
    assert main(["lessons", "1"]) == 0
