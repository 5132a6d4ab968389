"""The program as a whole: real processes, what they load, and how they end."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer

from atento import __version__
from atento.cli import main
from atento.equation import plan
from atento.masks import Causal

HEAVY = ("torch", "transformers", "tokenizers", "matplotlib", "hypothesis", "starlette")


def python(code, *, cwd, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env=os.environ | {"LANG": "C.UTF-8"} | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def program(*arguments, cwd, **environment):
    code = f"import sys; from atento.cli import main; sys.exit(main({list(arguments)!r}))"
    return python(code, cwd=cwd, **environment)


ARRAYS = ("--query", "six.npy", "--key", "six.npy", "--value", "six.npy")


@pytest.mark.parametrize(
    ("arguments", "also"),
    [
        (["--help"], ("numpy", "rich", "atento.equation")),
        (["explain", *ARRAYS], ()),
        (["explain", "Your journey starts"], ()),
        (["doctor"], ()),
    ],
)
def test_nothing_heavy_is_loaded(folder, arguments, also):
    code = (
        "import sys; from atento.cli import main; "
        f"main({arguments!r}); "
        f"sys.stderr.write(repr([m for m in {[*HEAVY, *also]!r} if m in sys.modules]))"
    )
    got = python(code, cwd=folder)
    assert got.stderr == "[]"
    assert got.stdout


def test_help_names_the_commands(run):
    for asked in ("--help", "-h"):
        got = run(asked)
        assert got.code == 0
        assert "explain" in got.out
        assert "doctor" in got.out
    text = run("explain", "--help").out
    for option in (
        "--query",
        "--causal",
        "--names",
        "--layer",
        "--head",
        "--lang",
        "--out",
        "--json",
    ):
        assert option in text


def test_version(run):
    assert (run("--version").code, run("--version").out) == (0, f"atento {__version__}\n")


def test_without_a_command_the_help_is_an_error(run):
    got = run()
    assert (got.code, got.out) == (2, "")
    assert got.err.startswith("Usage: atento")


def test_an_unknown_command(run):
    got = run("explane", "x")
    assert (got.code, got.out) == (2, "")
    assert got.err == (
        "atento: There is no command explane. Similar: explain. See atento --help.\n"
    )


def test_a_text_that_begins_with_a_dash_gets_a_hint(run):
    got = run("explain", "-hello there")
    assert got.code == 2
    assert "A text that begins with a dash goes after --." in got.err


def test_a_mistake_in_a_real_process_has_no_traceback(folder):
    np.save("object.npy", np.array([{}], dtype=object), allow_pickle=True)
    got = program("explain", "--query", "object.npy", *ARRAYS[2:], cwd=folder)
    assert (got.returncode, got.stdout) == (2, "")
    assert got.stderr.startswith("atento: object.npy holds pickled Python objects")
    assert got.stderr.count("\n") == 1
    assert not (folder / "attention.html").exists()


def test_a_bug_keeps_its_traceback(monkeypatch, folder):
    monkeypatch.setattr("atento.cli.read_arrays.read_array", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["explain", *ARRAYS])


def test_an_interrupt(monkeypatch, folder, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("atento.cli.read_arrays.read_array", interrupt)
    assert main(["explain", *ARRAYS]) == 130
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("signal", [KeyboardInterrupt, typer.Abort])
def test_an_interrupt_outside_of_a_command(monkeypatch, capsys, signal):
    def interrupt(**_):
        raise signal

    monkeypatch.setattr("atento.cli.app.app", interrupt)
    assert main([]) == 130
    assert capsys.readouterr() == ("", "")


def test_a_reader_that_leaves(folder):
    code = f"import sys; from atento.cli import main; sys.exit(main({['explain', *ARRAYS]!r}))"
    read, write = os.pipe()
    os.close(read)
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, stdout=write, stderr=subprocess.PIPE, timeout=60
    )
    os.close(write)
    assert process.stderr == b""
    assert process.returncode == 141
    assert (folder / "attention.html").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("arguments", [["explain", *ARRAYS, "--json"], ["doctor"], ["--help"]])
@pytest.mark.parametrize(
    ("lang", "words"),
    [("en", "There is no room left to write what was asked for."), ("es", "No queda espacio")],
)
def test_a_disk_that_is_full(folder, arguments, lang, words):
    code = f"import sys; from atento.cli import main; sys.exit(main({arguments!r}))"
    with Path("/dev/full").open("w") as full:
        process = subprocess.run(
            [sys.executable, "-c", code],
            cwd=folder,
            env=os.environ | {"LANG": f"{lang}.UTF-8"},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert process.returncode == 2
    assert process.stderr.startswith(f"atento: {words}")
    assert process.stderr.count("\n") == 1


def test_another_mistake_of_the_system_keeps_its_traceback(monkeypatch, folder):
    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("atento.cli.read_arrays.read_array", fail)
    with pytest.raises(OSError, match="Input/output"):
        main(["explain", *ARRAYS])


@pytest.mark.skipif(os.name == "nt", reason="a shell's way to close standard output")
def test_standard_output_that_was_closed(folder):
    code = f"import sys; from atento.cli import main; sys.exit(main({['explain', *ARRAYS]!r}))"
    process = subprocess.run(
        ["/bin/sh", "-c", '"$0" -c "$1" >&-', sys.executable, code],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    assert (process.returncode, process.stderr) == (0, "")
    assert (folder / "attention.html").exists()


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [
        ({}, False),
        ({"FORCE_COLOR": "1", "TERM": "xterm-256color"}, True),
        ({"FORCE_COLOR": "1", "TERM": "xterm-256color", "NO_COLOR": "1"}, False),
    ],
)
def test_colour_is_for_terminals_that_want_it(folder, environment, coloured):
    got = program("explain", *ARRAYS, "--no-page", cwd=folder, **environment)
    assert got.returncode == 0
    assert ("48;5;" in got.stdout) is coloured


def test_a_terminal_without_unicode(folder):
    got = program("explain", *ARRAYS, "--no-page", cwd=folder, PYTHONIOENCODING="ascii")
    assert (got.returncode, got.stderr) == (0, "")
    assert "scores = Q K\\u1d40" in got.stdout


@pytest.mark.parametrize(
    ("environment", "spanish"),
    [
        ({"LANG": "es_ES.UTF-8"}, True),
        ({"LANG": "es_ES.UTF-8", "LC_ALL": "C"}, False),
        ({"LANG": "en_US.UTF-8", "LC_MESSAGES": "es"}, True),
        ({"LC_ALL": "en_US.UTF-8", "ATENTO_LANG": "es"}, True),
        ({"LANG": "fr_FR.UTF-8"}, False),
    ],
)
def test_the_language_of_the_locale(run, monkeypatch, environment, spanish):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    out = run("explain", *ARRAYS, "--no-page").out
    assert out.startswith("La atención" if spanish else "Attention")


def test_doctor(run):
    got = run("doctor")
    assert f"atento        {__version__}" in got.out
    assert f"NumPy         {np.__version__}" in got.out
    assert "the six-token example gives the published weights and contexts" in got.out
    assert "dense" in got.out
    assert "streaming" in got.out
    assert 'pip install "atento[search]"' in got.out or "faiss-cpu     1" in got.out


def test_a_text_through_the_model_of_the_package(run, folder):
    got = run("explain", "Your journey starts with one step")
    assert (got.code, got.err) == (0, "")
    assert "atento-mini, layer" in got.out
    assert "Tokens (6):  1 Your  2 journey  3 starts  4 with  5 one  6 step" in got.out
    assert "queries = input @ W_query + b_query   6 queries × 32 features" in got.out
    assert (folder / "attention.html").read_text("utf-8").startswith("<!doctype html>")
    steps = {
        step["name"]: step for step in json.loads(run("explain", "a b c d", "--json").out)["steps"]
    }
    weights = np.array(steps["weights"]["value"])
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)
    assert (weights[~np.tri(4, dtype=bool)] == 0).all()


def test_the_context_of_the_model_of_the_package(run):
    text = " ".join(["one"] * 129)
    got = run("explain", text)
    assert (got.code, got.out) == (2, "")
    assert "at most 128 tokens and the text has 129" in got.err
    assert "Tokens (128):" in run("explain", text, "--cut", "--no-page").out


def test_doctor_in_spanish(run):
    got = run("doctor", "--lang", "es")
    assert "el ejemplo de seis tokens da los pesos y contextos publicados" in got.out
    assert "Qué motor calcula qué" in got.out
    installs = [line for line in got.out.split("\n") if "pip install" in line]
    assert all("instálalo con" in line and len(line) <= 80 for line in installs)


def test_doctor_json(run):
    got = run("doctor", "--json")
    found = json.loads(got.out)
    assert found["versions"]["atento"] == __version__
    assert {"python", "platform", "numpy", "blas", "cores"} <= found["versions"].keys()
    parts = {part["name"]: part for part in found["optional"]}
    assert {"torch", "transformers", "matplotlib", "anywidget", "starlette", "faiss-cpu"} <= set(
        parts
    )
    assert parts["torch"]["install"] == 'pip install "atento[torch]"'
    engines = {row["request"]: row["engine"] for row in found["engines"]}
    assert engines == {
        "short": "dense",
        "long": "streaming",
        "mask": "streaming",
        "torch": "fused",
        "torch_more": "streaming",
        "foreign": "dense",
        "explain": "dense",
    }
    import array_api_strict
    import torch  # the rows that doctor does not ask plan for

    tensors, foreign = [torch.ones(8, 4096, 4)] * 3, [array_api_strict.ones((8, 64, 4))] * 3
    assert engines["torch"] == plan(*tensors).engine == plan(*tensors, mask=Causal()).engine
    assert engines["torch_more"] == plan(*tensors, softcap=2.0).engine
    assert engines["foreign"] == plan(*foreign).engine
    assert found["self_check"]["ok"] is True
    assert 0 < found["self_check"]["largest_error"] < 5.001e-5
    assert found["ok"] is (got.code == 0)


@pytest.mark.parametrize("wrong", ["numbers", "crash"])
def test_doctor_fails_where_the_numbers_are_wrong(run, monkeypatch, wrong):
    import atento.equation

    right = atento.equation.attention

    def broken(*given, **options):
        if wrong == "crash":
            raise RuntimeError("no BLAS")
        return right(*given, **options) * 1.001

    monkeypatch.setattr("atento.equation.attention", broken)
    got = run("doctor")
    assert got.code == 1
    told = "failed: RuntimeError: no BLAS" if wrong == "crash" else "differs from the published"
    assert told in got.out
    assert json.loads(run("doctor", "--json").out)["self_check"]["ok"] is False


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["una " * 200], "El modelo lee como mucho 128 tokens y el texto tiene 200."),
        (["hola", "--head", "99"], "--head va de 0 a 3. Llegó 99."),
        (["hola", "--layer", "-1"], "--layer va de 0 a 2. Llegó -1."),
    ],
)
def test_mistakes_found_further_down_are_told_in_spanish_too(run, arguments, words):
    got = run("explain", *arguments, "--lang", "es", "--no-page")
    assert got.code == 2
    assert words in got.err


@pytest.mark.parametrize(
    ("arguments", "english", "spanish"),
    [
        (("explane",), "There is no command explane.", "No existe el comando explane. Parecido"),
        (("explain", "--nope"), "There is no option --nope.", "No existe la opción --nope."),
        (("generate",), "FOLDER is missing.", "Falta FOLDER. Mira atento generate --help."),
        (("train", "x", "--steps"), "--steps needs a value", "A --steps le falta un valor detrás."),
        (("train", "--quiet=1"), "--quiet takes no value.", "--quiet no lleva ningún valor."),
        (("train", "--steps", "1.5"), "--steps takes a whole number; got '1.5'.", "--steps lleva"),
        (("generate", "x", "--top-p", "a"), "--top-p takes a number;", "--top-p lleva un número;"),
        (("lessons", "x"), "N takes a whole number; got 'x'.", "N lleva un número entero;"),
        (("lessons", "1", "2"), "This is more than the command takes: 2.", "Sobra esto: 2."),
    ],
)
def test_what_the_parser_refuses_is_told_in_both_languages(
    run, monkeypatch, arguments, english, spanish
):
    for language, said in ("en", english), ("es", spanish):
        monkeypatch.setenv("ATENTO_LANG", language)
        got = run(*arguments)
        assert (got.code, got.out) == (2, "")
        assert got.err.startswith(f"atento: {said}")
        assert got.err.count("\n") == 1
    monkeypatch.setenv("ATENTO_LANG", "en")
    assert run("explain", "--nope", "--lang", "es").err.startswith("atento: No existe la opción")
