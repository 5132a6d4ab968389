"""Recordings on disk: the same numbers again, nothing half-written, nothing damaged read."""

import errno
import json
import os
import stat

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from atento import InputError, _files
from atento.masks import Causal, Rule
from atento.masks.band import Band
from atento.reading import saving, stored_masks
from atento.reading.recording import Recording
from atento.reading.saving import StoredLayer, load_recording
from atento.reading.stored_masks import Intervals
from reading_records import MASKS, OPTIONS, TQ, B, H, record


def small(**changes):
    """A recording whose file is short enough to be damaged byte by byte."""
    made, _ = record("causal and padding", "sinks", np.float32, layer="ä", **changes)
    made.statistics = {"entropy": made.statistics["entropy"].astype(np.float32)}
    made.axes = {"entropy": ("head", "query")}
    for name in ("query", "key", "lse"):
        setattr(made, name, getattr(made, name)[:1])
    made.statistics["entropy"] = made.statistics["entropy"][:1]
    made.mask = Causal("start")
    return Recording([made], token_ids=range(TQ), skipped=[("b", "quantised")])


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "run.safetensors"
    small().save(path)
    return path


def check_same(mine, theirs):
    assert mine.names == theirs.names
    for own, other in zip(mine.records, theirs.records, strict=True):
        for name in (*saving.SIMPLE, "axes"):
            if name != "key_length":
                assert getattr(own, name) == getattr(other, name), name
        for name in ("query", "key", "lse"):
            assert_same(getattr(own, name), getattr(other, name))
        assert set(own.statistics) == set(other.statistics)
        for name in own.statistics:
            assert_same(own.statistics[name], other.statistics[name])


def assert_same(own, other):
    if own is None:
        assert other is None
        return
    assert own.dtype == other.dtype
    np.testing.assert_array_equal(own, other)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_what_is_loaded_is_what_was_saved(dtype, tmp_path):
    records = [
        record(mask, layer=f"layers.{mask}", kind="cross", side="decoder")[0] for mask in MASKS
    ]
    for made in records:
        made.query, made.key = made.query.astype(dtype), made.key.astype(dtype)
    records.append(record("window", layer=records[0].layer, first_query=4, softcap=3.5)[0])
    recording = Recording(records, [[4] * TQ, [5] * TQ], [("x", "no"), ("y", "é")])
    recording.name_tokens([f"t{i}" for i in range(TQ)])
    recording.save(tmp_path / "a")
    loaded = load_recording(str(tmp_path / "a"))
    check_same(loaded, recording)
    assert loaded.skipped == recording.skipped
    assert loaded.tokens == recording.tokens
    np.testing.assert_array_equal(loaded.token_ids, recording.token_ids)
    assert len(loaded.passes) == 2


