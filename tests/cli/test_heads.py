"""`atento heads`: the table of a saved recording, and what is no recording."""

import json
import re

import pytest

TEXT = "Your journey starts with one step and your journey starts with two steps"


@pytest.fixture
def kept(run, folder):
    """A recording of the embedded model."""
    assert run("inspect", "--text", TEXT, "--save", "run.safetensors").code == 0
    return folder / "run.safetensors"


def rows(out):
    return [line for line in out.split("\n") if re.match(r"\d+ +\d+ ", line)]


def test_the_table_is_that_of_inspect(run, kept):
    got = run("heads", "run.safetensors")
    assert (got.code, got.err) == (0, "")
    assert got.out.startswith("run.safetensors: 13 tokens, 3 layers, 12 heads in all\n")
    assert rows(got.out) == rows(run("inspect", "--text", TEXT).out)
    assert len(rows(got.out)) == 12


def test_sort_top_and_language(run, kept):
    got = run("heads", "run.safetensors", "--sort", "self", "--top", "2", "--lang", "es")
    assert [row.split()[:2] for row in rows(got.out)] == [["0", "0"], ["0", "3"]]
    assert "… 10 cabezas más; --top 0 las muestra todas" in got.out


def test_json(run, kept):
    record = json.loads(run("heads", "run.safetensors", "--json").out)
    assert record == json.loads(run("inspect", "--text", TEXT, "--json").out)


def test_some_heads_keep_their_numbers(run, folder):
    given = (
        "inspect",
        "--text",
        TEXT,
        "--heads",
        "3,1",
        "--layers",
        "1",
        "--save",
        "s.safetensors",
    )
    assert run(*given).code == 0
    shown = json.loads(run("heads", "s.safetensors", "--json").out)["heads"]
    assert [(row["layer"], row["head"]) for row in shown] == [
        ("transformer.h.1.attn", 1),
        ("transformer.h.1.attn", 3),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("none.safetensors",), "none.safetensors does not exist."),
        ((".",), ". is a folder; a file is expected."),
        (("foreign.safetensors",), "foreign.safetensors is not a recording that can be read: "),
        (("short.safetensors",), "short.safetensors is not a recording that can be read: it is"),
        (("cut.safetensors",), "cut.safetensors is not a recording that can be read: it has"),
        (("damaged.safetensors",), "damaged.safetensors "),
        (("e\x1b[31m",), "e␛[31m does not exist."),
        (("run.safetensors", "--sort", "size"), "--sort must be one of layer, role, entropy"),
        (("run.safetensors", "--top", "-2"), "--top must be a whole number from 0 on"),
        ((), "RUN.safetensors is missing."),
    ],
)
def test_mistakes_are_told_in_one_line(run, kept, folder, arguments, message):
    from safetensors.numpy import save_file

    content = kept.read_bytes()
    save_file({}, folder / "foreign.safetensors", metadata={"format": "pt"})
    (folder / "short.safetensors").write_bytes(b"x")
    (folder / "cut.safetensors").write_bytes(content[:-9])
    (folder / "damaged.safetensors").write_bytes(content[:300] + b"\xff" + content[301:])
    got = run("heads", *arguments)
    assert (got.code, got.out) == (2, "")
    assert got.err.startswith(f"atento: {message}")
    assert got.err.count("\n") == 1
    assert "can't be loaded" not in got.err


def test_spanish_mistakes(run):
    got = run("heads", "nada.safetensors", "--lang", "es")
    assert got.err == "atento: nada.safetensors no existe. Revisa el nombre y la carpeta.\n"
