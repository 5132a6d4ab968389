"""What the page is told of a recording, array by array, and its tiles in both pools."""

import json

import numpy as np
import pytest

from atento.masks import Causal, Explicit, Rule, Window
from atento.reading.key_runs import runs_of
from atento.reading.layer import LayerRecord
from atento.reading.pyramid import overview_statistic
from atento.reading.recording import Recording
from atento.server import record as record_module
from atento.server.record import ServedRecord
from atento.server.tile_pools import both_pools
from atento.server.work import StoppedError
from atento.statistics import survey

TYPES = {"u1": np.uint8, "i4": np.int32, "f4": np.float32}


def made(tokens=37, heads=4, key_heads=2, mask=None, bias=None, size=5, seed=3, statistics=None):
    rng = np.random.default_rng(seed)
    query = rng.standard_normal((1, heads, tokens, size)).astype(np.float32)
    key = rng.standard_normal((1, key_heads, tokens, size)).astype(np.float32)
    value = np.zeros_like(key)
    found = survey(query, key, value, mask=mask, bias=bias, statistics=statistics)
    record = LayerRecord(
        layer="<img onerror>",
        kind="self",
        side=None,
        way="made",
        query=query,
        key=key,
        lse=found.lse,
        mask=mask,
        bias=bias,
        scale=size**-0.5,
        statistics=dict(found.statistics),
        axes={name: axes[1:] for name, axes in found.axes.items()},
    )
    recording = Recording()
    recording.add(record)
    recording.name_tokens([f"t{i}" for i in range(tokens)])
    return recording


def weights_of(served, head):
    """The weights of one head by the definition, from what the page is given alone."""
    layer = served.described["layers"][0]

    def part(source, at):
        array = served.array(source[at] if isinstance(source, list) else source)
        return array[0 if len(array) == 1 else at].astype(np.float64)

    query, key = part(layer["query"], head), part(layer["key"], layer["keyOf"][head])
    scores = query @ key.T * layer["scale"]
    if layer["bias"]:
        ((kind, source),) = layer["bias"].items()
        assert kind == "pairs"
        scores = scores + part(source, head)
    if layer["sees"] is not None:
        place = served.described["masks"][layer["sees"][head]]["runs"]
        runs, Tq = served.array(place), layer["queries"]
        count = (len(runs) - Tq - 1) // 2
        offsets, starts, stops = np.split(runs, [Tq + 1, Tq + 1 + count])
        seen = np.zeros(scores.shape, bool)
        for i in range(Tq):
            for run in range(offsets[i], offsets[i + 1]):
                seen[i, starts[run] : stops[run]] = True
        scores[~seen] = -np.inf
    return np.exp(scores - part(layer["lse"], head)[:, None])


def rule(batch, head, query, key):
    return (query + key + head) % 3 != 0


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize(
    "mask",
    [None, Causal(), Causal() & Window(left=4), Rule(rule), Explicit(np.eye(37, dtype=bool))],
    ids=["none", "causal", "window", "rule", "eye"],
)
@pytest.mark.parametrize("biased", [False, True])
def test_the_page_has_all_that_the_weights_are_made_of(monkeypatch, mask, biased, long):
    monkeypatch.setattr(record_module, "LONG", 10 if long else 10**9)
    bias = np.random.default_rng(0).standard_normal((4, 37, 37)).astype(np.float32)
    recording = made(mask=mask, bias=bias if biased else None)
    served = ServedRecord(recording)
    json.dumps(served.described, allow_nan=False)
    assert served.described["layers"][0]["served"] is long
    for head in range(4):
        np.testing.assert_allclose(
            weights_of(served, head), recording[0].weights(head), rtol=0, atol=2e-6
        )
    assert all(served.array(at).dtype.str[1:] in TYPES for at in range(len(served.makers)))


def test_pictures_and_strips_are_those_of_the_record(monkeypatch):
    recording = made(tokens=150, mask=Causal())
    layer = recording[0]
    for most in (10, 10**9):
        monkeypatch.setattr(record_module, "LONG", most)
        served = ServedRecord(recording)
        told = served.described["layers"][0]
        assert told["small"]["width"] == 4
        mean = served.array(told["small"]["mean"])
        assert mean.shape == (4, 38, 38)
        exact = layer.tile(2, 0, 0, 2, 48, "mean")
        shown = np.where(mean[2] > 0, 2.0 ** ((mean[2].astype(float) - 255) / 12), 0)
        np.testing.assert_allclose(shown, exact, rtol=0.03, atol=1e-6)
        strip = told["strips"]["entropy"]
        strip = served.array(strip[1])[0] if isinstance(strip, list) else served.array(strip)[1]
        np.testing.assert_allclose(strip, layer.statistics["entropy"][0, 1], rtol=1e-6)
        if told["overview"]:
            whole = served.array(told["overview"]["max"][3])[0]
            np.testing.assert_array_equal(whole, layer.tile(3, 0, 0, 0, 1024, "max"))


def test_the_runs_of_a_mask_are_those_that_the_page_of_a_file_has():
    recording = made(mask=Causal() & Window(left=4))
    served = ServedRecord(recording)
    runs = runs_of(recording[0].mask.at(()), 37, 37)
    expected = np.concatenate([runs["offsets"], runs["starts"], runs["stops"]])
    np.testing.assert_array_equal(served.array(served.described["masks"][0]["runs"]), expected)