@pytest.mark.parametrize("mask", MASKS)
def test_every_mask_means_the_same_after_loading(mask, tmp_path):
    made, weights = record(mask)
    Recording([made]).save(tmp_path / "a")
    loaded = load_recording(tmp_path / "a")[0]
    assert isinstance(loaded, StoredLayer)
    for batch in range(B):
        for head in range(H):
            mine = loaded.weights(head, batch=batch)
            np.testing.assert_array_equal(mine, made.weights(head, batch=batch))
            np.testing.assert_allclose(mine, weights[batch, head], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_means_the_same_after_loading(option, tmp_path):
    made, _ = record("causal, end", option)
    Recording([made]).save(tmp_path / "a")
    loaded = load_recording(tmp_path / "a")[0]
    np.testing.assert_array_equal(loaded.weights(3, batch=1), made.weights(3, batch=1))


def test_rules_of_intervals_are_stored_as_their_ends_and_others_as_bits(tmp_path):
    for mask, kind, shape in (
        ("rule of chunks", Intervals, (1, 1, TQ)),
        ("rule of intervals per head", Intervals, (B, H, TQ)),
    ):
        Recording([record(mask)[0]]).save(tmp_path / "a")
        loaded = load_recording(tmp_path / "a")[0].mask
        assert isinstance(loaded, kind)
        assert loaded.starts.shape == shape
    Recording([record("rule with holes")[0]]).save(tmp_path / "b")
    bits = [a for name, a in load_file(tmp_path / "b").items() if ".mask." in name]
    assert [array.shape for array in bits] == [(B, H, TQ, 2)]
    Recording([record("causal, end")[0]]).save(tmp_path / "c")
    assert isinstance(load_recording(tmp_path / "c")[0].mask, Band)


def test_intervals_answer_for_any_block_as_the_pairs_do():
    starts, stops = np.array([[[0, 2, 5, 3]]]), np.array([[[4, 2, 7, 6]]])
    mask = Intervals(starts, stops).at((1, 2))
    key = np.arange(7)
    pairs = (key >= starts[0, 0, :, None]) & (key < stops[0, 0, :, None])
    for a in range(5):
        for b in range(a, 5):
            for c in range(8):
                for d in range(c, 8):
                    rows, cols, own = range(a, b), range(c, d), pairs[a:b, c:d]
                    covered, tile = mask.coverage(rows, cols), mask.block(rows, cols)
                    tile = tile if isinstance(tile, np.ndarray) else tile.value
                    assert (own == tile).all()
                    assert covered is None or (own == covered.value).all()


def test_a_recording_of_cached_decoding_can_be_stored(tmp_path):
    recording = Recording()
    first, _ = record("rule with holes", "bias")
    recording.add(first)
    step, _ = record("rule with holes", "bias", first_query=TQ)
    recording.add(step)
    assert len(recording.passes) == 1
    recording.save(tmp_path / "a")
    loaded = load_recording(tmp_path / "a")[0]
    for head in range(H):
        np.testing.assert_array_equal(loaded.weights(head), recording[0].weights(head))


def test_statistics_alone_can_be_stored(tmp_path):
    made, _ = record("causal, end")
    made.query = made.key = None
    Recording([made]).save(tmp_path / "a")
    loaded = load_recording(tmp_path / "a")
    check_same(loaded, Recording([made]))
    with pytest.raises(InputError, match=r'keep="qk"'):
        loaded[0].weights(0)


def test_a_loaded_recording_goes_on_growing_and_can_be_saved_over_its_own_file(tmp_path):
    path = tmp_path / "a"
    Recording([record()[0]]).save(path)
    loaded = load_recording(path)
    loaded.add(record(first_query=TQ)[0])
    loaded.save(path)
    again = load_recording(path)
    assert again[0].queries == 2 * TQ
    check_same(again, loaded)


def test_any_safetensors_reader_can_read_the_arrays(saved):
    arrays = load_file(saved)
    np.testing.assert_array_equal(arrays["layers.0.query"], small()[0].query)
    assert arrays["layers.0.lse"].dtype == np.float32


def test_arrays_are_read_when_they_are_asked_for(saved, monkeypatch):
    read = []
    original = saving._File.read
    monkeypatch.setattr(
        saving._File, "read", lambda self, name: read.append(name) or original(self, name)
    )
    layer = load_recording(saved)[0]
    assert read == ["token_ids.0"]
    first, second = layer.query, layer.query
    assert read == ["token_ids.0", "layers.0.query"]
    assert first is second
    assert not first.flags.writeable


def test_an_array_without_numbers_and_a_dtype_that_cannot_be_stored(tmp_path):
    made, _ = record()
    made.statistics = {"none": np.zeros((B, 0), np.float32)}
    made.axes = {"none": ("which",)}
    Recording([made]).save(tmp_path / "a")
    assert load_recording(tmp_path / "a")[0].statistics["none"].shape == (B, 0)
    made.statistics["none"] = np.zeros((B, 0), complex)
    with pytest.raises(InputError, match=r"statistics\.none has dtype complex128"):
        Recording([made]).save(tmp_path / "b")
    assert not (tmp_path / "b").exists()


# Damage: always one clear error.


def check_refused(path, match=""):
    with pytest.raises(InputError, match=match) as caught:
        load_recording(path)[0].query.sum()
    assert str(path) in str(caught.value)


def test_a_file_cut_off_at_any_length_is_refused(saved, tmp_path):
    whole = saved.read_bytes()
    cut = tmp_path / "cut"
    for length in range(len(whole)):
        cut.write_bytes(whole[:length])
        check_refused(cut, "is not a recording that can be read")
    cut.write_bytes(whole + b"\0")
    check_refused(cut, r"bytes of arrays where")


def test_every_byte_of_the_header_that_is_flipped_is_refused(saved, tmp_path):
    whole = saved.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    damaged = tmp_path / "damaged"
    for at in range(header):
        for flip in (0x01, 0x80, 0x20):
            changed = bytearray(whole)
            changed[at] ^= flip
            damaged.write_bytes(changed)
            check_refused(damaged, "is not a recording that can be read")


def test_every_byte_of_an_array_that_is_flipped_is_refused_when_it_is_read(saved, tmp_path):
    whole = saved.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    damaged = tmp_path / "damaged"
    for at in range(start, len(whole), 29):
        changed = bytearray(whole)
        changed[at] ^= 0x10
        damaged.write_bytes(changed)
        with pytest.raises(InputError, match=r"is damaged: the array \S+ is not as it was written"):
            read_all(damaged)


def read_all(path):
    layer = load_recording(path)[0]
    return [layer.query, layer.key, layer.lse, *layer.statistics.values()]


def forge(path, change):
    """The file with its header changed, and a checksum that fits."""
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    said = json.loads(header["__metadata__"]["recording"])
    change(header, said)
    header["__metadata__"]["recording"] = json.dumps(said)
    header["__metadata__"]["checksum"] = saving.ZEROS
    text = json.dumps(header).encode()
    checksum = saving.hashlib.sha256(text).hexdigest().encode()
    text = text.replace(saving.ZEROS.encode(), checksum, 1)
    path.write_bytes(len(text).to_bytes(8, "little") + text + whole[8 + length :])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda header, said: header["__metadata__"].update(version="3"),
            r"it has version 3, and this atento reads versions up to 2: a newer atento wrote it",
        ),
        (
            lambda header, said: header["__metadata__"].update(format="pt"),
            r"a safetensors file of another kind \(format 'pt'",
        ),
        (
            lambda header, said: header["layers.0.query"].update(shape=[1, 6, 5, 11]),
            r"query must be \(batch, head, query, feature\)",
        ),
        (
            lambda header, said: header["layers.0.query"].update(shape=[1, 6, 11, 6]),
            r"overlap or leave gaps",
        ),
        (lambda header, said: header["layers.0.lse"].update(dtype="F8"), r"does not fit together"),
        (lambda header, said: header.pop("layers.0.lse"), r"gaps|names|written"),
        (lambda header, said: said.pop("layers"), r"does not fit together"),
        (lambda header, said: said["layers"][0].pop("scale"), r"does not fit together"),
        (lambda header, said: said["crc32"].pop("layers.0.key"), r"not those that it names"),
    ],
)
def test_a_header_that_contradicts_itself_is_refused(saved, change, message):
    forge(saved, change)
    check_refused(saved, message)


