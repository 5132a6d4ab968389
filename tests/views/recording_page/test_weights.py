"""weights.js and recording.js in node, against the dense oracle in float64."""

import numpy as np
import pytest

from atento.reading.recording import Recording
from atento.views import page_numbers
from atento.views.recording_data import recording_data
from reading_records import MASKS, OPTIONS, TK, TQ, B, H, dense_tile, record

CASES = [(mask, "plain") for mask in MASKS] + [
    (mask, option)
    for option in OPTIONS
    for mask in ("everybody", "causal, end", "array")
    if option != "plain"
]

READ = """
import { recordingReader } from "./recording.js";
import { bothTiles, parts, row, strongest, weight } from "./weights.js";
answer = [];
for (const record of given.records) {
  const recording = await recordingReader(record);
  await recording.ready(0);
  const heads = recording.layers[0].headNumbers.map((_, index) => recording.head(0, index));
  answer.push(heads.map((head) => ({
    rows: Array.from({ length: head.Tq }, (_, i) => [...row(head, i)]),
    pairs: Array.from({ length: head.Tq }, (_, i) =>
      Array.from({ length: head.Tk }, (_, j) => weight(head, i, j))),
    sees: Array.from({ length: head.Tq }, (_, i) =>
      Array.from({ length: head.Tk }, (_, j) => parts(head, i, j).sees)),
    tiles: given.tiles.map(([row0, col0, zoom, size, pool]) =>
      [...bothTiles(head, row0, col0, zoom, size)[pool]]),
    top: strongest(head, [2, 9], [1, 12], 5),
  })));
}
"""

TILES = [
    [row0, col0, zoom, size, pool]
    for row0, col0, zoom, size in [
        (0, 0, 0, 16),
        (3, 5, 0, 4),
        (0, 0, 1, 3),
        (2, 4, 1, 8),
        (0, 0, 2, 9),
        (7, 1, 3, 2),
        (0, 0, 6, 1),
    ]
    for pool in ("mean", "max")
]


@pytest.fixture(scope="module")
def ask(node):
    def read(records):
        return node(READ, {"records": records, "tiles": TILES})

    return read


def same(found, wanted, exact):
    found = np.array(found, float)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(
        found, wanted, rtol=3e-6 if exact else 0, atol=1e-9 + 2e-3 * (not exact)
    )


@pytest.mark.parametrize("way", ["float32", "packed"])
def test_every_weight_and_tile_is_that_of_the_oracle(ask, monkeypatch, way):
    """Masks and biases of every kind, groups, softcap, sinks, rows that see nothing."""
    if way == "float32":
        monkeypatch.setattr(page_numbers, "WAYS", ("<f4",))
    exact = way == "float32"
    made = [record(mask, option, dtype=np.float32) for mask, option in CASES]
    batches = [k % B for k in range(len(made))]
    answers = ask(
        [
            recording_data(Recording([layer]), batch=batch)
            for (layer, _), batch in zip(made, batches, strict=True)
        ]
    )
    for answer, (_, dense), batch, (mask, _) in zip(answers, made, batches, CASES, strict=True):
        visible = np.broadcast_to(True if mask == "everybody" else MASKS[mask][1], dense.shape)
        for head, said in enumerate(answer):
            wanted = dense[batch, head]
            same(said["rows"], wanted, exact)
            same(said["pairs"], wanted, exact)
            assert np.array_equal(said["sees"], visible[batch, head]), mask
            for asked, cells in zip(TILES, said["tiles"], strict=True):
                same(cells, dense_tile(wanted, *asked).ravel(), exact)
            part = wanted[2:9, 1:12]
            largest = np.sort(part[part > 0])[::-1][:5]
            same([one["weight"] for one in said["top"]], largest, exact)
            for one in said["top"]:
                assert one["weight"] == pytest.approx(wanted[one["row"], one["col"]], abs=2e-3)


def test_a_layer_larger_than_a_block_of_the_page(node):
    """Blocks of 64 × 64, cut at every side, and a window whose runs begin within them."""
    import atento
    from atento.masks import Causal, Window
    from reading_records import record_of

    rng = np.random.default_rng(8)
    query, key = rng.standard_normal((1, 2, 131, 7)), rng.standard_normal((1, 1, 131, 7))
    i, j = np.indices((131, 131))
    layer, dense = record_of(query, key, (j <= i) & (j >= i - 70), Causal() & Window(left=70))
    answer = node(
        READ,
        {
            "records": [recording_data(Recording([layer]))],
            "tiles": [[5, 9, 0, 128, "mean"], [0, 0, 3, 128, "max"], [64, 0, 2, 64, "mean"]],
        },
    )[0]
    assert atento.__version__
    for head, said in enumerate(answer):
        wanted = dense[0, head]
        np.testing.assert_allclose(said["rows"], wanted, atol=2e-3)
        for asked, cells in zip(
            [(5, 9, 0, 128, "mean"), (0, 0, 3, 128, "max"), (64, 0, 2, 64, "mean")],
            said["tiles"],
            strict=True,
        ):
            np.testing.assert_allclose(cells, dense_tile(wanted, *asked).ravel(), atol=2e-3)


