"""`atento inspect`: which text and model, what it prints and writes, how it refuses and stops."""

import io
import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from rich.cells import cell_len
from transformers.models.llama.modeling_llama import LlamaAttention

import atento
from atento._errors import MissingLibraryError
from saved_models import llama, saved

TEXT = "Your journey starts with one step and your journey starts with two steps"
HOSTILE = "</script>\x1b[31m\u202e[bold]x"


@pytest.fixture
def model(folder):
    return saved(llama(), folder / "model")


@pytest.fixture
def stdin(monkeypatch):
    def give(content):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="utf-8"))

    return give


def python(code, *, cwd):
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env=os.environ | {"LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=120,
    )


# The embedded model.


def test_the_embedded_model_shows_its_heads(run):
    got = run("inspect", "--text", TEXT)
    assert (got.code, got.err) == (0, "")
    lines = got.out.split("\n")
    assert lines[0] == "atento-mini: 13 tokens, 3 layers, 12 heads in all"
    assert lines[2] == "layers: transformer.h.*.attn"
    assert lines[3].split()[:6] == ["layer", "head", "role", "share", "previous", "induction"]
    assert len([line for line in lines if re.match(r"[012] +[0-3] ", line)]) == 12
    assert re.search(r"\n0 +2 previous token +0\.98 +0\.98 ", got.out)
    assert "\nRoles: positional 4 · diagonal 2 · previous token 1 · sink 1 · other 4\n" in got.out
    assert re.search(r"\nread in \d+\.\d s, \d+ MB at the most\nNext: --save ", got.out)
    assert all(cell_len(line) <= 80 for line in lines)
    assert "\x1b" not in got.out


def test_the_embedded_model_needs_no_torch(folder):
    code = (
        "import sys; from atento.cli import main; "
        f"code = main(['inspect', '--text', {TEXT!r}, '--save', 'run.safetensors', '--out', "
        "'run.json']); code = code or main(['heads', 'run.safetensors']); "
        "code = code or main(['diff', 'run.safetensors', 'run.safetensors']); "
        "heavy = ('torch', 'transformers', 'tokenizers'); "
        "sys.exit(code or repr([m for m in heavy if m in sys.modules]))"
    )
    got = python(code, cwd=folder)
    assert got.stderr.split("\n")[-2] == "[]"


def test_the_numbers_are_those_of_a_trace(run, folder):
    assert run("inspect", "--text", TEXT, "--save", "run.safetensors").code == 0
    recording = atento.load_recording(folder / "run.safetensors")
    explained = atento.explain(TEXT)
    assert recording.tokens == list(explained.tokens)
    for layer, traced in zip(recording, explained.layers, strict=True):
        weights = traced.trace["weights"].value
        for head in range(4):
            np.testing.assert_allclose(layer.weights(head), weights[head], rtol=0, atol=1e-5)
        own = np.diagonal(weights, axis1=-2, axis2=-1)
        np.testing.assert_allclose(layer.statistics["self"][0], own, rtol=0, atol=1e-5)
        # a token before it that is the same one
        ids = recording.token_ids[0]
        same = np.tril(ids[:, None] == ids, -1)
        np.testing.assert_allclose(
            layer.statistics["duplicate"][0], (weights * same).sum(-1), rtol=0, atol=1e-5
        )


def test_json_is_all_that_is_printed(run):
    got = run("inspect", "--text", TEXT, "--json")
    assert (got.code, got.err) == (0, "")
    record = json.loads(got.out)
    assert record["tokens"][:2] == ["Your", "journey"]
    assert len(record["heads"]) == 12
    assert record["heads"][2]["role"] == "previous token"
    assert record["skipped"] == []


def test_out_and_save(run, folder):
    got = run("inspect", "--text", TEXT, "--out", "heads.JSON", "--save", "run.safetensors")
    assert got.code == 0
    assert got.err == "JSON written: heads.JSON\nRecording written: run.safetensors\n"
    assert "Next: atento heads run.safetensors" in got.out
    written = json.loads((folder / "heads.JSON").read_text("utf-8"))
    assert written == json.loads(run("inspect", "--text", TEXT, "--json").out)