@pytest.mark.parametrize(
    "mask",
    [
        {"band": [0]},
        {"circle": [1, 2]},
        {},
        {"not": None},
        {"prefix": -1},
        {"bits": "layers.0.lse", "keys": 13},
        {"bits": "nothing", "keys": 13},
        {"intervals": ["layers.0.query", "layers.0.query"]},
    ],
)
def test_a_mask_that_cannot_be_is_refused_when_it_is_read(saved, mask):
    forge(saved, lambda header, said: said["layers"][0].update(mask=mask))
    with pytest.raises(InputError, match=r"the mask of layer 'ä' cannot be read"):
        load_recording(saved)[0].weights(0)


def test_files_of_others_and_no_files_are_refused(tmp_path):
    foreign = tmp_path / "foreign"
    save_file({"a": np.zeros(3)}, foreign)
    check_refused(foreign, r"of another kind \(format None")
    save_file({"a": np.zeros(3)}, foreign, metadata={"format": "pt"})
    check_refused(foreign, r"of another kind \(format 'pt'")
    for content in (b"", b"{}", b"\x93NUMPY" * 9, (2).to_bytes(8, "little") + b"[]"):
        foreign.write_bytes(content)
        check_refused(foreign, "is not a recording that can be read")
    check_refused(tmp_path / "nowhere", r"cannot be read: No such file")
    check_refused(tmp_path, r"cannot be read: Is a directory")


