"""A match in the terminal and through the doors: bars, widths, both languages, hostile keys."""

import io
import json

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

import atento
from atento import SoftDict
from atento.views.terminal_match import bar, match_lines, render_match
from atento.views.words import words

STORY = {"méxico": 7, "alemania": 10, "inglaterra": 8, "perro": 5}
HOSTILE = ["</script><script>alert(1)</script>", "\x1b[31m\u202e[bold]", "东京" * 40, "a" * 10**6]


@pytest.fixture(scope="module")
def match():
    return SoftDict({1.0: 10, 2.0: 20, 4.0: 40}).attend(2.0)


def lines(match, width=80, lang="en"):
    return [line.plain for line in match_lines(match, width, words(lang))]


def test_a_line_for_each_key(match):
    assert lines(match) == [
        "2 → 18.07",
        "",
        "key  weight                      value",
        "2    ████████████████████ 57.4%  20",
        "1    ████████████▏        34.8%  10",
        "4    ██▊                   7.8%  40",
        "",
        "3 keys, by distance, temperature 1; those listed hold 100% of the weight.",
    ]


def test_spanish(match):
    shown = lines(match, lang="es")
    assert shown[0] == "2 → 18,07"
    assert shown[2].split() == ["clave", "peso", "valor"]
    assert shown[3].split() == ["2", "█" * 20, "57,4", "%", "20"]
    assert shown[-2].startswith("3 claves, por distancia, temperatura 1; las de la lista")


def test_nothing_that_weighs_enough():
    shown = lines(SoftDict({1.0: 10}).attend([2.0, 1.0], min_weight=1)[0])
    assert "1 key, by distance" in shown[-1]
    shown = lines(SoftDict({1.0: 10, 2.0: 20}).attend(1.5, min_weight=0.9))
    assert shown == [
        "1.5 → 15",
        "",
        "2 keys, by distance, temperature 1; none weighs as much as was asked for.",
    ]


@pytest.mark.parametrize("width", [20, 40, 57, 80, 300])
@pytest.mark.parametrize("lang", ["en", "es"])
def test_hostile_keys_and_values_stay_text_and_within_the_width(width, lang):
    values = ["\x1b[2J", {"k": "\u202e"}, "v" * 500, None]
    lookup = SoftDict(zip(HOSTILE, values, strict=True))
    shown = lines(lookup.attend(HOSTILE[1]), width, lang)
    assert max(map(cell_len, shown)) <= max(40, min(width, 100))
    assert not set("".join(shown)) & {"\x1b", "\u202e", "\n"}
    stream = io.StringIO()
    render_match(
        lookup.attend("x"), lang=lang, console=Console(file=stream, width=width, no_color=True)
    )
    assert width < 80 or "[bold]" in stream.getvalue()  # no markup


def test_an_object_that_cannot_be_written_is_named():
    class Broken:
        def __repr__(self):
            raise RuntimeError

    assert "<Broken>" in lines(SoftDict({1: Broken()}).attend(1))[3]


def test_bars_are_as_long_as_the_weights():
    assert bar(0.0, 1.0) == ""
    assert bar(1e-12, 1.0) == "▏"
    assert bar(0.25, 0.5, 8) == "████"
    for eighths in range(1, 65):
        drawn = bar(eighths / 64, 1.0, 8)
        assert sum({"█": 8}.get(c, " ▏▎▍▌▋▊▉".find(c)) for c in drawn) == eighths


def test_show_prints_the_keys_or_the_steps(match, capsys):
    atento.show(match, lang="en")
    assert capsys.readouterr().out.startswith("2 → 18.07\n")
    atento.show(match, lang="en", steps=True)
    steps = capsys.readouterr().out
    assert "Keys (3):" in steps
    assert "weights = softmax(biased)" in steps
    with pytest.raises(atento.InputError, match="layers: is for a recording"):
        atento.show(match, layers=[0])


def test_save_writes_the_steps_as_a_page_the_keys_as_json_and_figures(tmp_path):
    found = SoftDict(STORY).attend("país")
    for name in ("m.html", "m.json", "m.svg"):
        atento.save(found, tmp_path / name, lang="es")
    written = json.loads((tmp_path / "m.json").read_text())
    assert written["format"] == "atento.match/1"
    assert [item["key"] for item in written["items"]][3] == "perro"
    assert written["items"][0]["value"] == 8
    assert written["value"] == found.value
    assert written["lse"] == found.lse
    page = (tmp_path / "m.html").read_text()
    assert "inglaterra" in page
    assert "inglaterra" in (tmp_path / "m.svg").read_text()
    for name in ("m.gif", "nowhere/m.html"):
        with pytest.raises(atento.InputError):
            atento.save(found, tmp_path / name)
    assert found.plot().get_yticklabels()[0].get_text() == "país"


def test_json_is_strict_whatever_the_values_are(tmp_path):
    circle = []
    circle.append(circle)
    values = [float, {"a": float("nan")}, circle, {1, 2}, "\ud800", b"x", 1 + 2j]
    atento.save(SoftDict(enumerate(values)).attend(3), tmp_path / "m.json")

    def refuse(name):
        raise AssertionError(name)

    text = (tmp_path / "m.json").read_text()
    items = json.loads(text, parse_constant=refuse)["items"]
    assert len(items) == 7
    atento.save(SoftDict({(1.0, 2.0): np.eye(2)}).attend((1, 2)), tmp_path / "v.json")
    (item,) = json.loads((tmp_path / "v.json").read_text())["items"]
    assert item == {"key": [1.0, 2.0], "value": [[1.0, 0.0], [0.0, 1.0]], "weight": 1.0}


def test_a_notebook_is_given_the_page_the_picture_and_the_table():
    bundle, metadata = SoftDict(STORY).attend("país")._repr_mimebundle_()
    assert set(bundle) == {"text/html", "image/png", "text/plain"}
    assert "inglaterra" in bundle["text/plain"]
    assert "<iframe" in bundle["text/html"]
    assert "“país”" in metadata["image/png"]["alt"]


def test_hostile_keys_are_inert_on_the_page(tmp_path):
    lookup = SoftDict(dict.fromkeys(HOSTILE, 1))
    atento.save(lookup.attend(HOSTILE[0]), tmp_path / "m.html")
    page = (tmp_path / "m.html").read_text()
    assert "<script>alert" not in page
    assert len(page) < 500_000  # a key of a million characters is cut


def test_keys_beyond_the_trace_are_named_together():
    from atento.explanation.of_match import explanation_of_match

    explanation = explanation_of_match(SoftDict({n: n for n in range(2000)}).attend(7.5, top_k=2))
    assert explanation.key_tokens == ("7", "8", "… +1,998")
    assert explanation.tokens == ("7.5",)
