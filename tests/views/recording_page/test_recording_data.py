"""What a page carries of a recording, without a browser."""

import base64
import json
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import atento
from atento.masks import Causal
from atento.reading.recording import Recording
from atento.views import mask_runs
from atento.views.mask_runs import runs_of
from atento.views.page_data import script_safe_json
from atento.views.page_numbers import TOLERANCE
from atento.views.recording_data import FORMAT, coded, recording_data
from atento.views.recording_page import render_recording
from reading_records import MASKS, TK, TQ, B, H, normal, record, record_of


def array(data, place):
    """An array of the pool, read independently."""
    entry = data["arrays"][place]
    width = int(entry["dtype"][1:])
    planes = np.frombuffer(zlib.decompress(base64.b64decode(entry["data"])), np.uint8)
    flat = planes.reshape(width, -1).T.tobytes()
    return np.frombuffer(flat, f"<{entry['dtype']}").reshape(entry["shape"])


def read(data, source):
    if isinstance(source, int):
        return array(data, source).astype(np.float64)
    values, step, middle = (array(data, source[name]) for name in ("values", "step", "middle"))
    return values * step.astype(np.float64) + middle


def seen(data, layer, head):
    """(query, key) truth values from the runs."""
    shape = layer["queries"], layer["keys"]
    if layer["sees"] is None:
        return np.ones(shape, bool)
    runs = {n: array(data, at) for n, at in data["masks"][layer["sees"][head]].items()}
    result = np.zeros(shape, bool)
    for i in range(shape[0]):
        for p in range(*runs["offsets"][i : i + 2]):
            assert runs["starts"][p] < runs["stops"][p], "an empty run"
            assert not result[i, runs["starts"][p] - 1 : runs["stops"][p]].any(), "runs that touch"
            result[i, runs["starts"][p] : runs["stops"][p]] = True
    return result


@pytest.mark.parametrize("mask", MASKS)
def test_masks_are_written_as_runs(mask):
    layer, _ = record(mask)
    data = recording_data(Recording([layer]), batch=1)
    wanted = np.broadcast_to(True if MASKS[mask][1] is None else MASKS[mask][1], (B, H, TQ, TK))
    for head in range(H):
        assert np.array_equal(seen(data, data["layers"][0], head), wanted[1, head])


def test_a_mask_is_written_once_and_asked_once(monkeypatch):
    asked = []
    monkeypatch.setattr(mask_runs, "runs_of", lambda *given: asked.append(given) or runs_of(*given))
    one, _ = record("causal, start", layer="a")
    two, _ = record("causal, start", layer="b")
    data = recording_data(Recording([one, two]))
    assert len(data["masks"]) == 1
    assert len(asked) <= 2, "one mask for all heads of a layer"
    assert data["layers"][0]["sees"] == data["layers"][1]["sees"] == [0] * H


def test_a_mask_of_millions_of_runs_is_refused_in_one_line(monkeypatch):
    monkeypatch.setattr(mask_runs, "MOST_RUNS", 40)
    layer, _ = record("rule with holes")
    with pytest.raises(atento.InputError, match=r"mask of layer 'layers.0.attn' is too broken"):
        recording_data(Recording([layer]))


def test_heads_layers_and_batch_items_are_picked():
    layers = [record(layer=name)[0] for name in ("a", "b", "c")]
    data = recording_data(Recording(layers), batch=1, layers=["c", 0], heads=[1, 4, 5])
    assert data["format"] == FORMAT
    assert [layer["name"] for layer in data["layers"]] == ["c", "a"]
    one = data["layers"][0]
    assert (one["headNumbers"], one["keyHeads"], one["keyOf"]) == ([1, 4, 5], 2, [0, 1, 1])
    source = layers[2]
    np.testing.assert_allclose(read(data, one["query"]), source.query[1, [1, 4, 5]], atol=4e-4)
    np.testing.assert_allclose(read(data, one["key"]), source.key[1, [0, 2]], atol=4e-4)
    assert np.array_equal(array(data, one["lse"]), source.lse[1, [1, 4, 5]].astype("f4"))
    assert [row["head"] for row in one["summary"]] == [1, 4, 5]


def test_heads_that_were_recorded_alone_keep_their_numbers():
    layer, dense = record(head_numbers=(3, 5, 8, 9, 20, 31))
    data = recording_data(Recording([layer]), heads=[8, 31])
    one = data["layers"][0]
    assert (one["headNumbers"], one["keyOf"]) == ([8, 31], [0, 1])
    codes = array(data, one["small"]["max"])
    assert np.array_equal(codes, coded(dense[0, [2, 5]].astype(np.float64)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"heads": [9]},
            r"heads must be numbers of heads that were recorded, from 0 to 5; got \[9",
        ),
        ({"heads": []}, "heads must be"),
        ({"heads": [True]}, "heads must be"),
        ({"batch": 2}, "batch must be from 0 to 1"),
        ({"batch": -1}, "batch must be from 0 to 1"),
        ({"layers": ["no"]}, "there is no layer 'no'"),
        ({"layers": []}, "there is no layer to draw"),
        ({"lang": "fr"}, "lang must be one of en, es"),
    ],
)
def test_what_is_not_there_is_refused_in_words(options, message):
    with pytest.raises(atento.InputError, match=message):
        render_recording(Recording([record()[0]]), **options)