def older(header, said):
    """What version 1 wrote."""
    header["__metadata__"]["version"] = "1"
    for layer in said["layers"]:
        for name in ("head_numbers", "bin_width", "patches"):
            del layer[name]


def test_files_of_version_1_are_read(saved):
    forge(saved, older)
    layer = load_recording(saved)[0]
    assert layer.head_numbers == tuple(range(H))
    assert layer.bin_width is None
    assert layer.patches is None
    np.testing.assert_array_equal(layer.weights(2), small()[0].weights(2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head_numbers": [0, 1]}, r"head_numbers must be 6 different numbers"),
        ({"head_numbers": [0, 1, 2, 3, 4, "a"]}, r"does not fit together"),
        ({"head_numbers": None}, r"does not fit together"),
        ({"bin_width": "a"}, r"does not fit together"),
        ({"bin_width": 12}, r"bin_width must be a power of two; got 12"),
        ({"bin_width": 0}, r"bin_width must be a power of two; got 0"),
        ({"patches": [3, 5]}, r"3 × 5 patches"),
        ({"patches": 3}, r"patches are \(rows, columns\)"),
    ],
)
def test_heads_bins_and_patches_that_cannot_be_are_refused(saved, change, message):
    forge(saved, lambda header, said: said["layers"][0].update(change))
    check_refused(saved, message)


def test_heads_bins_and_patches_are_loaded(tmp_path):
    recording = small()
    recording[0].head_numbers, recording[0].bin_width = (7, 1, 2, 3, 9, 4), 16
    recording[0].patches = (3, 4)
    recording.save(tmp_path / "a")
    layer = load_recording(tmp_path / "a")[0]
    assert layer.head_numbers == (7, 1, 2, 3, 9, 4)
    assert layer.bin_width == 16
    assert layer.patches == recording[0].patches
    np.testing.assert_array_equal(layer.weights(9), recording[0].weights(9))


# Writing: whole or not at all.


@pytest.mark.parametrize("where", ["write", "fsync", "mkstemp", "replace"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(saved, where, monkeypatch):
    before = saved.read_bytes()

    def full(*_args, **_options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    class Full:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_raised):
            self.file.close()

        write = full

    if where == "write":
        opened = os.fdopen
        monkeypatch.setattr(_files.os, "fdopen", lambda *args: Full(opened(*args)))
    elif where == "fsync":
        monkeypatch.setattr(_files.os, "fsync", full)
    elif where == "mkstemp":
        monkeypatch.setattr(_files.tempfile, "mkstemp", full)
    else:
        monkeypatch.setattr(_files.Path, "replace", full)
    with pytest.raises(InputError, match=r"could not be written to .*: No space left on device"):
        Recording([record("window")[0]]).save(saved)
    monkeypatch.undo()
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_an_interrupt_leaves_the_old_file_and_nothing_else(saved, monkeypatch):
    before = saved.read_bytes()

    def interrupted(_descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(_files.os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        small().save(saved)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_a_place_that_cannot_be_written_to_is_refused(tmp_path):
    for path in (tmp_path / "no" / "folder", tmp_path, tmp_path / "a\0b"):
        with pytest.raises(InputError, match="could not be written to"):
            small().save(path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_has_the_permissions_of_the_one_it_replaces(saved):
    saved.chmod(0o640)
    small().save(saved)
    assert stat.S_IMODE(saved.stat().st_mode) == 0o640


def test_a_mask_too_large_to_be_stored_is_refused_with_its_size(saved, monkeypatch):
    before = saved.read_bytes()
    monkeypatch.setattr(stored_masks, "MOST_BYTES", B * H * TQ * 2 - 1)
    made, _ = record("rule with holes", layer="deep")
    with pytest.raises(InputError, match=r"the mask of layer 'deep' .* 0\.0 GB\. Write it with"):
        Recording([made]).save(saved)
    made.mask = Rule(lambda b, h, q, k: k <= q)
    Recording([made]).save(saved)  # as intervals it is small
    assert saved.read_bytes() != before