def test_a_file_and_standard_input(run, folder, stdin):
    (folder / "text.txt").write_text(f"\ufeff{TEXT}\n", "utf-8")
    wanted = json.loads(run("inspect", "--text", TEXT, "--json").out)
    assert json.loads(run("inspect", "--file", "text.txt", "--json").out) == wanted
    stdin(TEXT.encode())
    assert json.loads(run("inspect", "-", "--json").out) == wanted


def test_layers_and_heads(run):
    got = run(
        "inspect", "--text", TEXT, "--layers", "0,transformer.h.2*", "--heads", "1-2", "--json"
    )
    rows = json.loads(got.out)["heads"]
    assert [row["layer"] for row in rows] == ["transformer.h.0.attn"] * 2 + [
        "transformer.h.2.attn"
    ] * 2
    whole = json.loads(run("inspect", "--text", TEXT, "--json").out)["heads"]
    kept = [row for row in whole if "h.1" not in row["layer"] and row["head"] in (1, 2)]
    assert [row["previous"] for row in rows] == pytest.approx([row["previous"] for row in kept])
    assert [row["head"] for row in rows] == [1, 2, 1, 2]


def test_a_text_that_is_too_long(run):
    got = run("inspect", "--text", "step " * 129)
    assert (got.code, got.out) == (2, "")
    assert got.err == (
        "atento: The model reads at most 128 tokens and the text has 129. Shorten it, or keep its "
        "first 128 with --cut.\n"
    )
    assert "atento-mini: 128 tokens" in run("inspect", "--text", "step " * 129, "--cut").out


def test_sort_and_top(run):
    got = run("inspect", "--text", TEXT, "--sort", "previous", "--top", "3")
    rows = [line.split() for line in got.out.split("\n") if re.match(r"[012] ", line)]
    assert len(rows) == 3
    assert rows[0][:4] == ["0", "2", "previous", "token"]
    assert "… 9 more heads; --top 0 shows all" in got.out
    assert "Roles: positional 4" in got.out  # of all heads


def test_spanish(run):
    got = run("inspect", "--text", TEXT, "--lang", "es", "--sort", "role")
    assert "atento-mini: 13 tokens, 3 capas, 12 cabezas en total" in got.out
    assert re.search(r"token anterior +0,98", got.out)
    assert "Papeles: posicional 4" in got.out
    got = run("inspect", "--lang", "es")
    assert got.err.startswith("atento: inspect necesita un texto: --text, --file, o -")
    got = run("inspect", "--text", TEXT, "--lang", "es", "--heads", "7")
    assert got.err == (
        "atento: No hay ninguna cabeza 7 en la capa transformer.h.0.attn: sus cabezas van de 0 a "
        "3.\n"
    )


# A model of transformers.


def test_a_model(run, model, folder):
    given = ("inspect", "--model", "model", "--text", "the cat sat . the cat sat .")
    got = run(*given)
    assert (got.code, got.err) == (0, "")
    assert got.out.startswith("model: 8 tokens, 2 layers, 8 heads in all\n")
    assert "layers: model.layers.*.self_attn" in got.out
    assert run(*given, "--save", "run.safetensors").code == 0
    saved_run = atento.load_recording(folder / "run.safetensors")
    assert saved_run.tokens == ["the", "cat", "sat", ".", "the", "cat", "sat", "."]
    plain = llama()
    with torch.no_grad(), atento.capture(plain) as recording:
        plain(torch.from_numpy(saved_run.token_ids))
    for one, other in zip(saved_run, recording, strict=True):
        for head in range(4):
            np.testing.assert_array_equal(one.weights(head), other.weights(head))


