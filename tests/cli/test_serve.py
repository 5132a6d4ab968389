"""`atento serve`: what it opens, what it prints, and how it ends."""

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from atento.embedded import load_mini
from atento.embedded.recording import record_mini

PROGRAM = "import sys; from atento.cli import main; sys.exit(main())"


@pytest.fixture
def saved(folder):
    mini = load_mini()
    recording = record_mini(mini, mini.encode("one step").ids)
    recording.name_tokens(["one", "step"])
    recording.save("run.safetensors")
    return folder / "run.safetensors"


def test_it_serves_until_it_is_interrupted(saved):
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "serve", "run.safetensors", "--no-open", "--lang", "es"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=saved.parent,
    )
    line = process.stdout.readline()
    assert re.fullmatch(r"atento está en http://127\.0\.0\.1:\d+/\?token=[\w-]{32}\n", line)
    address = line.split()[-1]
    base, token = address.split("?token=")
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    with opener.open(address, timeout=30) as answer:
        assert answer.url == base, "the token is not in the address any longer"
        page = answer.read().decode()
        assert "connect-src 'self'" in answer.headers["content-security-policy"]
    assert '<html lang="es">' in page
    assert "run.safetensors" in page
    assert token not in page
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == ""
    assert (
        err == "Ctrl-C lo detiene. Solo se llega desde este equipo, con la dirección de arriba.\n"
    )


def test_a_port_that_is_taken_is_told_in_one_line(run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("serve", "--no-open", "--port", port)
    assert done.code == 2
    assert done.out == ""
    assert re.fullmatch(
        rf"atento: Port {port} cannot be had: .+\. Choose another, or 0 for any free one\.\n",
        done.err,
    )
    spanish = run("serve", "--no-open", "--port", 70000, "--lang", "es")
    assert spanish.err.startswith("atento: El puerto 70000 no está disponible: ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nothing.safetensors",), "nothing.safetensors does not exist."),
        (("six.npy",), "six.npy is no recording: name a .safetensors file"),
        (("broken.safetensors",), "broken.safetensors is not a recording that can be read"),
        (("--model", "./nothing"), "The folder ./nothing does not exist."),
        (
            ("no-model",),
            "no-model has no config.json, so it is no model directory of transformers.",
        ),
        (("--lang", "xx"), "lang must be one of en, es."),
    ],
)
def test_mistakes_are_told_before_anything_is_served(run, folder, arguments, words):
    (folder / "broken.safetensors").write_bytes(b"\xff" * 40)
    (folder / "no-model").mkdir()
    done = run("serve", "--no-open", *arguments)
    assert done.code == 2
    assert done.err.splitlines()[-1].startswith(f"atento: {words}")


def test_a_missing_library_is_told_with_its_extra(run, monkeypatch):
    import atento._optional

    found = atento._optional.find_spec
    monkeypatch.setattr(
        atento._optional, "find_spec", lambda name: None if name == "starlette" else found(name)
    )
    done = run("serve", "--no-open")
    assert done.code == 2
    assert done.err == (
        "atento: starlette is needed to serve, and it is not installed: "
        'pip install "atento[serve]"\n'
    )


def test_readers_and_recordings_have_names_of_their_own(saved, monkeypatch):
    from atento.cli import serve as command
    from atento.views.words import words

    readings, named = command._opened([saved, saved], words("en"))
    assert [name for _, name in named] == ["run.safetensors", "run.safetensors (2)"]
    assert readings.names() == [name for name, _ in named]
    assert [reader.name for reader in command._readers([], words("en"))] == ["mini"]


def test_a_folder_is_a_model(saved, run, monkeypatch):
    named = []
    monkeypatch.setattr("atento.cli.serve._readers", lambda models, _: named.extend(models) or [])
    monkeypatch.setattr("atento.server.serve.serve", lambda *given, **_: named.append(given[1]))
    (saved.parent / "mine").mkdir()
    done = run("serve", "mine", "run.safetensors", "--model", "other", "--no-open")
    assert done.code == 0, done.err
    assert named[:2] == ["mine", "other"]
    assert [name for _, name in named[2]] == ["run.safetensors"]


def test_help_loads_no_server(folder):
    program = (
        "import sys; from atento.cli import main; main(['serve', '--help']); "
        "print([name for name in ('starlette', 'uvicorn', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=os.environ, check=True
    )
    assert done.stdout.endswith("[]\n")
    assert "--no-open" in done.stdout
