"""plot and save: what they take, what they refuse, and what they leave as it was."""

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
import zlib
from importlib.resources import files
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import atento
from atento.masks import Causal
from atento.views.figures.drawing import KINDS
from atento.views.figures.labels import short

HOSTILE = [
    "</script><img src=x onerror=alert(1)>",
    "<!--<script>",
    "]]>",
    "$x$",
    r"$\frac{1}{0}$ $$",
    r"\input{/etc/passwd}",
    "&amp;",
    "a\nb\r\tc",
    "nul\0",
    "\x1b[31m",
    "\x9b2J",
    "\ud800",
    "\u2028\u2029",
    "\u202eabc\u2066",
    "\ufffe\uffff",
    "",
    "   ",
    "e" + "\u0301" * 500,
    "東京都",
    "سلام",
    "👩\u200d👩\u200d👧",
    "\U00012000",
    "x" * 10_000,
]
SVG = "{http://www.w3.org/2000/svg}"
DUBLIN = "{http://purl.org/dc/elements/1.1/}"
DRAWN = [
    "svg",
    "title",
    "g",
    "path",
    "text",
    "defs",
    "style",
    "clipPath",
    "use",
    "image",
    "rect",
    "metadata",
    "pattern",
]


@pytest.fixture(scope="module")
def hostile():
    x = np.random.default_rng(1).normal(size=(len(HOSTILE), 3))
    return atento.explain(query=x, key=x, value=x, mask=Causal(), names=HOSTILE)


def written(path):
    """The texts of an SVG."""
    return ["".join(one.itertext()) for one in ET.parse(path).iter(f"{SVG}text")]  # noqa: S314


@pytest.mark.parametrize(
    ("kind", "ending"),
    [
        *((kind, ".svg") for kind in ("map", "arcs", "grid", "steps")),
        ("map", ".png"),
        ("arcs", ".pdf"),
    ],
)
def test_hostile_tokens_are_text_in_every_figure(hostile, kind, ending, tmp_path):
    path = tmp_path / f"figure{ending}"
    atento.save(hostile, path, kind=kind, width="text")
    content = path.read_bytes()
    assert len(content) < 2**20
    if ending == ".svg":
        said = written(path)
        root = ET.fromstring(content)  # noqa: S314
        drawn = {one.tag for one in root.iter() if one.tag.startswith(SVG)}
        assert {tag.removeprefix(SVG) for tag in drawn} <= {*DRAWN}
        assert not re.search(
            rb"<script|<img|<a |foreignObject|onerror=[\"']|href=\"(?!#|data:)", content
        )
        if kind in ("map", "arcs"):
            cells = 14 if kind == "map" else 16
            for token in HOSTILE:
                assert short(token, cells) in said
        assert not re.search(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]", content)


def test_tokens_are_short_visible_and_on_one_line():
    labels = [short(token) for token in HOSTILE]
    assert labels[3] == "$x$"
    assert labels[7:12] == ["a␊b␍␉c", "nul␀", "␛[31m", "<U+009B>2J", "<U+D800>"]
    assert labels[15:18] == ["∅", "␣␣␣", "e\u0301\u0301…"]
    assert labels[-1] == "x" * 13 + "…"
    assert all("\n" not in label and len(label) <= 20 for label in labels)


def test_text_is_text_in_an_svg(mini, tmp_path):
    atento.save(mini, tmp_path / "map.svg", layer=1, head=0, lang="es")
    said = written(tmp_path / "map.svg")
    for word in ("Your", "journey", "starts", "with", "one", "step"):
        assert said.count(word) == 2
    assert {"capa 1, cabeza 0", "peso", "clave (a la que mira)", "no visible", "0,8"} <= set(said)
    assert "<path" in (tmp_path / "map.svg").read_text()


def test_a_pdf_has_truetype_fonts_and_no_date(mini, tmp_path):
    atento.save(mini, tmp_path / "map.pdf")
    content = (tmp_path / "map.pdf").read_bytes()
    assert b"/FontFile2" in content
    assert b"/Type0" in content
    assert b"/Type3" not in content
    assert b"CreationDate" not in content
    streams = re.findall(rb"stream\r?\n(.*?)endstream", content, re.DOTALL)
    shown = b"".join(_inflated(stream) for stream in streams)
    assert shown.count(b" Tf") >= 12  # text operators, not outlines


