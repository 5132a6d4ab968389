"""The cache of vectors: found again, never wrong, whatever happened to its file."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest

from atento.retrieval import embedding_cache
from atento.retrieval.embedders import embedder
from atento.retrieval.embedding_cache import cache_folder, cached


class Counting:
    """Says what it was asked; a text's vector can be known from the text alone."""

    name, version = "counting", "1"

    def __init__(self, version="1", name="counting"):
        self.name, self.version, self.asked = name, version, []

    def __call__(self, texts):
        self.asked += texts
        return np.array([[len(text), sum(map(ord, text)), 1.0] for text in texts])


def made(folder, **facts):
    function = Counting(**facts)
    read = cached(embedder(function), folder)
    read.dim  # noqa: B018  asked for once, so that what follows is what the test asked
    function.asked.clear()
    return read, function


TEXTS = ["país", "perro", "méxico", "perro"]


def test_a_text_is_read_once(tmp_path):
    read, function = made(tmp_path)
    rows = read(TEXTS)
    assert sorted(function.asked) == sorted(set(TEXTS))
    again, other = made(tmp_path)
    np.testing.assert_array_equal(again([*TEXTS, "nuevo"])[:4], rows)
    assert other.asked == ["nuevo"]
    assert again.found == 4
    np.testing.assert_array_equal(rows, embedder(Counting())(TEXTS))
    assert again([]).shape == (0, 3)


def test_name_version_and_text_all_count(tmp_path):
    made(tmp_path)[0](["a"])
    for facts in ({"version": "2"}, {"name": "count"}, {"name": "counting1", "version": ""}):
        read, function = made(tmp_path, **facts)
        read(["a"])
        assert function.asked == ["a"]
    read, function = made(tmp_path)
    read(["a ", "A", "\ud800", "n\u0303", "ñ"])
    assert len(function.asked) == 5


def test_the_embedded_model_through_the_cache_counts_what_was_cut_each_time(tmp_path):
    long = "perro " * 400
    first, second = (cached(embedder(), tmp_path) for _ in range(2))
    np.testing.assert_array_equal(first([long, "país"]), second(["país", long])[::-1])
    assert (first.truncated, second.truncated, first.found, second.found) == (1, 1, 0, 2)
    np.testing.assert_allclose(first(["país"]), embedder()(["país"]), atol=1e-6)


def test_a_function_without_a_version_is_not_kept(tmp_path):
    read = embedder(lambda texts: np.ones((len(texts), 2)))
    assert cached(read, tmp_path) is read
    once = cached(embedder(), tmp_path)
    assert cached(once, tmp_path) is once


def test_where_it_is(monkeypatch, tmp_path):
    monkeypatch.setenv("ATENTO_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    cached(embedder(Counting()))(["a"])
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["vectors-1.sqlite3"]
    monkeypatch.delenv("ATENTO_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "atento"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "atento"


def overwrite(file, at, content):
    with file.open("r+b") as opened:
        opened.seek(at)
        opened.write(content)


@pytest.mark.parametrize("harm", ["no database", "short", "zeros", "other table", "one bit"])
def test_a_damaged_file_is_left_aside_and_told(tmp_path, harm):
    rows = made(tmp_path)[0](TEXTS)
    file = tmp_path / "vectors-1.sqlite3"
    content = file.read_bytes()
    if harm == "no database":
        file.write_bytes(b"my diary, not a database" * 100)
    elif harm == "short":
        file.write_bytes(content[: len(content) // 2])
    elif harm == "zeros":
        overwrite(file, 4096, bytes(len(content) - 4096))
    elif harm == "other table":
        file.unlink()
        with sqlite3.connect(file) as other:
            other.execute("CREATE TABLE vectors (key TEXT, vector TEXT)")
        other.close()
    else:
        at = content.index(rows[0].astype("<f4").tobytes())
        overwrite(file, at + 2, bytes([content[at + 2] ^ 64]))
    read, function = made(tmp_path)
    with pytest.warns(UserWarning, match=r"vectors-1\.sqlite3 is damaged and is left aside"):
        np.testing.assert_array_equal(read(TEXTS), rows)
    assert len(function.asked) >= 3
    again, function = made(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(again(TEXTS), rows)
    assert function.asked == []
    assert (tmp_path / "vectors-2.sqlite3").exists()


def test_any_damage_costs_time_alone(tmp_path):
    rows = made(tmp_path)[0](TEXTS)
    content = (tmp_path / "vectors-1.sqlite3").read_bytes()
    rng = np.random.default_rng(4)
    for trial in range(60):
        folder = tmp_path / str(trial)
        folder.mkdir()
        harmed = bytearray(content)
        if trial % 2:
            del harmed[int(rng.integers(len(content))) :]
        else:
            for at in rng.integers(0, len(content), 40):
                harmed[at] ^= int(rng.integers(1, 256))
        (folder / "vectors-1.sqlite3").write_bytes(harmed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            np.testing.assert_array_equal(made(folder)[0](TEXTS), rows)


def test_without_a_place_it_goes_without(tmp_path):
    (tmp_path / "file").write_text("in the way")
    read, function = made(tmp_path / "file")
    with pytest.warns(UserWarning, match="Vectors are not kept: ") as told:
        read(TEXTS + TEXTS)
    read(TEXTS)  # told once: pytest makes an error of another warning
    assert len(told) == 1
    assert len(function.asked) == 6


def test_another_process_that_writes_is_waited_for(tmp_path, monkeypatch):
    made(tmp_path)[0](["a"])
    monkeypatch.setattr(embedding_cache, "WAIT", 0.2)
    busy = sqlite3.connect(tmp_path / "vectors-1.sqlite3", isolation_level=None)
    busy.execute("BEGIN EXCLUSIVE")
    read, function = made(tmp_path)
    with pytest.warns(UserWarning, match="database is locked"):
        read(["a", "b"])
    assert sorted(function.asked) == ["a", "b"]
    busy.close()
    again, function = made(tmp_path)
    again(["a", "b"])
    assert function.asked == ["b"]


WRITER = """
import sys
import numpy as np
sys.path.insert(0, {tests!r})
from test_embedding_cache import made
read, _ = made({folder!r})
for start in range(0, 4000, 40):
    numbers = range({first} + start, {first} + start + 40)
    read([f"text {{number}}" for number in numbers])
    print(start, flush=True)
"""


def writer(folder, first):
    script = WRITER.format(tests=os.path.dirname(__file__), folder=str(folder), first=first)  # noqa: PTH120
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)


@pytest.mark.slow
def test_processes_that_write_at_once_and_are_killed(tmp_path):
    rng = np.random.default_rng(1)
    for trial in range(3):
        writers = [writer(tmp_path, 1000 * trial), writer(tmp_path, 1000 * trial + 500)]
        for process in writers:
            process.stdout.readline()  # it has begun
        time.sleep(float(rng.uniform(0, 0.3)))
        for process in writers:
            process.send_signal(signal.SIGKILL)
            process.communicate()
    texts = [f"text {number}" for number in range(3000)]
    read, function = made(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing was damaged
        np.testing.assert_array_equal(read(texts), embedder(Counting())(texts))
    assert 0 < read.found == 3000 - len(function.asked)
