"""What makes the pages that nobody writes."""

import base64
import json
import re
from html import escape

import griffe
import pytest
from docs.making import cache, lesson_pages
from docs.making.benchmarks_page import benchmarks_page
from docs.making.commands_page import commands, commands_page
from docs.making.docstrings import with_an_entry_each, with_fenced_examples
from docs.making.formulas import FORMULA, as_mathml, with_mathml
from docs.making.gallery_page import gallery_page
from lessons.sources import LANGUAGES, notebook, source, stems
from markdown import markdown
from nbformat.v4 import new_code_cell, new_notebook, new_output


def test_doctests_become_code():
    text = "Adds.\n\n>>> 1 + 1  # doctest: +SKIP\n2\n\nMore.\n\n>>> 3"
    fenced = with_fenced_examples(text)
    assert fenced == "Adds.\n\n```pycon\n>>> 1 + 1\n2\n```\n\nMore.\n\n```pycon\n>>> 3\n```"


def test_an_argument_has_an_entry_of_its_own():
    text = (
        "Args:\n    a, *b: sides,\n        in metres.\n    c: a corner.\n\nRaises:\n    E, F: both."
    )
    assert with_an_entry_each(text) == (
        "Args:\n    a: sides,\n        in metres.\n    *b: sides,\n        in metres.\n"
        "    c: a corner.\n\nRaises:\n    E: both.\n    F: both."
    )


def test_griffe_reads_what_is_made():
    text = with_an_entry_each("Does.\n\nArgs:\n    a, b: numbers.\n")
    parsed = griffe.Docstring(text).parse("google", warnings=False)
    assert [one.name for one in parsed[1].value] == ["a", "b"]


def test_all_commands_are_found():
    names = [name for name, _ in commands()]
    assert {"atento explain", "atento index build", "atento doctor"} <= set(names)
    page = commands_page()
    assert all(f"\n## {name}\n" in page for name in names)
    assert "| <code>--align start\\|end</code> |" in page


def test_benchmarks_tell_how_to_make_them_where_there_are_none(tmp_path):
    assert "run `make bench`" in benchmarks_page(tmp_path)


@pytest.fixture
def measured():
    row = {"name": "a | b", "figure": 2.93, "low": 2.7, "high": 3.5, "unit": "×"}
    row |= {"wanted": "≥ 2.5", "reached": True, "detail": "9 pairs"}
    machine = {"processor": "A chip", "cores": 2, "python": "3.11.7", "load": 1.0}
    machine |= {"system": "Linux-6.1-somebodys-own-build", "packages": {"numpy": "2.4", "x": None}}
    return {"format": "atento.benchmark/1", "machine": machine, "rows": [row]}


def test_benchmarks_are_a_table_with_the_machine(tmp_path, measured):
    (tmp_path / "some_engines.json").write_text(json.dumps(measured))
    page = benchmarks_page(tmp_path)
    assert "## some engines" in page
    assert "A chip, 2 cores, Linux, Python 3.11.7, numpy 2.4." in page
    assert "| a \\| b (9 pairs) | 2.93 × | 2.7 – 3.5 | ≥ 2.5 | yes |" in page
    assert "somebody" not in page


@pytest.mark.parametrize(
    ("latex", "inner"),
    [
        (
            r"\frac{1}{\sqrt d}",
            "<mfrac><mrow><mn>1</mn></mrow><mrow><msqrt><mi>d</mi></msqrt></mrow></mfrac>",
        ),
        (r"\sum_j w_j", "<munder><mo>∑</mo><mi>j</mi></munder><msub><mi>w</mi><mi>j</mi></msub>"),
        (r"\text{key head}", "<mtext>key head</mtext>"),
        ("m' - 1", "<msup><mi>m</mi><mo>′</mo></msup><mo>−</mo><mn>1</mn>"),
        ("a < 0,5", "<mi>a</mi><mo>&lt;</mo><mn>0,5</mn>"),
    ],
)
def test_formulas_become_mathml(latex, inner):
    assert as_mathml(latex) == f"<math><mrow>{inner}</mrow></math>"