def test_nothing_recorded_says_what_was_skipped():
    with pytest.raises(atento.InputError, match=r"to draw\. Skipped: attn: a strange mask"):
        recording_data(Recording([], skipped=[("attn", "a strange mask")]))


def test_statistics_alone_make_a_page_without_a_map():
    layer, _ = record()
    layer.query = layer.key = None
    data = recording_data(Recording([layer]))
    one = data["layers"][0]
    assert one["query"] is one["key"] is one["sees"] is one["bias"] is one["small"] is None
    assert set(one["strips"]) == {"entropy", "received"}


def test_few_bits_where_these_leave_the_weights_what_they_are():
    rng = np.random.default_rng(3)
    for size, kinds in [(1.0, {"i2"}), (8.0, {"i2"}), (600.0, {"f4"})]:
        query, key = rng.standard_normal((2, 1, 2, 70, 16)) * np.sqrt(size)
        layer, dense = record_of(query, key, None, None)
        data = recording_data(Recording([layer]))
        one = data["layers"][0]
        places = [s if isinstance(s, int) else s["values"] for s in (one["query"], one["key"])]
        assert {data["arrays"][place]["dtype"] for place in places} == kinds
        q, k = (read(data, one[name]) for name in ("query", "key"))
        scores = np.einsum("hqf,hkf->hqk", q, k) * layer.scale - layer.lse[0][..., None]
        assert np.abs(np.exp(scores) - dense[0]).max() <= 2 * TOLERANCE


def test_a_feature_far_out_is_held_by_float16():
    rng = np.random.default_rng(4)
    query, key = rng.standard_normal((2, 1, 1, 64, 8))
    query[0, 0, 5, :] *= 3e4
    key[0, 0, :, :] /= 8
    layer, _ = record_of(query, key, None, None)
    data = recording_data(Recording([layer]))
    place = data["layers"][0]["query"]
    assert data["arrays"][place]["dtype"] in ("f2", "f4")
    np.testing.assert_allclose(read(data, place), query[0], rtol=1e-3)


@given(st.floats(0, 1))
def test_a_byte_is_within_three_percent(weight):
    code = int(coded(np.array([weight]))[0])
    if code:
        assert 2 ** ((code - 255) / 12) == pytest.approx(weight, rel=0.0293)
    else:
        assert weight < 2**-21.1


def test_long_layers_carry_an_overview_and_short_ones_do_not(monkeypatch):
    monkeypatch.setattr("atento.views.recording_data.OVERVIEW_FROM", 100)
    monkeypatch.setattr("atento.views.recording_data.SMALL", 3)
    query, key = normal(1, 1, 131, 3), normal(1, 1, 131, 3)
    i, j = np.indices((131, 131))
    layer, dense = record_of(query, key, j <= i, Causal())
    one = (data := recording_data(Recording([layer])))["layers"][0]
    assert one["overview"]["width"] == 32
    cells = array(data, one["overview"]["max"])
    assert cells.shape == (1, 5, 5)
    whole = np.zeros((160, 160))
    whole[:131, :131] = dense[0, 0]
    wanted = whole.reshape(5, 32, 5, 32).max(axis=(1, 3))
    np.testing.assert_allclose(cells[0], wanted, rtol=6e-4)
    small = array(data, one["small"]["mean"])
    assert (one["small"]["width"], small.shape) == (64, (1, 3, 3))
    assert recording_data(Recording([record()[0]]))["layers"][0]["overview"] is None


def test_hostile_text_stays_data():
    layer, _ = record("window", layer='</script><img src=x onerror=alert(1)>" onload=')
    recording = Recording([layer], skipped=[("<!--<script>", "\u2028\ud800\0")])
    recording.name_tokens(["</script>", "<!--<script>", "\ud800", "\0", "x" * 10_000] + ["é"] * 6)
    html = render_recording(recording, other=recording)
    assert html.count("<script") == 2
    assert html.count("</script") == 2
    assert "onerror=alert(1)>" not in html
    html.encode("utf-8")
    text = script_safe_json(recording_data(recording))
    assert json.loads(text)["tokens"][2:4] == ["\ud800", "\0"]


def test_the_doors_write_recordings(tmp_path, capsys):
    recording = Recording([record("causal, end")[0]])
    atento.save(recording, tmp_path / "r.html", heads=[2])
    assert '"format":"atento.recording/1"' in (tmp_path / "r.html").read_text()
    atento.save(recording, tmp_path / "r.json")
    assert len(json.loads((tmp_path / "r.json").read_text())["heads"]) == H
    with pytest.raises(atento.InputError, match="heads: is for pages"):
        atento.save(recording, tmp_path / "r.json", heads=[2])
    atento.show(recording, lang="en")
    assert "layers.0.attn" in capsys.readouterr().out
