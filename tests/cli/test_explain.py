"""`atento explain`: what it prints and writes, in which language, and how it refuses."""

import io
import json
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from rich.cells import cell_len

HOSTILE = "</script><img src=x onerror=alert(1)>"


@pytest.fixture
def mini(monkeypatch):
    """A stand-in for the embedded model: one layer, two heads, at most 9 tokens."""

    def encode(text):
        tokens = tuple(re.findall(r"\w+|[^\w\s]+", text))
        return SimpleNamespace(ids=tuple(range(len(tokens))), tokens=tokens)

    def forward(ids):
        rng = np.random.default_rng(0)
        source = rng.normal(size=(len(ids), 4))
        layer = {"input": source}
        for role in ("query", "key", "value"):
            weight, bias = rng.normal(size=(4, 4)), rng.normal(size=4)
            made = (source @ weight + bias).reshape(len(ids), 2, 2).swapaxes(0, 1)
            layer |= {role: made, f"{role}_weight": weight, f"{role}_bias": bias}
        return SimpleNamespace(layers=(SimpleNamespace(**layer),))

    fake = SimpleNamespace(context=9, tokenizer=SimpleNamespace(encode=encode), run=forward)
    monkeypatch.setattr("atento.embedded.load_mini", lambda: fake)


@pytest.fixture
def stdin(monkeypatch):
    def give(content):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="utf-8"))

    return give


def test_arrays_print_the_steps_and_write_the_page(run, arrays, folder):
    got = run("explain", *arrays, "--scale", "1", "--names", "names.txt")
    assert (got.code, got.err) == (0, "")
    assert re.search(r"2 journey +0\.1385 +0\.2379 +0\.2333 +0\.1240 +0\.1082 +0\.1581", got.out)
    assert got.out.endswith("\nPage written: attention.html (open it in a browser)\n")
    assert all(cell_len(line) <= 80 for line in got.out.split("\n"))
    page = (folder / "attention.html").read_text("utf-8")
    assert page.startswith("<!doctype html>")
    assert "journey" in page


def test_causal(run, arrays):
    got = run("explain", *arrays, "--causal", "--no-page")
    assert re.search(r"\n +1 +1\.0000 +· +· +· +· +·\n", got.out)


def test_our_own_page_is_written_anew(run, arrays, folder):
    assert run("explain", *arrays, "--names", "names.txt").code == 0
    assert run("explain", *arrays).code == 0
    assert "journey" not in (folder / "attention.html").read_text("utf-8")


def test_a_page_of_others_is_left_alone(run, arrays, folder):
    page = folder / "attention.html"
    page.write_text("<title>mine</title>")
    got = run("explain", *arrays)
    assert (got.code, got.out) == (2, "")
    assert got.err == (
        "atento: attention.html is here already and is not a page of atento, so it is left alone. "
        "Name another with --out PAGE.html, or write none with --no-page.\n"
    )
    assert page.read_text() == "<title>mine</title>"
    assert run("explain", *arrays, "--no-page").code == 0
    assert run("explain", *arrays, "--out", "attention.html").code == 0
    assert page.read_text("utf-8").startswith("<!doctype html>")


def test_no_page(run, arrays, folder):
    before = sorted(folder.iterdir())
    got = run("explain", *arrays, "--no-page")
    assert got.code == 0
    assert "Page written" not in got.out
    assert sorted(folder.iterdir()) == before


def test_json_is_all_that_is_printed(run, arrays, folder):
    got = run("explain", *arrays, "--json", "--scale", "1")
    assert (got.code, got.err) == (0, "")
    record = json.loads(got.out)
    weights = next(step for step in record["steps"] if step["name"] == "weights")
    assert weights["value"][1][0] == pytest.approx(0.1385, abs=5e-5)
    assert not (folder / "attention.html").exists()


def test_json_with_a_page_says_so_aside(run, arrays, folder):
    got = run("explain", *arrays, "--json", "--out", "p.html")
    json.loads(got.out)
    assert got.err == "Page written: p.html (open it in a browser)\n"
    assert (folder / "p.html").exists()


def test_out_json(run, arrays, folder):
    got = run("explain", *arrays, "--out", "a.JSON")
    assert "JSON written: a.JSON" in got.out
    assert json.loads((folder / "a.JSON").read_text("utf-8"))["head"] == 0
    assert not (folder / "attention.html").exists()


