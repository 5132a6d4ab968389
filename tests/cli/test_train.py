"""`atento train` and `atento generate`: from a text to a model, and on from there."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

TEXT = "to be or not to be, that is the question. " * 60
SMALL = ("--preset", "toy", "--batch", "4", "--seed", "3", "--quiet")
PROGRAM = "import sys; from atento.cli import main; sys.exit(main())"

pytestmark = pytest.mark.slow


@pytest.fixture
def corpus(folder):
    path = folder / "corpus.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def test_a_text_becomes_a_model_that_goes_on(run, corpus, folder):
    done = run("train", "corpus.txt", "--out", "runs/x", "--steps", "6", *SMALL)
    assert done.code == 0, done.err
    assert done.out == "runs/x holds the model: atento generate runs/x --prompt ...\n"
    rows = json.loads((folder / "runs/x/log.json").read_text())
    assert rows[-1]["step"] == 6
    first = run("generate", "runs/x", "--prompt", "to be", "--max-tokens", "9", "--seed", "1")
    assert first.code == 0
    assert first.out.startswith("to be")
    assert len(first.out) == len("to be") + 9 + 1
    again = run(
        "generate", "runs/x", "--prompt", "to be", "--max-tokens", "9", "--seed", "1", "--stream"
    )
    assert again.out == first.out
    options = ("--max-tokens", "9", "--seed", "1", "--json")
    told = json.loads(run("generate", "runs/x", "--prompt", "to be", *options).out)
    assert told == [{"prompt": "to be", "text": first.out[len("to be") : -1]}]
    both = run("generate", "runs/x", "--prompt", "to", "--prompt", "or not", "--temperature", "0")
    assert [line[:2] for line in both.out.splitlines()] == ["to", "or"]


def test_ctrl_c_saves_and_resume_goes_on(run, corpus, folder):
    command = [
        "train",
        "corpus.txt",
        "--out",
        "x",
        "--steps",
        "4000",
        "--evaluate-every",
        "5",
        *SMALL,
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    until = time.monotonic() + 120
    while not (folder / "x/log.json").exists() and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (
        130,
        "stopped; to go on: atento train --resume --out x\n",
    ), err
    done = run("train", "--resume", "--out", "x", "--steps", "9")
    assert done.code == 2
    assert "started with steps = 4000, and this asks for 9" in done.err


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("train",), "name a corpus"),
        (("train", "corpus.txt", "--resume"), "leave CORPUS out"),
        (("train", "nothing.txt"), "no corpus at nothing.txt"),
        (("train", "corpus.txt", "--preset", "huge"), "no preset 'huge'"),
        (("train", "corpus.txt", "--steps", "0"), "steps must be a whole number"),
        (("train", "corpus.txt", "--context", "9000"), "one row takes 9,001"),
        (("train", "corpus.txt", "--device", "warp"), "device 'warp' is not there"),
        (("train", "--resume", "--out", "none"), "there is no run in none"),
        (("generate", "none", "--prompt", "a"), "no such folder"),
        (("generate", "none"), "Missing option '--prompt'"),
    ],
)
def test_wrong_use_is_one_line(run, corpus, command, said):
    done = run(*command)
    assert done.code == 2
    assert said in done.err
    assert done.err.count("\n") == 1
    assert done.out == ""


def test_bytes_that_are_no_text_are_told_with_their_place(run, folder):
    (folder / "corpus.txt").write_bytes(b"ab\xffc")
    assert "byte 3 does not fit" in run("train", "corpus.txt").err
