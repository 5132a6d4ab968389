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
        (("train", "--resume", "--preset", "toy"), "goes on with the preset"),
        (("train", "--resume", "--tokenizer", "bpe"), "goes on with the tokenizer"),
        (("train", "--resume", "--vocabulary", "300"), "goes on with the vocabulary_size"),
        (("train", "--resume", "--context", "30"), "goes on with the context"),
        (("train", "nothing.txt"), "There is no corpus at nothing.txt"),
        (("train", "corpus.txt", "--preset", "huge"), "There is no preset 'huge'; there are toy"),
        (("train", "corpus.txt", "--steps", "0"), "steps must be a whole number"),
        (("train", "corpus.txt", "--context", "9000"), "one row takes 9001"),
        (("train", "corpus.txt", "--device", "warp"), "There is no device 'warp' here"),
        (("train", "--resume", "--out", "none"), "There is no run in none"),
        (("train", "corpus.txt", "--shard"), "start it by torchrun"),
        (
            ("train", "corpus.txt", "--precision", "double"),
            "auto, float32 or bfloat16; got 'double'",
        ),
        (("train", "corpus.txt", "--lang", "fr"), "lang must be one of en, es"),
        (("generate", "none", "--prompt", "a"), "no such folder"),
        (("generate", "none"), "--prompt is missing"),
    ],
)
def test_wrong_use_is_one_line(run, corpus, command, said):
    done = run(*command)
    assert done.code == 2
    assert said in done.err
    assert done.err.count("\n") == 1
    assert done.out == ""


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("train",), "nombra un corpus"),
        (("train", "corpus.txt", "--steps", "0"), "steps debe ser un número entero ≥ 1. Llegó 0."),
        (
            ("train", "corpus.txt", "--learning-rate", "10"),
            "debe ser mayor que 0 y menor que 10. Llegó 10.0",
        ),
        (("train", "corpus.txt", "--seed", str(2**64)), "un número entero de 64 bits como mucho"),
        (("train", "corpus.txt", "--context", "0"), "context debe ser un número entero ≥ 1"),
        (("train", "corpus.txt", "--device", "meta"), "Aquí no hay ningún dispositivo 'meta'"),
        (("train", "corpus.txt", "--tokenizer", "no.json"), "ningún tokenizador en no.json"),
        (("train", "corpus.txt", "--tokenizer", "corpus.txt"), "no es un tokenizer.json"),
        (
            ("train", "corpus.txt", "--tokenizer", "bpe", "--vocabulary", "9"),
            "--vocabulary debe ser un número entero desde 257. Llegó 9",
        ),
        (("train", "corpus.txt", "--watch-every", "3"), "da también --watch"),
        (("train", "corpus.txt", "--watch-every", "0"), "watch_every debe ser un número entero"),
        (("train", "corpus.txt", "--watch", "no.txt"), "Los textos de no.txt no se pueden leer"),
        (("train", "corpus.txt", "--watch", "empty.txt"), "empty.txt está vacío"),
        (("train", "corpus.txt", "--watch", "bytes.txt"), "el byte 3 no encaja"),
        (("train", "corpus.txt", "--watch", "letter.txt"), "El texto 1 de --watch tiene 1 token"),
        (("train", "corpus.txt", "--watch", "lines.jsonl"), "El texto 1 de --watch: "),
        (
            ("train", "corpus.txt", "--preset", "toy", "--watch", "corpus.txt"),
            "tiene 2520 tokens y el modelo lee 25",
        ),
        (("watch", "folder"), "folder no se observó"),
        (("watch", "none"), "No hay ningún entrenamiento en none"),
        (("train", "corpus.txt", "--resume"), "quita CORPUS"),
        (("train", "nothing.txt"), "No hay ningún corpus en nothing.txt"),
        (("train", "corpus.txt", "--preset", "huge"), "No hay ninguna forma 'huge'"),
        (("train", "corpus.txt", "--context", "9000"), "una fila ocupa 9001"),
        (("train", "one.txt"), "repite un solo carácter, 'a'"),
        (("train", "empty.txt"), "El corpus está vacío"),
        (("train", "bytes.txt"), "el byte 3 no encaja"),
        (("train", "lines.jsonl"), "lines.jsonl, línea 2"),
        (("train", "folder"), "no contiene ningún corpus"),
        (("train", "corpus.txt", "--device", "warp"), "Aquí no hay ningún dispositivo 'warp'"),
        (("train", "corpus.txt", "--shard"), "empieza con torchrun"),
        (("train", "corpus.txt", "--out", "corpus.txt/x"), "No se puede crear corpus.txt/x"),
        (("train", "--resume", "--out", "none"), "No hay ningún entrenamiento en none"),
        (("generate", "none", "--prompt", "a"), "esa carpeta no existe"),
        (("generate", "folder", "--prompt", "a"), "no tiene config.json"),
    ],
)
def test_mistakes_are_told_in_spanish(run, corpus, folder, command, said):
    (folder / "one.txt").write_text("a" * 99)
    (folder / "empty.txt").write_text("")
    (folder / "bytes.txt").write_bytes(b"ab\xffc")
    (folder / "lines.jsonl").write_text('{"text": "a"}\n{"txt": "b"}\n')
    (folder / "letter.txt").write_text("t")
    (folder / "folder").mkdir()
    done = run(*command, "--lang", "es")
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert done.err.count("\n") == 1