def test_a_text_with_and_without_quotes(run, mini):
    quoted = run("explain", "Your journey starts", "--no-page")
    assert quoted.code == 0
    assert "atento-mini, layer 0, head" in quoted.out
    assert "Tokens (3):  1 Your  2 journey  3 starts" in quoted.out
    assert "queries = input @ W_query + b_query" in quoted.out
    assert run("explain", "Your", "journey", "starts", "--no-page").out == quoted.out
    assert run("explain", "--no-page", "--", "Your", "journey", "starts").out == quoted.out


def test_a_text_from_standard_input(run, mini, stdin):
    stdin("\ufeffel camino, ñandú".encode())
    got = run("explain", "-", "--no-page")
    assert "Tokens (4):  1 el  2 camino  3 ,  4 ñandú" in got.out
    stdin(b"caf\xe9")
    got = run("explain", "-")
    assert got.code == 2
    assert got.err.startswith("atento: standard input is not UTF-8 text (byte 4). Convert it")
    stdin(b" \n")
    assert run("explain", "-").err.startswith("atento: explain needs at least one word.")


def test_layer_and_head(run, mini):
    got = run("explain", "a b c d", "--layer", "0", "--head", "1", "--no-page")
    assert "layer 0, head 1" in got.out
    assert "The head that you asked for." in got.out
    got = run("explain", "a b c d", "--layer", "1")
    assert (got.code, got.err) == (2, "atento: --layer goes from 0 to 0. Got 1.\n")
    got = run("explain", "a b c d", "--head", "2")
    assert (got.code, got.err) == (2, "atento: --head goes from 0 to 1. Got 2.\n")


def test_a_text_that_is_too_long(run, mini, folder):
    text = "a b c d e f g h i j k"
    got = run("explain", text)
    assert got.code == 2
    assert "reads at most 9 tokens and the text has 11" in got.err
    assert "--cut" in got.err
    assert not (folder / "attention.html").exists()
    got = run("explain", text, "--cut", "--no-page")
    assert got.code == 0
    assert "Tokens (9):" in got.out


def test_hostile_tokens(run, arrays, folder):
    names = [HOSTILE, "\x1b[31m", "\u202eoverride", "[bold]x[/]", "👍", "\0"]
    (folder / "names.txt").write_text("\n".join(names), "utf-8")
    got = run("explain", *arrays, "--names", "names.txt")
    assert got.code == 0
    assert not set(got.out) & set("\x1b\u202e\0")
    assert "␛[31m" in got.out
    assert "<U+202E>overr" in got.out
    page = (folder / "attention.html").read_text("utf-8")
    assert "<img src=x" not in page


def test_spanish(run, arrays, folder, monkeypatch):
    got = run("explain", *arrays, "--lang", "es")
    assert "La atención, paso a paso" in got.out
    assert "Página escrita: attention.html (ábrela en un navegador)" in got.out
    assert "0,4300" in got.out
    assert '<html lang="es">' in (folder / "attention.html").read_text("utf-8")
    got = run("explain", *arrays, "--lang", "es", "--align", "end")
    assert got.err == "atento: --align dice cómo se entiende --causal. Añade --causal.\n"
    monkeypatch.setenv("LANG", "es_MX.UTF-8")
    assert "La atención" in run("explain", *arrays).out
    assert "Attention" in run("explain", *arrays, "--lang", "en").out


def test_unequal_lengths_need_an_alignment(run, folder):
    np.save("q.npy", np.ones((2, 3)))
    np.save("k.npy", np.ones((5, 3)))
    given = ("explain", "--query", "q.npy", "--key", "k.npy", "--value", "k.npy", "--no-page")
    assert run(*given).code == 0
    got = run(*given, "--causal")
    assert got.code == 2
    assert "there are 2 queries and 5 keys: --align start puts" in got.err
    start, end = (run(*given, "--causal", "--align", align) for align in ("start", "end"))
    assert re.search(r"\n +1 +1\.0000 +· +· +· +·\n", start.out)
    assert re.search(r"\n +1 +0\.2500 +0\.2500 +0\.2500 +0\.2500 +·\n", end.out)


def test_float32_beside_text_becomes_the_finer(run, folder):
    np.save("six.npy", np.load("six.npy").astype(np.float32))
    got = run("explain", "--query", "six.npy", "--key", "six.csv", "--value", "six.npy", "--json")
    assert got.code == 0