@pytest.mark.parametrize("zoom", [0, 1, 2, 5, 9])
@pytest.mark.parametrize("corner", [(0, 0), (64, 32), (192, 320)])
def test_both_pools_are_the_tiles_of_the_record(zoom, corner):
    layer = made(tokens=333, heads=2, key_heads=2, mask=Causal(), seed=8)[0]
    side = 1 << zoom
    row0, col0 = (at // side * side for at in corner)
    mean, most = both_pools(layer, 1, row0, col0, zoom, 24)
    for found, pool in ((mean, "mean"), (most, "max")):
        exact = layer.tile(1, row0, col0, zoom, 24, pool)
        assert found.shape == exact.shape
        np.testing.assert_allclose(found, exact, rtol=1e-5, atol=1e-9)


def test_tiles_come_from_the_overview_where_it_is_fine_enough(monkeypatch):
    layer = made(333, 1, 1, Causal(), statistics=[overview_statistic(8)])[0]
    assert layer.statistics["overview_mean"].shape[-1] == -(-333 // 8)
    exact = [layer.tile(0, 0, 0, 3, 64, pool) for pool in ("mean", "max")]
    monkeypatch.setattr(LayerRecord, "weights", lambda *_: pytest.fail("was computed again"))
    for found, expected in zip(both_pools(layer, 0, 0, 0, 3, 64), exact, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-9)


def test_tiles_arrive_in_their_order_each_with_both_pools(served):
    base = f"/api/readings/{served.pinned}/layers/0/heads/1/tiles?zoom=2&size=7"
    corners = [(8, 4), (40, 0), (0, 44)]  # the others end with the rows, and with the columns
    answer = served.ask(f"{base}&at=" + ",".join(f"{row}.{col}" for row, col in corners))
    layer = served.readings[served.pinned].recording[0]
    rows, cols = (answer.headers[name].split(",") for name in ("x-rows", "x-cols"))
    values = np.frombuffer(answer.body, "<f4")
    for at, (row, col) in enumerate(corners):
        for pool, n in (("mean", 2 * at), ("max", 2 * at + 1)):
            expected = layer.tile(1, row, col, 2, 7, pool)
            assert (int(rows[n]), int(cols[n])) == expected.shape
            found, values = values[: expected.size], values[expected.size :]
            np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=1e-5)
    assert not values.size


def test_a_tile_that_nobody_waits_for_is_not_finished(monkeypatch):
    layer, checks = made(600, 1, 1, Causal())[0], []

    def check():
        checks.append(1)
        if len(checks) == 3:
            raise StoppedError

    with pytest.raises(StoppedError):
        both_pools(layer, 0, 0, 0, 1, 300, check)
    checks.clear()
    both_pools(layer, 0, 0, 0, 1, 300, lambda: checks.append(1))
    assert len(checks) == 6  # three bands of 256 queries, two blocks of 512 keys


def test_record_and_arrays_arrive_in_their_types(served):
    base = f"/api/readings/{served.pinned}"
    told = served.ask(f"{base}/record").json()
    assert told == served.readings[served.pinned].record.described
    layer = served.readings[served.pinned].recording[0]
    answer = served.ask(f"{base}/arrays/{told['layers'][0]['query']}")
    shape = tuple(map(int, answer.headers["x-shape"].split(",")))
    array = np.frombuffer(answer.body, TYPES[answer.headers["x-type"]]).reshape(shape)
    np.testing.assert_array_equal(array, layer.query[0])
    assert answer.headers["cache-control"] == "no-store"
    mistake = served.ask(f"{base}/arrays/999")
    count = len(served.readings[served.pinned].record.makers)
    assert mistake.status == 422
    assert mistake.json() == {"error": f"there is no array 999: there are {count}."}
    assert served.ask(f"{base}/arrays/-1").status == 404
    assert served.ask("/api/readings/nothing/record").status == 404


def test_half_a_character_is_read_and_told(served):
    text = "half \ud800 a \u202e word </script>\x00"
    answer = served.ask("/api/readings", {"text": text})
    assert answer.status == 200
    told = answer.json()
    assert told["text"] == text
    assert served.ask(f"/api/readings/{told['id']}/record").json()["tokens"] == told["tokens"]


def test_a_mask_of_too_many_runs_is_told(served, monkeypatch):
    monkeypatch.setattr(record_module, "runs_of", lambda *_: None)
    recording = made(mask=Rule(rule))
    from atento.server.readings import HeldReading

    name = served.readings.add(HeldReading("made", "", recording))
    told = served.ask(f"/api/readings/{name}/record").json()
    answer = served.ask(f"/api/readings/{name}/arrays/{told['masks'][0]['runs']}")
    assert answer.status == 422
    assert "too broken for the page" in answer.json()["error"]


def test_what_comes_next_is_told_before_and_after(served):
    text = "Your journey starts with one step"
    plain = served.ask("/api/readings", {"text": text}).json()["next"]
    changed = served.ask("/api/readings", {"text": text, "off": [[0, 1]]}).json()["next"]
    before = {each["id"]: each["before"] for each in changed}
    assert all("before" not in each for each in plain)
    for each in plain:
        assert before[each["id"]] == each["probability"]
    assert [e["probability"] for e in changed] == sorted(e["probability"] for e in changed)[::-1]
    assert len(plain) == 10 <= len(changed) <= 20
