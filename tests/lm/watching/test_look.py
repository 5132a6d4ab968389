"""The file of one look: what is written is read, and damage is told."""

import numpy as np
import pytest

from atento import InputError
from atento.lm.watching.look import (
    STATISTICS,
    Look,
    forget_after,
    is_there,
    read_look,
    steps_there,
    write_look,
)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "watch").mkdir()
    return tmp_path


def look(step=30, seed=0):
    rng = np.random.default_rng(seed)
    numbers = rng.random((len(STATISTICS), 2, 3))
    numbers[1] = np.nan
    maps = (rng.random((1, 2, 3, 4, 4)), rng.random((2, 2, 3, 2, 2)))
    return Look(step, ("blocks.0", "ñ.1"), (0, 1, 2), numbers, rng.random(2), maps)


def test_what_is_written_is_read(folder):
    written = look()
    write_look(folder, written)
    found = read_look(folder, 30)
    assert (found.step, found.layers, found.heads) == (30, ("blocks.0", "ñ.1"), (0, 1, 2))
    np.testing.assert_array_equal(found.numbers, written.numbers.astype(np.float32))
    np.testing.assert_array_equal(found.losses, written.losses.astype(np.float32))
    assert len(found.maps) == 2
    for mine, theirs in zip(found.maps, written.maps, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=2**-11)


def test_a_file_that_was_cut_at_any_length_is_refused(folder):
    write_look(folder, look())
    path = folder / "watch" / "step-00000030.safetensors"
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(InputError, match=r"step-00000030\.safetensors is damaged or cut off"):
            read_look(folder, 30)
    path.write_bytes(content + b"\0")
    with pytest.raises(InputError, match="is damaged or cut off"):
        read_look(folder, 30)


def test_a_file_with_any_byte_changed_is_refused(folder):
    write_look(folder, look())
    path = folder / "watch" / "step-00000030.safetensors"
    content = bytearray(path.read_bytes())
    for at in range(len(content)):
        content[at] ^= 1
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"step-00000030\.safetensors is"):
            read_look(folder, 30)
        content[at] ^= 1


def test_axes_that_were_swapped_are_told(folder):
    write_look(folder, look())
    path = folder / "watch" / "step-00000030.safetensors"
    content = path.read_bytes()
    assert content.count(b"[7,2,3]") == 1
    path.write_bytes(content.replace(b"[7,2,3]", b"[7,3,2]"))
    with pytest.raises(InputError, match="is damaged"):
        read_look(folder, 30)


def test_a_file_under_another_step_s_name_is_refused(folder):
    write_look(folder, look())
    one = folder / "watch" / "step-00000030.safetensors"
    one.rename(folder / "watch" / "step-00000031.safetensors")
    with pytest.raises(InputError, match="is damaged"):
        read_look(folder, 31)
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_look(folder, 30)


def test_another_version_is_named(folder):
    write_look(folder, look())
    path = folder / "watch" / "step-00000030.safetensors"
    path.write_bytes(path.read_bytes().replace(b"watch.step/1", b"watch.step/2"))
    with pytest.raises(InputError, match=r"is of another version than atento\.watch\.step/1"):
        read_look(folder, 30)


def test_what_was_seen_later_is_forgotten_and_what_a_killed_process_left(folder):
    for step in (0, 100, 20, 7):
        write_look(folder, look(step))
    (folder / "watch" / ".atento-xyz").write_bytes(b"half")
    assert steps_there(folder) == [0, 7, 20, 100]
    forget_after(folder, 20)
    assert steps_there(folder) == [0, 7, 20]
    assert is_there(folder, 20)
    assert not is_there(folder, 100)
    assert not (folder / "watch" / ".atento-xyz").exists()


def test_a_write_that_fails_leaves_the_old_file(folder, monkeypatch):
    write_look(folder, look(seed=1))
    path = folder / "watch" / "step-00000030.safetensors"
    before = path.read_bytes()
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OSError, match="No space left"):
        write_look(folder, look(seed=2))
    assert path.read_bytes() == before
    assert [one.name for one in path.parent.iterdir()] == [path.name]