def test_a_run_and_its_mistakes_in_spanish(run, corpus, folder):
    done = run("train", "corpus.txt", "--out", "x", "--steps", "4", "--lang", "es", *SMALL)
    assert done.out == "x contiene el modelo: atento generate x --prompt ...\n"
    spanish = ("--lang", "es")
    assert "ya contiene un entrenamiento" in run("train", "corpus.txt", "--out", "x", *spanish).err
    other = run("train", "--resume", "--out", "x", "--steps", "9", *spanish).err
    assert "empezó con steps = 4 y ahora se pide 9" in other
    asked = ("generate", "x", *spanish, "--prompt")
    assert "El comienzo está vacío" in run(*asked, "").err
    assert "tiene 26 tokens y el contexto del modelo es de 25" in run(*asked, "o" * 26).err
    assert "El carácter 'ñ' (U+00F1), en el lugar 2" in run(*asked, "toñ").err
    assert (
        "top_p debe ser mayor que 0 y como mucho 1. Llegó 0.0"
        in run(*asked, "to", "--top-p", "0").err
    )
    assert "--stop debe ser un texto" in run(*asked, "to", "--stop", "").err
    assert "64 bits" in run(*asked, "to", "--seed", str(-(2**64))).err
    assert "no son números" in run(*asked, "to", "--repetition-penalty", "1e-40").err
    watched = run("train", "--resume", "--out", "x", "--watch", "corpus.txt", *spanish)
    assert "empezó sin --watch" in watched.err
    log = (folder / "x/log.json").read_text()
    (folder / "x/log.json").write_text("[")
    assert "x/log.json está dañado" in run("train", "--resume", "--out", "x", *spanish).err
    (folder / "x/log.json").write_text(log)
    (folder / "x/run.json").write_text("[")
    assert "x/run.json no se puede leer" in run("train", "--resume", "--out", "x", *spanish).err
    settings = json.loads((folder / "x/config.json").read_text())
    (folder / "x/config.json").write_text(json.dumps(settings | {"vocab_size": 99}))
    assert "según config.json sería (99, 16)" in run(*asked, "to").err
    (folder / "x/config.json").write_text("[]")
    assert "le falta lo necesario" in run(*asked, "to").err
    (folder / "x/config.json").write_text("{")
    assert "x/config.json no se puede leer" in run(*asked, "to").err
    (folder / "x/config.json").write_text(json.dumps(settings | {"n_layer": 3}))
    assert "Faltan: transformer.h.2.ln_1.weight" in run(*asked, "to").err
    (folder / "x/config.json").write_text(json.dumps(settings | {"model_type": "bert"}))
    assert "un modelo del tipo 'bert'" in run(*asked, "to").err
    (folder / "x/config.json").write_text(json.dumps(settings))
    weights = folder / "x/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:50])
    assert "no se pueden leer" in run(*asked, "to").err
    weights.rename(folder / "x/pytorch_model.bin")
    assert "pytorch_model.bin" in run(*asked, "to").err


def test_bytes_that_are_no_text_are_told_with_their_place(run, folder):
    (folder / "corpus.txt").write_bytes(b"ab\xffc")
    assert "byte 3 does not fit" in run("train", "corpus.txt").err
