"""`atento watch`: when each head of a training formed, in the terminal and as a page."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from rich.cells import cell_len

from atento.lm.watching.look import STATISTICS, Look, write_look
from atento.lm.watching.plan import Plan, Prompt, write_plan
from atento.views.terminal_watch import spark, watch_lines
from atento.views.words import words
from watched_records import watched

PROGRAM = "import sys; from atento.cli import main; sys.exit(main())"
TEXT = "to be or not to be, that is the question. " * 60


@pytest.fixture
def recorded(folder):
    """What `watched_records.watched` has, as the files of a run."""
    record = watched()
    write_plan(folder, Plan(record.prompts, None, record.total))
    for at, step in enumerate(record.steps.tolist()):
        maps = tuple(each[at] for each in record.maps)
        look = Look(step, record.layers, record.heads, record.numbers[at], record.losses[at], maps)
        write_look(folder, look)
    return folder


def test_the_table_says_when_each_head_formed(run, recorded):
    done = run("watch", recorded)
    assert (done.code, done.err) == (0, "")
    facts, loss, empty, heading, *rows = done.out.splitlines()
    assert facts == "Step 400 of 800: 2 layers, 6 heads in all, looked at on 2 prompts"
    assert loss == "Loss on the prompts: 4.250 █▇▆▁ 1.250"
    assert empty == ""
    assert heading.split() == ["layer", "head", "role", "share", "formed", "at", "course"]
    assert rows[0].split() == ["blocks.0", "1", "previous", "token", "0.88", "100", "▂▂██"]
    assert rows[1].split() == ["blocks.1", "2", "induction", "0.75", "400", "▂▂▂▇"]
    assert all(row.split()[2:5] == ["other", "–", "–"] for row in rows[2:6])
    assert "over the queries whose token" in " ".join(rows[6:])


def test_some_heads_and_in_spanish(run, recorded):
    done = run("watch", recorded, "--top", "1", "--lang", "es")
    assert "Paso 400 de 800" in done.out
    assert "0,88" in done.out
    assert "5 cabezas más" in done.out
    assert "inducción  " not in done.out
    assert run("watch", recorded, "--top", "-1").code == 2


def test_as_json(run, recorded):
    said = json.loads(run("watch", recorded, "--json").out)
    assert said["steps"] == [0, 10, 100, 400]
    assert said["statistics"]["induction"][3][1][2] == 0.75
    assert said["statistics"]["duplicate"][0][0][0] is None
    assert len(said["formed"]) == 6


@pytest.mark.parametrize(
    ("name", "beginning"),
    [
        ("film.html", b"<!doctype html>"),
        ("film.json", b'{"format": "atento.watched/1"'),
        ("film.svg", b"<?xml"),
        ("film.png", b"\x89PNG"),
    ],
)
def test_files(run, recorded, name, beginning):
    done = run("watch", recorded, "--out", name)
    assert (done.code, done.err) == (0, "")
    assert name in done.out.splitlines()[-1]
    assert (recorded / name).read_bytes().startswith(beginning)


def test_mistakes_are_told_in_a_line(run, recorded, tmp_path):
    for arguments, said in (
        (("nowhere",), "There is no run in nowhere"),
        ((recorded, "--out", "film.gif"), "save writes .html, .json"),
        ((recorded, "--lang", "fr"), "lang must be one of en, es"),
    ):
        done = run("watch", *arguments)
        assert (done.code, done.out) == (2, "")
        assert said in done.err
        assert done.err.count("\n") == 1
    damaged = recorded / "watch" / "step-00000100.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    done = run("watch", recorded)
    assert done.code == 2
    assert "step-00000100.safetensors is damaged or cut off" in done.err
    (recorded / "empty").mkdir()
    assert "empty was not watched" in run("watch", recorded / "empty").err


def test_nothing_acts_on_the_terminal(run, folder):
    prompt = Prompt("ab", (0, 1), ("a", "b"))
    write_plan(folder, Plan((prompt,), None, 5))
    numbers = np.zeros((len(STATISTICS), 1, 1))
    write_look(folder, Look(0, ("a\x1b[31m\u202e",), (0,), numbers, np.zeros(1), ()))
    out = run("watch", folder).out
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert "a␛[31m" in out


@pytest.mark.parametrize("lang", ["en", "es"])
@pytest.mark.parametrize("width", [40, 60, 80, 300])
def test_every_line_fits(width, lang):
    lines = list(watch_lines(watched(layers=("東京" * 20, "b")), width, words(lang)))
    assert max(cell_len(line.plain) for line in lines) <= width


def test_a_course_of_many_looks_keeps_its_ends():
    assert spark(np.linspace(0, 1, 1000).tolist(), 8) == "▁▂▃▄▅▆▇█"
    assert spark([0.5], 8) == "▅"
    assert spark([3.0, 3.0], 8, 3.0, 3.0) == "▁▁"
    assert spark([2.0, -1.0], 8) == "█▁"


def test_no_torch_is_needed(recorded):
    code = f"{PROGRAM.replace('sys.exit(main())', 'main()')}; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, "watch", str(recorded), "--out", "film.html"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )
    assert done.stdout.splitlines()[-1] == "False"


@pytest.mark.slow
def test_a_training_is_watched_while_it_is_under_way(run, folder):
    (folder / "corpus.txt").write_text(TEXT, encoding="utf-8")
    (folder / "prompts.txt").write_text("to be or not to be\nthat is\n", encoding="utf-8")
    command = ("train", "corpus.txt", "--out", "x", "--steps", "100000", "--preset", "toy")
    watching = ("--watch", "prompts.txt", "--watch-every", "2", "--evaluate-every", "4", "--quiet")
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *command, *watching],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        until = time.monotonic() + 120
        while not (folder / "x/watch/step-00000004.safetensors").exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until
            time.sleep(0.05)
        done = run("watch", "x")
        assert process.poll() is None
    finally:
        process.kill()
        process.communicate()
    assert (done.code, done.err) == (0, "")
    assert "of 100000: 2 layers, 4 heads in all, looked at on 2 prompts" in done.out
    refused = run("train", "--resume", "--out", "x", "--watch-every", "3")
    assert refused.code == 2
    assert "started with watch_every = 2, and this asks for 3" in refused.err


@pytest.mark.slow
def test_what_was_watched_is_said_at_the_end_of_a_training(run, folder):
    (folder / "corpus.txt").write_text(TEXT, encoding="utf-8")
    (folder / "prompts.txt").write_text("to be or not to be\n", encoding="utf-8")
    options = ("--out", "x", "--steps", "2", "--preset", "toy", "--quiet")
    done = run("train", "corpus.txt", *options, "--watch", "prompts.txt")
    assert done.code == 0, done.err
    assert done.out.splitlines()[-1] == "x was watched: atento watch x"
    assert "Step 2 of 2" in run("watch", "x").out
    missing = run("train", "corpus.txt", "--out", "y", "--watch", "nowhere.txt")
    assert missing.code == 2
    assert "The prompts nowhere.txt cannot be read" in missing.err
    long = run("train", "--preset", "induction", "--context", "20", "--out", "z", "--quiet")
    assert long.code == 2
    assert "Prompt 1 of --watch has 48 tokens, and the model takes 20" in long.err