def _inflated(stream):
    try:
        return zlib.decompress(stream)
    except zlib.error:
        return b""


def test_the_same_record_makes_the_same_bytes(tmp_path):
    code = (
        "import sys, atento\n"
        "e = atento.explain('one two three')\n"
        "for kind in ('map',):\n"
        "    for ending in ('svg', 'pdf', 'png'):\n"
        "        atento.save(e, f'{sys.argv[1]}/{kind}.{ending}', kind=kind, lang='en')\n"
    )
    made = []
    for seed, zone in (("1", "UTC"), ("2", "Asia/Tokyo")):
        folder = tmp_path / seed
        folder.mkdir()
        environment = {**os.environ, "PYTHONHASHSEED": seed, "TZ": zone}
        subprocess.run([sys.executable, "-c", code, str(folder)], check=True, env=environment)
        made.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert len(made[0]) == 3
    assert made[0] == made[1]


def test_matplotlib_is_left_as_it_was_and_pyplot_alone(mini, tmp_path):
    before = dict(mpl.rcParams)
    with mpl.rc_context({"text.parse_math": True, "font.size": 20, "axes.facecolor": "black"}):
        own = dict(mpl.rcParams)
        axes = atento.plot(mini)
        atento.save(mini, tmp_path / "a.svg")
        assert dict(mpl.rcParams) == own
    assert dict(mpl.rcParams) == before
    assert axes.xaxis.label.get_fontsize() == 7  # the user's style is not ours
    code = (
        "import sys, atento; atento.save(atento.explain('a b'), sys.argv[1]); "
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "b.png")], check=True)


def test_formulas_stay_text_when_the_user_draws(hostile, tmp_path):
    axes = atento.plot(hostile, kind="map", width="text")
    with mpl.rc_context({"text.parse_math": True, "svg.fonttype": "none"}):
        axes.figure.savefig(tmp_path / "own.svg")  # no warning of missing glyphs either
    assert "$x$" in written(tmp_path / "own.svg")


@pytest.mark.parametrize("kind", KINDS)
def test_axes_that_are_there_are_drawn_into(mini, surveyed, kind):
    record = surveyed if kind == "curves" else mini
    figure = Figure(figsize=(14, 8), layout="constrained")
    left, right = figure.subplots(1, 2)
    choice = {"head": 1} if kind == "curves" else {}
    assert atento.plot(record, kind, ax=left, **choice) is left
    assert record is surveyed or mini.plot(left.inset_axes((0, 0, 1, 1)), kind=kind) is not None
    assert figure.get_size_inches().tolist() == [14, 8]
    drawn = [*left.images, *left.collections, *left.child_axes]
    assert len(drawn) >= 2
    assert not [*right.images, *right.collections, *right.child_axes]
    figure.draw_without_rendering()


def test_records_draw_themselves(mini, traced):
    for record, options in ((mini, {}), (traced, {"head": 1})):
        axes = record.plot(lang="en", **options)
        assert isinstance(axes, Axes)
        assert axes.get_title() == atento.plot(record, lang="en", **options).get_title()
    figure = Figure()
    ax = figure.subplots()
    assert traced.plot(ax, kind="arcs", head=0) is ax


