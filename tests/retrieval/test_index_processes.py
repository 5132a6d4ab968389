"""An index and several processes: one writes at a time, and whoever is killed leaves it whole."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import atento
from atento._locking import LOCK, writing
from atento.retrieval.index import Index

ADD = """
import sys
import numpy as np
from atento.retrieval.index import Index
index = Index.open({folder!r})
print("open", flush=True)
for number in range({times}):
    name = "{name} %d" % number
    keys = [f"{{name}} {{row}}" for row in range({rows})]
    index.add(keys, keys, vectors=np.full(({rows}, 64), number, np.float32))
    print(number, flush=True)
"""


def adding(folder, name, times, rows=200):
    script = ADD.format(folder=str(folder), name=name, times=times, rows=rows)
    return subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def check(folder, rows=200):
    """Every segment is whole; the names of the adds that are in it, in order."""
    index = Index.open(folder)
    index.info(check=True)
    texts, values = list(index.texts), list(index.values)
    assert texts == values
    names = []
    for start in range(0, len(texts), rows):
        some = texts[start : start + rows]
        name = some[0].rpartition(" ")[0]
        assert some == [f"{name} {row}" for row in range(rows)]
        number = int(name.split()[-1])
        np.testing.assert_array_equal(index.keys.block(start, start + rows), number)
        names.append(name)
    return names


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "index"
    keys = [f"first 7 {row}" for row in range(200)]
    Index.build(path, keys, keys, vectors=np.full((200, 64), 7.0))
    return path


@pytest.mark.slow
def test_two_processes_lose_nothing(folder):
    both = [adding(folder, name, 12) for name in ("one", "two")]
    for process in both:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    names = check(folder)
    assert names[0] == "first 7"
    assert sorted(names[1:]) == sorted(f"{who} {at}" for who in ("one", "two") for at in range(12))
    for who in ("one", "two"):
        own = [name for name in names if name.startswith(who)]
        assert own == [f"{who} {at}" for at in range(12)]


@pytest.mark.slow
def test_killed_at_any_moment_the_old_index_opens(folder):
    rng = np.random.default_rng(int(os.environ.get("ATENTO_SEED", "0")))
    had = check(folder)
    for trial in range(10):
        process = adding(folder, f"trial{trial}", 100)
        process.stdout.readline()  # it has opened the index
        time.sleep(float(rng.uniform(0, 0.25)))
        process.send_signal(signal.SIGKILL)
        told = process.communicate()[0].split()
        names = check(folder)
        assert names[: len(had)] == had  # what was there stays
        came = names[len(had) :]
        assert came == [f"trial{trial} {at}" for at in range(len(came))]
        assert len(told) <= len(came) <= len(told) + 1  # what was said to be done is there
        had = names
    Index.open(folder).add(["x 3 0"] * 200, ["x 3 0"] * 200, vectors=np.full((200, 64), 3.0))
    left = {file.name for file in folder.iterdir()}
    assert len(left) == 5 * (len(had) + 1) + 2  # five files each, the manifest, the lock


@pytest.mark.slow
def test_killed_while_it_is_built_there_is_none(tmp_path):
    script = (
        "from atento.retrieval.index import Index\nimport numpy as np\n"
        "keys = range(300_000)\nprint('go', flush=True)\n"
        f"Index.build({str(tmp_path)!r}, keys, vectors=np.ones((300_000, 8)))"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    process.stdout.readline()
    while len(list(tmp_path.iterdir())) < 2:  # the lock, and a file of the segment
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with pytest.raises(atento.InputError, match="is no index"):
        Index.open(tmp_path)
    Index.build(tmp_path, ["a"], vectors=[[1.0]])
    assert len(list(tmp_path.iterdir())) == 5


def test_whoever_waits_too_long_is_told(folder):
    index = Index.open(folder)
    with writing(folder):
        with pytest.raises(atento.InputError) as caught:
            index.add(["a"], ["a"], vectors=np.ones((1, 64)), wait=0.1)
        assert str(caught.value) == (
            f"{folder} is being written by another process (process {os.getpid()}), for more than "
            "0.1 s. Try again when it is done."
        )
    index.add(["a"], ["a"], vectors=np.ones((1, 64)), wait=0)
    assert len(Index.open(folder)) == 201


def test_whoever_waits_goes_on_when_the_other_is_done(folder):
    index = Index.open(folder)
    order = []

    def other():
        with writing(folder):
            order.append("in")
            time.sleep(0.3)
            order.append("out")

    thread = threading.Thread(target=other)
    thread.start()
    while not order:
        time.sleep(0.01)
    index.add(["a"], ["a"], vectors=np.ones((1, 64)))
    order.append("added")
    thread.join()
    assert order == ["in", "out", "added"]


def test_the_lock_of_a_process_that_was_killed_is_free(folder):
    script = (
        "import time\nfrom pathlib import Path\nfrom atento._locking import writing\n"
        f"with writing(Path({str(folder)!r})):\n    print('in', flush=True)\n    time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    process.stdout.readline()
    index = Index.open(folder)
    with pytest.raises(atento.InputError, match=f"process {process.pid}"):
        index.add(["a"], ["a"], vectors=np.ones((1, 64)), wait=0)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    index.add(["a"], ["a"], vectors=np.ones((1, 64)), wait=5)
    assert len(index) == 201


def test_what_another_added_is_there_after_an_own_add(folder):
    mine, other = Index.open(folder), Index.open(folder)
    other.add(["b"], ["b"], vectors=np.ones((1, 64)))
    assert len(mine) == 200
    mine.add(["c"], ["c"], vectors=np.ones((1, 64)))
    assert mine.texts[200:] == ["b", "c"]
    assert other.texts[-1] == "b"


def test_an_index_that_is_replaced_while_it_opens(folder, monkeypatch):
    from atento.retrieval import index as module

    real, calls = module.open_segment, []

    def late(*arguments):
        if not calls:
            calls.append(1)
            Index.build(folder, ["new"], ["new"], vectors=np.ones((1, 64)), replace=True)
        return real(*arguments)

    monkeypatch.setattr(module, "open_segment", late)
    assert list(Index.open(folder).texts) == ["new"]


@pytest.mark.parametrize("at", ["replace", "sync_folder"])
def test_an_interrupt_leaves_the_old_index_or_the_new(folder, monkeypatch, at):
    from atento.retrieval import manifest

    if at == "replace":
        monkeypatch.setattr(manifest, "write_whole", _interrupted)
    else:
        calls = []

        def sync(_folder):
            calls.append(1)
            if len(calls) == 2:  # the manifest has just taken the old one's place
                raise KeyboardInterrupt

        monkeypatch.setattr(manifest, "sync_folder", sync)
    with pytest.raises(KeyboardInterrupt):
        Index.open(folder).add(["a"], ["a"], vectors=np.ones((1, 64)))
    monkeypatch.undo()
    assert len(Index.open(folder)) == (200 if at == "replace" else 201)
    index = Index.open(folder)
    index.info(check=True)
    index.add(["b"], ["b"], vectors=np.ones((1, 64)))
    files = [file for file in folder.iterdir() if file.name not in ("index.json", LOCK)]
    assert len(files) == 5 * index.info()["segments"]


def _interrupted(*_):
    raise KeyboardInterrupt