def test_a_long_formula_in_the_text_may_be_broken():
    made = as_mathml(r"0{,}5 \cdot 2 + f(1 + 1) + 3 = 4")
    lines = re.findall(r"<math><mrow>(.*?)</mrow></math>", made)
    assert len(lines) == 4
    assert made.count("<wbr>") == 3
    assert lines[0] == "<mn>0,5</mn><mo>·</mo><mn>2</mn>"
    assert lines[1].startswith('<mo form="infix">+</mo><mi>f</mi><mo>(</mo><mn>1</mn><mo>+</mo>')


def test_formulas_in_code_stay():
    assert with_mathml("`$x$` and ```\n$y$\n```") == "`$x$` and ```\n$y$\n```"
    assert with_mathml("the $x$") == "the <span><math><mrow><mi>x</mi></mrow></math></span>"


@pytest.mark.parametrize("text", ["$d$ is\n$x$? Yes", "- a\n  $x$ b", "Why\n$\\sqrt{64}$?"])
def test_a_formula_at_the_beginning_of_a_line_stays_in_its_sentence(text):
    html = markdown(with_mathml(text), extensions=["md_in_html", "attr_list", "tables"])
    assert html.count("<p>") == (0 if text.startswith("-") else 1)
    assert html.count("<math>") == text.count("$") // 2


@pytest.mark.parametrize("latex", [r"\nonsense", r"\frac{1}", "x_"])
def test_what_is_no_formula_is_refused(latex):
    with pytest.raises(ValueError, match="formula"):
        as_mathml(latex)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_all_formulas_of_the_lessons_are_known(lang):
    for stem in stems():
        if source(lang, stem).exists():
            for cell in notebook(lang, stem).cells:
                if cell.cell_type == "markdown":
                    assert not FORMULA.search(with_mathml(cell.source)), stem


HOSTILE = r"] [CLS] `b` *c* _d_ <e> & \f"


@pytest.fixture
def pictured():
    """A lesson that was run: pyplot's picture, told by the author, and one that tells itself."""
    picture = {"image/png": base64.b64encode(b"a picture").decode()}
    own = {"image/png": {"alt": f"Mapa de los pesos: {HOSTILE} mira a «the»."}}
    cells = [
        new_code_cell("plot()", metadata={"alt": "Una recta."}),
        new_code_cell("show()", metadata={"alt": "De otra cosa."}),
    ]
    cells[0].outputs = [new_output("display_data", data=picture)]
    cells[1].outputs = [new_output("display_data", data=picture, metadata=own)]
    return new_notebook(cells=cells)


def test_pictures_of_lessons_are_told_in_words(pictured, tmp_path):
    page = lesson_pages._page(pictured, "", lesson_pages._Pictures(tmp_path, "01_x", "es"))
    assert "![Una recta.](pictures/01_x-1.png)" in page
    html = markdown(page)
    assert f'alt="Mapa de los pesos: {escape(HOSTILE)} mira a «the»."' in html
    assert "otra cosa" not in html
    assert sorted(path.name for path in tmp_path.iterdir()) == ["01_x-1.es.png", "01_x-2.es.png"]


def test_a_picture_that_nobody_tells_stops_the_site(pictured, tmp_path):
    del pictured.cells[0].metadata["alt"]
    with pytest.raises(ValueError, match=r'write # %% alt="..." above it in both languages.\nplot'):
        lesson_pages._page(pictured, "", lesson_pages._Pictures(tmp_path, "01_x", "es"))


def test_what_was_made_of_something_else_is_thrown_away(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "CACHE", tmp_path / "kept")
    source = tmp_path / "made_of.py"
    source.write_text("x = 1")
    first = cache.kept("one", ".txt", source)
    other = cache.kept("other", ".txt", source)
    first.parent.mkdir()
    first.touch()
    other.touch()
    assert cache.kept("one", ".txt", source) == first
    assert first.exists()
    source.write_text("x = 2")
    assert cache.kept("one", ".txt", tmp_path) != first
    assert not first.exists()
    assert other.exists()


def test_the_gallery_has_every_page(tmp_path):
    page = gallery_page(tmp_path, quick=True)
    for command in ("atento watch", "atento serve", "atento explain", "atento inspect"):
        assert f"$ {command}" in page