def test_the_usual_kind_and_width_of_each_record(mini, traced, surveyed, recording):
    assert len(atento.plot(mini).figure.axes) == 1
    assert len(atento.plot(recording).images) == 12
    assert len(atento.plot(recording, layer=1).images) == 6
    some = atento.plot(recording, "grid", layer="blocks.1.attn", head=(n for n in (4, 1)))
    assert len(some.images) == 2
    assert len(atento.plot(recording[0], head=2).images) == 0  # a map, of shapes
    assert len(atento.plot(surveyed, head=0).child_axes) == 3
    for kind, (_, width, _) in KINDS.items():
        record, choice = (surveyed, {"head": 0}) if kind == "curves" else (mini, {})
        expected = {"column": 3.3, "text": 6.9}[width]
        assert atento.plot(record, kind, **choice).figure.get_figwidth() == expected
    assert atento.plot(mini, width=4).figure.get_figwidth() == 4


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"kind": "pie"}, "kind must be one of map, grid, arcs, steps, curves; got 'pie'"),
        ({"kind": ["map"]}, "kind must be one of"),
        ({"threshold": 0.1}, "the kind 'map' takes rows, cols, pool, log, labels; got threshold"),
        ({"kind": "steps", "log": True}, "the kind 'steps' takes no options of its own; got log"),
        ({"pool": "sum"}, 'pool must be "mean" or "max"; got \'sum\''),
        ({"rows": 9}, "there are 6 queries, 0 to 5; got rows 9"),
        ({"cols": (4, 4)}, "cols must be at least one of 6 keys, without gaps"),
        ({"rows": slice(0, 6, 2)}, "rows must be at least one of 6 queries, without gaps"),
        ({"width": "page"}, r'width must be "column" \(3.3 in\), "text" \(6.9 in\) or a number'),
        ({"width": 0.5}, "or a number of inches from 3 to 100; got 0.5"),
        ({"lang": "fr"}, "lang must be one of en, es"),
        ({"head": [0, 1], "layer": 0}, "one head is drawn at a time; got 2"),
        ({"kind": "arcs", "threshold": 0}, "threshold must be a weight, above 0 and at most 1"),
        ({"kind": "curves"}, "this record has none: atento.survey and atento.capture fold them"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_words(mini, options, why):
    with pytest.raises(atento.InputError, match=why):
        atento.plot(mini, **options)


def test_what_a_record_has_not_kept_is_said(recording, surveyed):
    for record, options, why in (
        (recording, {"kind": "steps", "layer": 0, "head": 0}, "which a Trace or an Explanation"),
        (surveyed, {"kind": "steps"}, "which a Trace or an Explanation keeps; got a Survey"),
        (surveyed, {"kind": "arcs", "head": 0, "rows": 3}, "keeps an overview of all weights"),
        (surveyed, {"kind": "curves", "head": 0, "statistics": ["gini"]}, "no statistic 'gini'"),
        (surveyed, {"kind": "curves", "head": 0, "statistics": []}, "there is no statistic"),
    ):
        with pytest.raises(atento.InputError, match=why):
            atento.plot(record, **options)
    for layer in recording:
        layer.query = layer.key = None
    with pytest.raises(atento.InputError, match=r"of layer 'blocks.0.attn' were not kept"):
        atento.plot(recording)
    x = np.random.default_rng(0).normal(size=(3, 2, 90, 4))
    found = atento.survey(*x, statistics=["overview", "entropy"])
    with pytest.raises(atento.InputError, match="arcs needs each weight"):
        atento.plot(found, "arcs", head=0)
    plain = atento.survey(*x, statistics=["entropy"])
    for kind in ("map", "grid"):
        with pytest.raises(atento.InputError, match="no picture was kept"):
            atento.plot(plain, kind, head=0)


def test_too_many_tokens_for_their_names():
    x = np.random.default_rng(0).normal(size=(3, 200, 2))
    trace = atento.trace(*x)
    with pytest.raises(atento.InputError, match=r"200 queries don't fit as labels beside .* for"):
        atento.plot(trace, labels=True)
    with pytest.raises(atento.InputError, match="at most 100 fit on a page; got 200 queries"):
        atento.plot(trace, "arcs")
    many = np.random.default_rng(0).normal(size=(3, 9, 5, 2))
    for kind in ("arcs", "curves"):
        record = atento.trace(*many) if kind == "arcs" else atento.survey(*many)
        with pytest.raises(atento.InputError, match="at most 8 heads apart by colour; got 9"):
            atento.plot(record, kind, head=range(9))


def test_axes_that_cannot_be_drawn_into(mini):
    figure = Figure()
    polar = figure.add_subplot(121, projection="polar")
    removed = figure.add_subplot(122)
    removed.remove()
    cleared = Figure()
    lost = cleared.add_subplot()
    cleared.clear()
    for ax, error, why in (
        (figure, atento.DTypeError, "ax must be a matplotlib Axes, one of them; got Figure"),
        (np.array([polar, polar]), atento.DTypeError, "one of them; got ndarray"),
        (polar, atento.InputError, "ax must be plain axes; got polar ones"),
        (removed, atento.InputError, "ax is on no figure"),
        (lost, atento.InputError, "ax is on no figure"),
    ):
        with pytest.raises(error, match=why):
            atento.plot(mini, ax=ax)
    low = Figure(figsize=(7, 1)).subplots()
    with pytest.raises(atento.InputError, match=r"steps needs axes about .* inches high"):
        atento.plot(mini, "steps", ax=low)


def test_save_refuses_before_any_work(mini, tmp_path, monkeypatch):
    with pytest.raises(atento.InputError, match=r"kind=, head= is for figures: .svg, .png, .pdf"):
        atento.save(mini, tmp_path / "page.html", kind="map", head=1)
    with pytest.raises(atento.InputError, match="save makes a figure of its own"):
        atento.save(mini, tmp_path / "a.svg", ax=Figure().subplots())
    (tmp_path / "old.svg").write_text("old")
    with pytest.raises(atento.InputError, match="kind must be one of"):
        atento.save(mini, tmp_path / "old.svg", kind="nonsense")
    assert (tmp_path / "old.svg").read_text() == "old"
    monkeypatch.setattr("atento.views.figures.drawing.plot", lambda *_, **__: pytest.fail("drawn"))
    with pytest.raises(atento.InputError, match="does not exist"):
        atento.save(mini, tmp_path / "nowhere" / "a.svg")
    assert [path.name for path in tmp_path.iterdir()] == ["old.svg"]


@pytest.mark.parametrize("ending", [".svg", ".png", ".pdf"])
def test_files_carry_what_they_show_in_words(mini, tmp_path, ending):
    path = tmp_path / f"map{ending}"
    atento.save(mini, path, kind="map", lang="es")
    told = atento.plot(mini, "map", lang="es").figure.description
    assert "«" in told
    if ending == ".svg":
        (found,) = ET.parse(path).iter(f"{DUBLIN}description")  # noqa: S314 - our own
        assert found.text == told
    elif ending == ".png":
        from PIL import Image

        assert Image.open(path).text["Description"] == told
    else:
        assert b"/Subject (\xfe\xff" in path.read_bytes()
        assert told.encode("utf-16-be")[2:40] in path.read_bytes().replace(b"\\", b"")


def test_without_matplotlib_it_says_how_to_get_it(mini, tmp_path, monkeypatch):
    monkeypatch.setattr("atento._optional.find_spec", lambda name: None)
    for draw in (mini.plot, lambda: atento.save(mini, tmp_path / "a.png")):
        with pytest.raises(ImportError, match=r"matplotlib is needed to draw.*atento\[plot\]"):
            draw()
    assert not list(tmp_path.iterdir())


def test_nothing_heavy_is_loaded_before_a_picture_is_drawn():
    code = (
        "import sys, atento; x = [[1.0]]; import numpy as np; x = np.ones((2, 2)); "
        "t = atento.trace(x, x, x); t.plot; atento.plot; "
        "assert not {'matplotlib', 'torch'} & set(sys.modules), 'loaded'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_both_languages_say_the_same_things_and_all_of_them():
    folder = files("atento.views") / "locales"
    words = {
        lang: json.loads((folder / f"figure.{lang}.json").read_text("utf-8"))
        for lang in ("en", "es")
    }
    blanks = {
        lang: {name: sorted(re.findall(r"\{(\w+)\}", text)) for name, text in own.items()}
        for lang, own in words.items()
    }
    assert blanks["en"] == blanks["es"]
    assert all(name.startswith("figure.") and text.strip() for name, text in words["es"].items())
    same = {name for name, text in words["en"].items() if words["es"][name] == text}
    assert same == {"figure.title.role", "figure.token"}
    code = "".join(
        path.read_text("utf-8") for path in Path(str(files("atento.views.figures"))).glob("*.py")
    )
    for name in words["en"]:
        stem = name.rpartition(".")[0]
        assert f'"{name}"' in code or f'f"{stem}.{{' in code or f"f'{stem}.{{" in code, name
    for name in set(re.findall(r'"(figure\.[\w.]+)"', code)):
        assert name in words["en"]
