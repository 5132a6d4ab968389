"""Runs whose files are damaged, or cannot be written: told in a line, and nothing is lost."""

import pytest
import torch
from safetensors import SafetensorError

from atento import InputError
from atento.lm import train
from atento.lm.training import checkpoint as checkpoint_module
from atento.lm.training import folder as folder_module

pytestmark = pytest.mark.slow


def weights(run):
    return torch.cat([p.flatten() for p in run.model().parameters()])


def losses(run):
    return [row["loss"] for row in run.log]


def test_a_full_disk_keeps_the_old_checkpoint(small, monkeypatch, tmp_path):
    calls = []
    save = checkpoint_module.save_file

    def full(tensors, path):
        calls.append(path)
        if len(calls) == 3:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        save(tensors, path)

    monkeypatch.setattr(checkpoint_module, "save_file", full)
    with pytest.raises(InputError, match=r"cannot be written: No space.* resume=True goes on"):
        small()
    monkeypatch.undo()
    kept = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert kept == ["step-00000000", "step-00000004"]
    assert train(out=tmp_path / "run", resume=True, progress=False).ended == "steps"


@pytest.mark.parametrize("name", ["optimizer.safetensors", "training.json", "model.safetensors"])
def test_a_broken_checkpoint_is_told(small, tmp_path, name):
    run = small(steps=4)
    path = sorted((run.folder / "checkpoints").glob("step-*"))[-1] / name
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(InputError, match="cannot be read"):
        train(out=run.folder, resume=True, progress=False)


def damaged(path, text):
    path.write_text(text(path.read_text()) if callable(text) else text)


@pytest.mark.parametrize(("name", "text", "said"), [
    ("log.json", '[{"step": "1"}]', "log.json is damaged.*Remove it"),
    ("log.json", lambda text: text.replace('"step": 2', '"step": "2"'), "step is no whole number"),
    ("log.json", "[" * 99_999, "log.json is damaged"),
    ("log.json", "null", "log.json is damaged"),
    ("run.json", '{"format": "atento.run/2"}', "run.json cannot be read: its settings are others"),
    ("run.json", lambda text: text.replace('"steps"', '"stepz"'), "its settings are others"),
    ("run.json", "[" * 99_999, "run.json cannot be read"),
    ("training.json", lambda text: text.replace('"step": 4', '"step": "4"'), "is damaged.*before"),
    ("training.json", lambda text: text.replace('"losses"', '"lost"'), "training.json is damaged"),
    ("training.json", lambda text: text.replace('"worse": 0', '"worse": null'), "is damaged"),
    ("training.json", "{}", "of another version"),
])  # fmt: skip
def test_a_damaged_file_of_a_run_is_told(small, name, text, said):
    run = small(steps=4)
    paths = {"training.json": run.folder / "checkpoints" / "step-00000004" / name}
    damaged(paths.get(name, run.folder / name), text)
    with pytest.raises(InputError, match=said):
        train(out=run.folder, resume=True, progress=False)


def test_without_the_broken_checkpoint_it_goes_on_from_the_one_before(small):
    whole, run = small("whole"), small("broken")
    last = run.folder / "checkpoints" / "step-00000012"
    for file in last.iterdir():
        file.unlink()
    last.rmdir()
    again = train(out=run.folder, resume=True, progress=False)
    assert losses(again) == losses(whole)
    assert torch.equal(weights(again), weights(whole))


def test_what_a_killed_process_has_left_is_removed(small):
    run = small(steps=4)
    left = [run.folder / ".atento-x1", run.folder / "checkpoints" / ".aside-step-00000008"]
    left[0].write_bytes(b"half")
    left[1].mkdir()
    (left[1] / "model.safetensors").write_bytes(b"half")
    checkpoint_module.write_checkpoint(
        run.folder / "checkpoints",
        run.model(),
        {},
        {"step": 5, "best": None, "worse": 0, "losses": []},
        2,
    )
    train(out=run.folder, resume=True, progress=False)
    assert not any(path.exists() for path in left)


def test_a_folder_that_cannot_be_written_is_told(small, tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(folder_module, "writing", refused)
    with pytest.raises(InputError, match=r"run cannot be written: Read-only file system\. Choose"):
        small()


@pytest.mark.parametrize("name", ["", " "])
def test_a_folder_without_a_name_is_told(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="the folder of the run has no name") as raised:
        train(["to be or not to be. " * 50], out=name, preset="toy", steps=1, progress=False)
    assert raised.value.name == "lm_out"
    assert not list(tmp_path.iterdir())


def test_a_training_that_cannot_begin_leaves_no_new_folder(tmp_path):
    new, old = tmp_path / "new", tmp_path / "old"
    old.mkdir()
    for folder in new, old:
        with pytest.raises(InputError, match="one row takes"):
            train(["to be"], out=folder, preset="toy", progress=False)
    assert not new.exists()
    assert old.is_dir()


def test_where_safetensors_finds_the_disk_full(small, monkeypatch):
    def full(*_):
        raise SafetensorError("Error while serializing: I/O error: No space left on device")

    monkeypatch.setattr(checkpoint_module, "save_file", full)
    with pytest.raises(InputError, match=r"cannot be written: No space left on device\. Choose"):
        small()