def test_a_long_text_goes_in_chunks(run, model, folder):
    (folder / "text.txt").write_text("the cat sat on a dog . " * 12)
    given = ("inspect", "--model", "model", "--file", "text.txt")
    got = run(*given, "--chunk", "20", "--save", "run.safetensors")
    assert got.code == 0
    assert "model: 84 tokens" in got.out
    assert " in 5 chunks, " in got.out
    one = json.loads(run(*given, "--json").out)["heads"]
    several = json.loads(run("heads", "run.safetensors", "--json").out)["heads"]
    for row, other in zip(one, several, strict=True):
        for name in ("previous", "entropy", "induction", "duplicate", "uniform", "positional"):
            assert row[name] == pytest.approx(other[name], abs=1e-5)


def test_what_a_model_refuses_is_told_in_one_line(run, model, folder):
    def told(*arguments):
        got = run("inspect", *arguments)
        assert (got.code, got.out) == (2, "")
        assert got.err.count("\n") == 1
        return got.err

    given = ("--model", "model", "--text", "the cat")
    assert told(*given, "--layers", "2").startswith("atento: There is no layer 2. There are 2: 0: ")
    assert told(*given, "--heads", "0-4").startswith("atento: There is no head 4 in layer model.")
    assert told(*given, "--device", "nowhere").startswith("atento: There is no device nowhere here")
    assert "at most 90 tokens and the text has 91" in told(*given[:2], "--text", "cat " * 91)
    assert "está en la caché" not in told("--model", "./none", "--text", "x")
    assert told("--model", "./none", "--text", "x", "--lang", "es") == (
        "atento: La carpeta ./none no existe. Revisa el nombre y la ubicación.\n"
    )
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    assert "pickled and never opened" in told(*given)


