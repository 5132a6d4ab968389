"""What a notebook is given: which kinds, what is in them, and what is too much."""

import base64
import json
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from IPython.core.formatters import DisplayFormatter

import atento
from atento.views import notebook
from atento.views.notebook import cell_bundle, in_notebook, mime_bundle
from atento.views.page import render_page
from atento.views.recording_page import render_recording

HOSTILE = [
    "</script><img src=x onerror=alert(1)>",
    "</iframe><script>alert(1)</script>",
    '"><svg onload=alert(1)>',
    "' onload='alert(1)",
    "&quot;&amp;",
    "<!--",
    "\ud800",
    "\0",
    "\u2028\u202e",
]


class Tags(HTMLParser):
    """The tags of an output, with their attributes."""

    def __init__(self, html):
        super().__init__()
        self.found = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def names(self):
        return [tag for tag, _ in self.found]

    def first(self, name):
        return next(attrs for tag, attrs in self.found if tag == name)


def is_png(text):
    return base64.b64decode(text, validate=True).startswith(b"\x89PNG\r\n")


def test_every_kind_is_text_that_json_and_utf_8_can_hold(trace, make):
    for record in (trace, make(12)[0], atento.explain("Your journey starts")):
        bundle = mime_bundle(record, lang="en")
        assert list(bundle) == ["text/html", "image/png", "text/plain"]
        assert is_png(bundle["image/png"])
        json.dumps(bundle).encode()
        "".join(bundle.values()).encode()


def test_the_frame_holds_the_very_page_and_may_only_run_it(make):
    recording = make(12)[0]
    tags = Tags(mime_bundle(recording, lang="es")["text/html"])
    assert tags.names() == ["div", "iframe", "style", "img"]
    frame = tags.first("iframe")
    assert frame["srcdoc"] == render_recording(recording, lang="es")
    assert frame["sandbox"] == "allow-scripts"
    assert frame["title"] == "La atención, cabeza por cabeza"
    assert frame["loading"] == "lazy"
    assert "src" not in frame


def test_options_of_the_page_reach_it(make):
    recording = make(12, names=("one", "two"))[0]
    html = mime_bundle(recording, lang="en", layers=[1], heads=[0])["text/html"]
    wanted = render_recording(recording, lang="en", layers=[1], heads=[0])
    assert Tags(html).first("iframe")["srcdoc"] == wanted
    with pytest.raises(atento.InputError, match="layers: is for recordings; got a Explanation"):
        mime_bundle(atento.explain("a b"), layers=[1])


def test_the_still_picture_is_left_when_frames_styles_and_scripts_are_taken_out(trace):
    """As JupyterLab does with an output that is not trusted, and GitHub with all."""
    bundle = mime_bundle(trace, lang="en")
    tags = Tags(bundle["text/html"])
    picture = tags.first("img")
    assert picture["src"] == f"data:image/png;base64,{bundle['image/png']}"
    assert picture["alt"].startswith("The attention weights as a picture")
    order = tags.names()
    assert order.index("iframe") < order.index("img")  # the rule hides what follows a frame


def test_hostile_tokens_stay_inside_the_attribute(make):
    x = np.eye(len(HOSTILE))
    for record in (
        atento.explain(query=x, key=x, value=x, names=HOSTILE),
        make(HOSTILE, names=(HOSTILE[1],))[0],
    ):
        html = mime_bundle(record, lang="en")["text/html"]
        tags = Tags(html)
        assert tags.names() == ["div", "iframe", "style", "img"]
        assert sorted(tags.first("iframe")) == [
            "class",
            "loading",
            "onload",
            "sandbox",
            "srcdoc",
            "style",
            "title",
        ]
        assert "<script" not in html
        assert "\0" not in html


def test_the_text_is_the_terminals_table_without_colours(trace, capsys):
    text = mime_bundle(trace, lang="en")["text/plain"]
    assert "\x1b" not in text
    assert "weights = softmax(scaled)" in text
    assert capsys.readouterr().out == ""
    hostile = atento.explain(
        query=np.eye(9), key=np.eye(9), value=np.eye(9), names=[*HOSTILE[:8], "\x1b[31m"]
    )
    assert "\x1b" not in mime_bundle(hostile, lang="en")["text/plain"]


def test_a_recordings_text_lists_its_heads(make):
    recording = make(12)[0]
    recording.skipped = [("other", "no attention")]
    text = mime_bundle(recording, lang="en")["text/plain"]
    assert "first" in text
    assert "no attention" in text
    assert "<Recording" not in text