Q = ("--query", "six.npy")
QKV = (*Q, "--key", "six.npy", "--value", "six.npy")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "explain needs a text, or --query, --key and --value. Got neither. Try: "),
        (("",), "explain needs at least one word. Got an empty text. Write a sentence."),
        (("  \n",), "explain needs at least one word. Got an empty text."),
        (("\udcff",), "the text on the command line is not UTF-8."),
        (Q, "explain needs --query, --key and --value together. --key and --value are missing."),
        ((*Q, "--key", "six.npy"), "explain needs --query, --key and --value together. --value is"),
        (
            ("hello", *QKV),
            "explain takes a text or arrays, not both. Got a text and --query, --key",
        ),
        (
            ("hello", "--causal"),
            "explain takes a text or arrays, not both. Got a text and --causal;",
        ),
        ((*QKV, "--cut"), "--cut is for texts."),
        ((*QKV, "--align", "middle"), "--align must be start or end. Got 'middle'."),
        ((*QKV, "--names", "six.csv", "--key", "no.npy"), "no.npy does not exist."),
        (
            (*QKV, "--key-names", "short.txt"),
            "--key-names must hold 6 names, one for each key. Got 1.",
        ),
        (
            (*QKV, "--out", "x.gif"),
            "--out must end in .html, .json, .svg, .png or .pdf. Got x.gif.",
        ),
        (
            (*QKV, "--out", "x"),
            "--out must end in .html, .json, .svg, .png or .pdf. Got x. Say --out attention.html.",
        ),
        ((*QKV, "--out", "no/x.html"), "can't write no/x.html: the folder "),
        ((*QKV, "--out", "d.html"), "can't write d.html: it is a folder."),
        ((*QKV, "--out", "a.html", "--no-page"), "--out and --no-page say opposite things."),
        ((*QKV, "--lang", "fr"), "lang must be one of en, es. Got 'fr': choose one of these."),
        ((*QKV, "--scale", "nan"), "scale must be a finite number"),
        ((*QKV, "--head", "x"), "--head takes a whole number; got 'x'."),
        ((*QKV, "--heads", "1"), "There is no option --heads. Similar: --head"),
        ((*QKV, "--head"), "--head needs a value after it. See atento explain --help."),
        (
            ("--query", "six.npy", "--key", "bad.csv", "--value", "six.npy"),
            "bad.csv, line 2, column 1",
        ),
        (
            ("--query", "rag.json", "--key", "six.npy", "--value", "six.npy"),
            "rag.json, at [1]: a list",
        ),
        (
            ("--query", "wide.npy", "--key", "six.npy", "--value", "six.npy"),
            "query and key must have",
        ),
        (
            ("--query", "b.npy", "--key", "six.npy", "--value", "six.npy"),
            "query must hold one sequence.",
        ),
        (
            ("--query", "e\x1b[31m.npy", "--key", "six.npy", "--value", "six.npy"),
            "e␛[31m.npy does not",
        ),
    ],
)
def test_mistakes_are_told_in_one_line(run, folder, arguments, message):
    (folder / "bad.csv").write_text("1,2\nx,3\n")
    (folder / "rag.json").write_text("[[1, 2], [3]]")
    (folder / "short.txt").write_text("one\n")
    (folder / "d.html").mkdir()
    np.save("wide.npy", np.ones((6, 5)))
    np.save("b.npy", np.ones((2, 1, 6, 3)))
    before = sorted(folder.rglob("*"))
    got = run("explain", *arguments)
    assert got.code == 2
    assert got.out == ""
    assert got.err.startswith(f"atento: {message}")
    assert got.err.count("\n") == 1
    assert sorted(folder.rglob("*")) == before


def test_a_page_that_cannot_be_made_leaves_the_old_one(run, arrays, folder, monkeypatch):
    (folder / "p.html").write_text("old")

    def fail(*_, **__):
        raise RuntimeError("a bug")

    monkeypatch.setattr("atento.views.page.render_page", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        run("explain", *arrays, "--out", "p.html")
    assert (folder / "p.html").read_text() == "old"
    assert not list(folder.glob(".atento-*"))


def test_the_place_is_checked_before_anything_is_computed(run, arrays, monkeypatch):
    monkeypatch.setattr("atento.explanation.explain", lambda *_, **__: pytest.fail("computed"))
    assert run("explain", *arrays, "--out", "no/p.html").code == 2