def test_too_little_memory_is_told(run, model, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to\nand more")

    monkeypatch.setattr("atento.reading.running.read_tokens", fail)
    got = run("inspect", "--model", "model", "--text", "the cat")
    assert got.code == 2
    assert got.err.startswith("atento: There is not enough memory for this text (DefaultCPU")


def test_a_bug_keeps_its_traceback(run, model, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("a bug")

    monkeypatch.setattr("atento.reading.running.read_tokens", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        run("inspect", "--model", "model", "--text", "the cat")


def test_a_page_goes_through_the_door(run, folder, monkeypatch):
    drawn = []

    def save(record, path, *, lang=None):
        drawn.append((type(record).__name__, path.name, lang))

    monkeypatch.setattr("atento.views.save", save, raising=False)
    got = run("inspect", "--text", TEXT, "--out", "page.html", "--lang", "es")
    assert got.code == 0
    assert drawn[-1] == ("Recording", "page.html", "es")
    assert got.err == "Página escrita: page.html (ábrela en un navegador)\n"


def test_a_page(run, folder):
    got = run("inspect", "--text", TEXT, "--out", "page.html")
    assert (got.code, got.err) == (0, "Page written: page.html (open it in a browser)\n")
    page = (folder / "page.html").read_text("utf-8")
    assert page.startswith("<!doctype html>")
    assert "transformer.h.2.attn" in page


# What is refused before any work.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "inspect needs a text: --text, --file, or - for standard input. Try: atento "),
        (("hello",), "inspect takes its text with --text or --file, or - for standard input. Got"),
        (("--text", "a", "--file", "b"), "inspect reads one text. Got --text and --file."),
        (("-", "--text", "a"), "inspect reads one text. Got - and --text."),
        (("--text", ""), "inspect needs at least one word."),
        (("--text", " \n"), "inspect needs at least one word."),
        (("--text", "\udcff"), "the text on the command line is not UTF-8."),
        (("--text", "\u3000"), "inspect needs at least one word."),
        (("--file", "none.txt"), "none.txt does not exist."),
        (("--file", "d.html"), "d.html is a folder; a file is expected."),
        (("--file", "empty.txt"), "empty.txt is empty (0 bytes)."),
        (
            ("--file", "latin.txt"),
            "latin.txt, line 3: not UTF-8 text (byte 12 of the file). Save it as UTF-8.",
        ),
        (
            ("--file", "marked.txt"),
            "marked.txt, line 2: not UTF-8 text (byte 6 of the file).",
        ),
        (
            ("--text", "a", "--out", "x.gif"),
            "--out must end in .html, .json, .svg, .png or .pdf. Got x.gif.",
        ),
        (("--text", "a", "--out", "no/x.json"), "can't write no/x.json: the folder "),
        (("--text", "a", "--save", "x.bin"), "--save must end in .safetensors. Got x.bin."),
        (("--text", "a", "--save", "no/x.safetensors"), "can't write no/x.safetensors: the "),
        (("--text", "a", "--save", "d.safetensors"), "can't write d.safetensors: it is a folder."),
        (("--text", "a", "--sort", "size"), "--sort must be one of layer, role, entropy, "),
        (("--text", "a", "--top", "-1"), "--top must be a whole number from 0 on (0: all). Got"),
        (("--text", "a", "--chunk", "5"), "--chunk goes with --model: "),
        (("--text", "a", "--device", "cpu"), "--device goes with --model: "),
        (("--text", "a", "--trust-remote-code"), "--trust-remote-code goes with --model: "),
        (("--text", "a", "--model", "m", "--chunk", "0"), "--chunk must be a whole number of "),
        (("--text", "a", "--layers", ""), "--layers takes numbers from 0 on, ranges and names"),
        (("--text", "a", "--layers", "0,,1"), "--layers takes numbers from 0 on, ranges and "),
        (("--text", "a", "--layers", "-1"), "--layers takes numbers from 0 on, ranges and names"),
        (("--text", "a", "--layers", "3"), "There is no layer 3. There are 3: 0: transformer.h"),
        (("--text", "a", "--layers", "x.*"), "There is no layer x.*. There are 3: "),
        (("--text", "a", "--heads", "x"), "--heads takes numbers and ranges from 0 on"),
        (("--text", "a", "--heads", "3-1"), "--heads takes numbers and ranges from 0 on"),
        (("--text", "a", "--heads", "-1"), "--heads takes numbers and ranges from 0 on"),
        (("--text", "a", "--heads", "1-9999999"), "--heads takes numbers and ranges from 0 on"),
        (("--text", "a", "--heads", "4"), "There is no head 4 in layer transformer.h.0.attn: "),
        (("--text", "a", "--lang", "fr"), "lang must be one of en, es."),
        (("--text", "a", "--model", "./e\x1b[31m"), "The folder ./e␛[31m does not exist."),
    ],
)
def test_mistakes_are_told_in_one_line(run, folder, arguments, message):
    (folder / "empty.txt").touch()
    (folder / "latin.txt").write_bytes(b"one\ntwo\ncaf\xe9\n")
    (folder / "marked.txt").write_bytes(b"\xef\xbb\xbfa\n\xff")
    (folder / "d.html").mkdir()
    (folder / "d.safetensors").mkdir()
    before = sorted(folder.rglob("*"))
    got = run("inspect", *arguments)
    assert got.code == 2
    assert got.out == ""
    assert got.err.startswith(f"atento: {message}")
    assert got.err.count("\n") == 1
    assert sorted(folder.rglob("*")) == before


def test_standard_input_that_is_no_text(run, stdin):
    stdin(b"one\ncaf\xe9")
    got = run("inspect", "-")
    assert got.err.startswith("atento: standard input, line 2: not UTF-8 text (byte 8).")


def test_places_are_checked_before_anything_is_read(run, monkeypatch):
    monkeypatch.setattr("atento.embedded.load_mini", lambda: pytest.fail("computed"))
    for option, name in (("--out", "no/x.json"), ("--save", "no/x.safetensors")):
        assert run("inspect", "--text", "a", option, name).code == 2


def test_hostile_tokens_do_not_act(run):
    got = run("inspect", "--text", HOSTILE, "--save", "run.safetensors")
    assert got.code == 0
    assert not set(got.out) & set("\x1b\u202e\0")


# Ctrl-C.


SLOW = """
import sys, time
from transformers.models.llama.modeling_llama import LlamaAttention
from atento.cli import main
forward, calls = LlamaAttention.forward, [0]
def slow(*args, **kwargs):
    calls[0] += 1
    print("call", calls[0], file=sys.stderr, flush=True)
    if calls[0] == {call}:
        time.sleep(60)
    return forward(*args, **kwargs)
LlamaAttention.forward = slow
sys.exit(main(["inspect", "--model", "model", "--file", "text.txt", "--chunk", "20", *{more!r}]))
"""


def interrupted(folder, call, *more):
    """Runs the program, and sends it SIGINT within the call of that number."""
    (folder / "text.txt").write_text("the cat sat on a dog . " * 12)
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW.format(call=call, more=list(more))],
        cwd=folder,
        env=os.environ | {"LANG": "C.UTF-8"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines = []
    with process:
        for line in process.stderr:
            lines.append(line)
            if line == f"call {call}\n":
                process.send_signal(signal.SIGINT)
        out = process.stdout.read()
    told = [line for line in lines if not line.startswith("call ")]
    return process.returncode, out, "".join(told)


@pytest.mark.slow
def test_an_interrupt_keeps_the_whole_chunks(model, folder, run):
    # two layers: 1 and 2 are the first look, 3 to 8 three chunks of 20, 9 layer 0 of the fourth
    code, out, err = interrupted(folder, 10, "--save", "run.safetensors")
    assert (code, out) == (130, "")
    assert err == "Interrupted: run.safetensors holds the first 60 of 84 tokens.\n"
    kept = atento.load_recording(folder / "run.safetensors")
    assert [layer.shape for layer in kept] == [(1, 4, 60, 60)] * 2
    assert len(kept.tokens) == 60
    plain = llama()
    with torch.no_grad(), atento.capture(plain) as wanted:
        plain(torch.from_numpy(kept.token_ids))
    for one, other in zip(kept, wanted, strict=True):
        for head in range(4):
            np.testing.assert_allclose(one.weights(head), other.weights(head), atol=1e-5)
        for name in ("entropy", "received"):
            np.testing.assert_allclose(one.statistics[name], other.statistics[name], atol=1e-4)
    assert "60 tokens, 2 layers" in run("heads", "run.safetensors").out


@pytest.mark.slow
def test_an_interrupt_in_the_first_chunk_saves_nothing(model, folder):
    code, out, err = interrupted(folder, 4, "--save", "run.safetensors")
    assert (code, out, err) == (130, "", INTERRUPTED)
    assert not (folder / "run.safetensors").exists()
    assert not list(folder.glob(".atento-*"))


INTERRUPTED = "Interrupted before the first chunk was finished: nothing was saved.\n"


def test_an_interrupt_without_save_says_nothing(model, run, monkeypatch, folder):
    calls = []
    attend = LlamaAttention.forward

    def forward(*args, **kwargs):
        calls.append(None)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return attend(*args, **kwargs)

    monkeypatch.setattr(LlamaAttention, "forward", forward)
    (folder / "text.txt").write_text("the cat sat on a dog . " * 12)
    got = run("inspect", "--model", "model", "--file", "text.txt", "--chunk", "20")
    assert (got.code, got.out, got.err) == (130, "", "")
    assert len(calls) == 7


@pytest.mark.parametrize("ending", ["svg", "png", "pdf"])
@pytest.mark.parametrize("command", [("explain", TEXT), ("inspect", "--text", TEXT)])
def test_a_figure_is_written_and_said(run, folder, command, ending):
    found = run(*command, "--out", f"head.{ending}")
    assert found.code == 0
    assert f"Figure written: head.{ending}" in found.out + found.err
    begins = {"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}[ending]
    assert (folder / f"head.{ending}").read_bytes().startswith(begins)


@pytest.mark.parametrize("command", [("explain", TEXT), ("inspect", "--text", TEXT)])
def test_a_figure_that_cannot_be_drawn_is_told_before_the_text_is_read(run, monkeypatch, command):
    def missing(library, purpose):
        raise MissingLibraryError(f"{library} is needed {purpose}")

    def read(*_, **__):
        raise AssertionError("the text was read")

    monkeypatch.setattr("atento.views.doors.require", missing)
    monkeypatch.setattr("atento.embedded.model.Mini.run", read)
    found = run(*command, "--out", "head.svg")
    assert (found.code, found.err) == (2, "atento: matplotlib is needed to draw figures\n")