def test_a_survey_is_its_curves():
    x = np.eye(5)
    found = atento.survey(x, x, x, statistics=["entropy"])
    bundle = mime_bundle(found, lang="en")
    assert Tags(bundle["text/html"]).names() == ["div", "img"]
    assert is_png(bundle["image/png"])
    assert bundle["text/plain"].splitlines()[-2:] == ["head  entropy", "   0     1.59"]


def test_without_matplotlib_there_is_the_page_alone(trace, monkeypatch):
    monkeypatch.setattr(notebook, "find_spec", lambda name: None)
    bundle = mime_bundle(trace, lang="en")
    assert list(bundle) == ["text/html", "text/plain"]
    assert Tags(bundle["text/html"]).names() == ["div", "iframe"]


def test_a_picture_that_fails_does_not_take_the_page_with_it(trace, monkeypatch):
    def broken(*args, **options):
        raise RuntimeError("no canvas")

    monkeypatch.setattr("atento.views.figures.drawing.plot", broken)
    with pytest.warns(RuntimeWarning, match=r"picture could not be drawn.*no canvas"):
        bundle = mime_bundle(trace, lang="en")
    assert list(bundle) == ["text/html", "text/plain"]


def test_a_large_page_says_its_size(trace, monkeypatch):
    size = len(render_page(atento.explain(query=np.eye(2), key=np.eye(2), value=np.eye(2))))
    monkeypatch.setattr(notebook, "MENTIONED", 0.01)
    bundle = mime_bundle(trace, lang="en")
    said = 'atento.save(record, "attention.html") writes the page'
    assert said in bundle["text/plain"].splitlines()[0]
    assert "This output holds 0 MB" in bundle["text/plain"]
    assert bundle["text/html"].count("<p>") == 1
    assert Tags(bundle["text/html"]).names()[-1] == "p"
    monkeypatch.setattr(notebook, "MENTIONED", 2 * size / notebook.MEGABYTE)
    assert "MB" not in mime_bundle(trace, lang="en")["text/plain"]


def test_a_page_that_is_too_large_is_left_out_and_named(make, monkeypatch):
    recording = make(40)[0]
    monkeypatch.setattr(notebook, "MOST", 0.1)
    bundle = mime_bundle(recording, lang="en")
    assert Tags(bundle["text/html"]).names() == ["div", "img", "p"]
    assert "a notebook is given 0.1 MB at most: atento.save(record" in bundle["text/plain"]
    assert "layers= and heads= of atento.show choose a part" in bundle["text/plain"]
    assert is_png(bundle["image/png"])


def test_a_page_that_must_be_too_large_is_not_even_made(make, monkeypatch):
    recording = make(40)[0]
    monkeypatch.setattr(notebook, "MOST", 0.001)
    monkeypatch.setattr(
        "atento.views.recording_page.render_recording", lambda *_, **__: pytest.fail("made")
    )
    assert "iframe" not in mime_bundle(recording, lang="en")["text/html"]
    # 2 heads × 40 tokens × 6 features of q and of k, 2 bytes each
    assert notebook._at_least(recording, {}) == 2 * 2 * 40 * 6 * 2
    assert notebook._at_least(recording, {"heads": [0]}) == 0


def test_show_displays_in_a_kernel_and_prints_in_a_terminal(trace, kernel, capsys):
    atento.show(trace, lang="en")
    (bundle,) = kernel.bundles
    assert list(bundle) == ["text/html", "image/png", "text/plain"]
    assert capsys.readouterr().out == ""


def test_show_prints_in_ipythons_terminal(trace, ipython_terminal, capsys):
    assert not in_notebook()
    atento.show(trace, lang="en")
    assert "weights = softmax(scaled)" in capsys.readouterr().out
    assert cell_bundle(trace) is None
    assert atento.plot(trace, head=0)._repr_mimebundle_() is None


def test_show_in_marimo_is_html_and_no_second_tab(trace, marimo, capsys):
    atento.show(trace, lang="en")
    (html,) = marimo
    assert Tags(html).names() == ["div", "iframe", "style", "img"]
    data, metadata = cell_bundle(trace)
    assert list(data) == ["text/html", "text/plain"]
    assert metadata == {}
    atento.show(atento.survey(*np.ones((3, 4, 2)), statistics=["entropy"]))
    assert Tags(marimo[1]).names() == ["div", "img"]
    assert capsys.readouterr().out == ""


def test_marimo_that_is_only_imported_is_no_notebook(marimo, monkeypatch):
    assert in_notebook()
    monkeypatch.setattr(sys.modules["marimo"], "running_in_notebook", lambda: False)
    assert not in_notebook()


