"""What is compared of a lesson's outputs: text, numbers to a tolerance, kinds, warnings."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from lessons import expected, sources


def notebook(*outputs, tags=()):
    cell = new_code_cell("pass", outputs=list(outputs), metadata={"tags": list(tags)})
    return new_notebook(cells=[cell])


def said(text, name="stdout"):
    return new_output("stream", name=name, text=text)


def result(**data):
    return new_output("execute_result", data={k.replace("_", "/"): v for k, v in data.items()})


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    (tmp_path / "expected").mkdir()
    monkeypatch.setattr(expected, "HERE", tmp_path)


@pytest.mark.parametrize(
    ("then", "now", "same"),
    [
        ("8.0", "8.0005", True),
        ("8.0", "8.02", False),
        ("0.0", "0.0009", True),
        ("0.0", "0.002", False),
        ("-1.5e-3 x", "-1.5e-03   x", True),
        ("weights", "scores", False),
        ("1 2", "1 2 3", False),
        ("<object at 0x7f00>", "<object at 0x8e11>", True),
        ("−2.0", "2.0", False),
        ("nan", "1.0", False),
        ("v1 head3", "v1 head4", False),
    ],
)
def test_numbers_have_a_tolerance_and_words_have_none(then, now, same):
    expected.store("01_x", notebook(said(then)))
    assert bool(expected.compare("01_x", notebook(said(now)))) != same


def test_pictures_count_by_kind():
    expected.store("01_x", notebook(result(text_plain="<Figure>", image_png="a")))
    assert not expected.compare("01_x", notebook(result(text_plain="<Figure>", image_png="b")))
    assert expected.compare("01_x", notebook(result(text_plain="<Figure>")))


def test_a_new_warning_is_told():
    expected.store("01_x", notebook(said("1")))
    (line,) = expected.compare("01_x", notebook(said("1"), said("careful", name="stderr")))
    assert "warned" in line


def test_what_varies_must_still_print():
    expected.store("01_x", notebook(said("0.13 s"), tags=["varies"]))
    assert not expected.compare("01_x", notebook(said("0.29 s"), tags=["varies"]))
    assert expected.compare("01_x", notebook(tags=["varies"]))


def test_a_cell_more_or_less_is_told():
    expected.store("01_x", notebook(said("1")))
    more = notebook(said("1"))
    more.cells.append(new_code_cell("pass"))
    assert expected.compare("01_x", more) == ["01_x: 2 code cells, 1 expected"]


HEAD = "# %% [markdown]\n# # 1 · A\n\n"


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ("# %% [markdown]\n# # 1 · B\n\n# %%\nx = 1\n", None),
        ("# %% [markdown]\n# # 1 · B\n\n# %%\nx = 2\n", "the code or its tags differ"),
        ('# %% [markdown]\n# # 1 · B\n\n# %% tags=["varies"]\nx = 1\n', "the code or its tags"),
        ("# %% [markdown]\n# ## 1 · B\n\n# %%\nx = 1\n", "headings of other levels"),
        ('# %% [markdown]\n# # 1 · B\n\n# %% alt="Una línea"\nx = 1\n', "alt= must be in both"),
        ("# %% [markdown]\n# # 1 · B\n", "2 cells in English, 1 in Spanish"),
        (None, "not in es"),
    ],
)
def test_the_languages_differ_in_prose_alone(tmp_path, monkeypatch, other, told):
    monkeypatch.setattr(sources, "HERE", tmp_path)
    for lang in sources.LANGUAGES:
        (tmp_path / lang).mkdir()
    (tmp_path / "en/01_a.py").write_text(HEAD + "# %%\nx = 1\n")
    if other is not None:
        (tmp_path / "es/01_a.py").write_text(other)
    found = sources.differences("01_a")
    assert (told is None) == (not found)
    assert not found or told in found[0]


def test_pairing_writes_valid_notebooks_once(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "HERE", tmp_path)
    for lang in sources.LANGUAGES:
        (tmp_path / lang).mkdir()
        (tmp_path / lang / "01_a.py").write_text(HEAD + "# %%\nx = 1\n")
    assert len(sources.pair()) == 2
    nbformat.validate(nbformat.read(tmp_path / "es/01_a.ipynb", as_version=4))
    assert sources.pair() == []