def test_what_makes_a_weight_is_told_step_by_step(node):
    layer, dense = record("causal, end", "all at once", dtype=np.float32)
    data = recording_data(Recording([layer]), batch=1)
    said = node(
        """
import { recordingReader } from "./recording.js";
import { parts } from "./weights.js";
const recording = await recordingReader(given);
await recording.ready(0);
answer = parts(recording.head(0, 4), 9, 3);
answer.products = [...answer.products];
const every = (head) => Array.from({ length: head.Tq * head.Tk }, (_, p) =>
  parts(head, Math.floor(p / head.Tk), p % head.Tk));
answer.logs = every(recording.head(0, 4))
  .filter(({ sees }) => sees)
  .map(({ score, lse, weight }) => [score - lse, weight]);
""",
        data,
    )
    q, k = layer.query[1, 4, 9].astype(float), layer.key[1, 2, 3].astype(float)
    assert said["products"] == pytest.approx((q * k).tolist(), abs=2e-3)
    assert said["dot"] == pytest.approx(q @ k, abs=5e-3)
    assert said["scaled"] == pytest.approx(0.9 * (q @ k), abs=5e-3)
    assert said["capped"] == pytest.approx(2 * np.tanh(0.9 * (q @ k) / 2), abs=5e-3)
    assert said["bias"] == pytest.approx(layer.bias[1, 4, 9, 3], rel=1e-6)
    assert said["score"] == pytest.approx(said["capped"] + said["bias"])
    assert said["lse"] == pytest.approx(layer.lse[1, 4, 9], rel=1e-6)
    assert said["weight"] == pytest.approx(dense[1, 4, 9, 3], abs=2e-3)
    assert said["sees"] is True
    logs, weights = np.array(said["logs"]).T
    assert len(logs) > 80
    np.testing.assert_allclose(weights, np.exp(logs), rtol=2e-10)


def test_numbers_that_are_none_and_infinite_pass_as_in_python(node, monkeypatch):
    layer, _ = record("everybody", "plain", dtype=np.float32)
    layer.query[0, 0, 2, 1] = np.nan
    layer.key[0, 0, 4, 0] = np.inf
    layer.lse[0, 0, 5] = -np.inf
    answer = node(
        READ.replace("[...row(head, i)]", "[...row(head, i)].map(String)"),
        {"records": [recording_data(Recording([layer]))], "tiles": []},
    )[0]
    found = np.array(answer[0]["rows"], float)
    with np.errstate(all="ignore"):
        wanted = layer.weights(0)
    assert np.isnan(found[2]).all()
    assert np.array_equal(np.isnan(found), np.isnan(wanted))
    finite = np.isfinite(wanted)
    np.testing.assert_allclose(found[finite], wanted[finite], atol=2e-3)
    assert not found[5].any()


def test_pictures_come_with_the_page_and_strips_with_their_layer(node):
    layer, dense = record("causal, start", "plain", dtype=np.float32)
    said = node(
        """
import { recordingReader } from "./recording.js";
const recording = await recordingReader(given);
const head = recording.head(0, 3);
const early = head.query;
const pictures = head.small("mean").data.length;
await recording.ready(0);
answer = {
  early,
  pictures,
  mean: [...head.small("mean").data],
  max: [...head.small("max").data],
  width: head.small("mean").width,
  entropy: [...recording.head(0, 3).strips.entropy],
  received: [...recording.head(0, 3).strips.received],
  role: recording.layers[0].summary[head.index].role,
  names: [recording.queryTokens(0), recording.keyTokens(0)].map((all) =>
    all.map(({ text }) => text)),
};
""",
        recording_data(Recording([layer]), batch=1),
    )
    weights = dense[1, 3]
    assert said["early"] is None, "q and k are read when a layer is asked for"
    assert said["pictures"] == TQ * TK, "and small pictures are there before"
    assert said["width"] == 1
    for pool in ("mean", "max"):
        np.testing.assert_allclose(said[pool], weights.ravel(), rtol=0.03, atol=2**-21)
    np.testing.assert_allclose(said["entropy"], layer.statistics["entropy"][1, 3], rtol=1e-3)
    np.testing.assert_allclose(said["received"], layer.statistics["received"][1, 3], rtol=1e-3)
    assert said["names"] == [[str(i) for i in range(TQ)], [str(i) for i in range(TK)]]
    assert H == 6