def test_show_refuses_in_a_notebook_as_in_a_terminal(kernel, trace):
    for wrong in ([1, 2], None, object()):
        with pytest.raises(atento.DTypeError, match="a notebook shows a Trace, an Explanation"):
            atento.show(wrong)
    with pytest.raises(atento.InputError, match="layers: is for recordings"):
        atento.show(trace, layers=[0])
    with pytest.raises(atento.InputError, match="lang must be one of en, es"):
        atento.show(trace, lang="fr")
    assert kernel.bundles == []


def test_an_option_for_recordings_is_refused_in_a_terminal_too(trace, capsys):
    with pytest.raises(atento.InputError, match="layers: is for a recording; got another record"):
        atento.show(trace, layers=[0])
    assert capsys.readouterr().out == ""


def test_every_record_shows_itself_as_the_last_line_of_a_cell(trace, make, kernel):
    """Through IPython's own formatter, as a kernel calls it."""
    records = [trace, atento.explain("a b"), make(12)[0], atento.survey(*np.ones((3, 4, 2)))]
    for record in records:
        data, metadata = DisplayFormatter().format(record)
        assert {"text/html", "image/png", "text/plain"} == set(data)
        assert metadata == {"image/png": {"alt": record.plot().figure.description}}
        assert data == mime_bundle(record)


def test_pictures_are_told_in_words_to_those_who_do_not_see_them(trace, kernel):
    """Where nbconvert looks, and in the HTML."""
    for lang, said in (("en", "5 × 5 (query × key)"), ("es", "5 × 5 (consulta × clave)")):
        atento.show(trace, lang=lang)
        told = kernel.metadata[-1]["image/png"]["alt"]
        assert said in told
        assert Tags(kernel.bundles[-1]["text/html"]).first("img")["alt"].endswith(" " + told)


@pytest.mark.parametrize("what", ["axes", "figure"])
def test_a_figure_shows_itself_as_the_last_line_of_a_cell(trace, kernel, what):
    axes = atento.plot(trace, head=1, lang="es")
    shown = axes if what == "axes" else axes.figure
    data, metadata = DisplayFormatter().format(shown)
    assert is_png(data["image/png"])
    assert data["text/plain"] == repr(shown)
    assert metadata == {"image/png": {"alt": axes.figure.description}}


def test_what_is_left_in_no_figure_shows_its_repr(trace, kernel):
    axes = atento.plot(trace, head=1)
    figure = axes.figure
    figure.clear()
    for shown in (axes, figure):
        assert shown._repr_mimebundle_() is None
        data, _ = DisplayFormatter().format(shown)
        assert data == {"text/plain": repr(shown)}


def test_axes_of_the_user_are_theirs(trace, kernel):
    """pyplot shows its own figures, and would show them twice."""
    from matplotlib.figure import Figure

    given = Figure().add_subplot()
    assert atento.plot(trace, ax=given, head=0) is given
    data, _ = DisplayFormatter().format(given)
    assert list(data) == ["text/plain"]


def test_what_cannot_be_drawn_shows_its_repr(kernel):
    trace = atento.trace(*np.ones((3, 2, 3, 4, 5)))  # two batch items: no page
    data, _ = DisplayFormatter().format(trace)
    assert data == {"text/plain": repr(trace)}


def test_ipythons_terminal_shows_the_repr_and_draws_nothing(trace, ipython_terminal, monkeypatch):
    monkeypatch.setattr(notebook, "mime_bundle", lambda *_, **__: pytest.fail("drawn"))
    data, _ = DisplayFormatter().format(trace)
    assert data == {"text/plain": repr(trace)}


def test_asking_whether_this_is_a_notebook_loads_nothing():
    code = (
        "import sys; from atento.views.notebook import in_notebook; assert not in_notebook(); "
        "print({'IPython', 'marimo', 'anywidget', 'matplotlib', 'rich'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_a_notebook_file_holds_the_bundle(trace, tmp_path):
    output = {"output_type": "display_data", "data": mime_bundle(trace, lang="en"), "metadata": {}}
    cell = {"cell_type": "code", "execution_count": 1, "metadata": {}, "outputs": [output]}
    book = {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {},
        "cells": [{**cell, "id": "a", "source": "atento.show(trace)"}],
    }
    path = tmp_path / "book.ipynb"
    path.write_text(json.dumps(book), encoding="utf-8")
    again = json.loads(path.read_text(encoding="utf-8"))["cells"][0]["outputs"][0]["data"]
    assert again == mime_bundle(trace, lang="en")
