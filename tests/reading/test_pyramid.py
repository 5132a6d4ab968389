"""The overview: tiles from its bins, bins of cached decoding, what capture folds."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from atento import InputError, capture, load_recording
from atento.masks import Causal, KeyPadding, Prefix
from atento.reading import layer as layer_module
from atento.reading import pyramid
from atento.reading.layer import LayerRecord
from atento.reading.pyramid import MAPS, bin_width, overview_statistic, pyramid_of
from atento.reading.recording import Recording
from atento.statistics.overview import Overview
from atento.statistics.survey import survey
from reading_models import VOCABULARY, gpt2, llama
from reading_records import TK, TQ, D, dense_tile, normal, record


def with_overview(made, weights, width):
    """The record, with bins of width × width weights as capture would fold them."""
    for pool in ("mean", "max"):
        own = [
            [dense_tile(head, 0, 0, width.bit_length() - 1, 10**6, pool) for head in item]
            for item in weights
        ]
        made.statistics[f"overview_{pool}"] = np.array(own)
        made.axes[f"overview_{pool}"] = ("head", "row bin", "column bin")
    made.check()
    return made


@pytest.mark.parametrize("pool", ["mean", "max"])
@given(
    width=st.sampled_from([1, 2, 4]),
    more=st.integers(0, 5),
    cell=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    size=st.integers(1, 5),
    mask=st.sampled_from(["causal, end", "array", "padding"]),
)
def test_a_tile_from_the_overview_is_the_tile_of_the_weights(pool, width, more, cell, size, mask):
    made, weights = record(mask)
    with_overview(made, weights, width)
    zoom = width.bit_length() - 1 + more
    row0, col0 = (min(n, (T - 1) >> zoom) << zoom for n, T in zip(cell, (TQ, TK), strict=True))
    made.query = made.key = None  # so that it cannot be computed
    mine = made.tile(3, row0, col0, zoom, size, pool, batch=1)
    expected = dense_tile(weights[1, 3], row0, col0, zoom, size, pool)
    assert mine.shape == expected.shape
    np.testing.assert_allclose(mine, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("pool", ["mean", "max"])
def test_the_overview_that_a_survey_folds_serves_tiles(pool):
    T, width = 211, 4
    query, key = normal(1, 2, T, D), normal(1, 1, T, D)
    surveyed = survey(query, key, key, mask=Causal(), statistics=[Overview(-(-T // width))])
    made = LayerRecord(
        "a", "self", None, "atento", query, key, surveyed.lse, Causal(), D**-0.5,
        statistics={name: surveyed[name] for name in surveyed},
        axes={name: surveyed.axes[name][1:] for name in surveyed},
    )  # fmt: skip
    made.check()
    weights = made.weights(1)
    made.query = made.key = None  # so that tiles cannot be computed
    for zoom in (2, 3, 5, 8):
        expected = dense_tile(weights, 0, 0, zoom, 256, pool)
        np.testing.assert_allclose(
            made.tile(1, 0, 0, zoom, pool=pool), expected, rtol=1e-12, atol=1e-15
        )


def test_large_tiles_come_from_the_overview_and_others_are_computed(monkeypatch):
    made, weights = record("causal, end")
    with_overview(made, weights, 2)
    for name in ("overview_mean", "overview_max"):
        made.statistics[name] = np.full_like(made.statistics[name], 7.0)
    monkeypatch.setattr(layer_module, "MOST_PAIRS", 16)
    assert (made.tile(0, 0, 0, 1, 3) == 7).all()
    computed = dense_tile(weights[0, 0], 0, 0, 1, 2, "mean")
    np.testing.assert_allclose(made.tile(0, 0, 0, 1, 2), computed, rtol=1e-12, atol=1e-12)
    # Cells that are not made of whole bins, and cells smaller than bins, are computed too.
    for row0, zoom in ((1, 1), (0, 0)):
        computed = dense_tile(weights[0, 0], row0, 0, zoom, 9, "mean")
        mine = made.tile(0, row0, 0, zoom, 9)
        np.testing.assert_allclose(mine, computed, rtol=1e-12, atol=1e-12)


def test_an_overview_whose_bins_are_no_powers_of_two_is_not_used():
    mean = np.zeros((4, 5))  # 11 queries in bins of 3
    assert pyramid_of(mean, mean, (TQ, TK)) is None
    assert pyramid_of(np.zeros((6, 7)), np.zeros((6, 7)), (TQ, TK)).widths == (2, 2)


@given(st.integers(1, 2**21), st.booleans())
def test_the_overview_is_fine_enough_and_its_memory_grows_with_the_length(T, kept):
    width = bin_width(T, kept)
    bins = -(-T // width)
    assert width & (width - 1) == 0
    assert 8 * bins**2 <= (1024 if kept else 8) * (T + 2 * width * bins) or bins <= 64
    assert bin_width(T + 1, kept) >= width  # so that what is there can be pooled
    if kept and T > 2048:
        assert (width == 32) == (T <= 131_072)


def test_bins_are_wider_than_memory_needs_by_less_than_a_factor_of_two():
    for T, kept, width in (
        (64, True, 1), (65, True, 2), (4096, True, 32), (131_072, True, 32), (131_073, True, 64),
        (524_288, True, 64), (524_289, True, 128), (64, False, 1), (4096, False, 64),
        (4097, False, 128), (16_384, False, 128), (16_385, False, 256), (131_072, False, 512),
    ):  # fmt: skip
        assert bin_width(T, kept) == width


# Cached decoding: the overview of chunks is that of one pass.

LONG = 97
_i, _j = np.indices((LONG, LONG))
QUERY, KEY = normal(2, 3, LONG, D), normal(2, 1, LONG, D)
_keep = np.random.default_rng(5).random((2, LONG)) < 0.7
CHUNK_RULES = {
    "causal": lambda start, stop: Causal("end"),
    "both ways": lambda start, stop: None,
    "padded": lambda start, stop: Causal("end") & KeyPadding(_keep[:, :stop]),
    "prefix": lambda start, stop: Causal("end") | Prefix(3),
}


def chunk(start, stop, rule, known, kept=True, keys=None, kind="self"):
    """A record of some queries over the keys so far, as a capture makes it."""
    keys = stop if keys is None else keys
    made = LayerRecord(
        "a", kind, "decoder", "sdpa", QUERY[:, :, start:stop], KEY[:, :, :keys],
        lse=np.zeros((2, 3, stop - start)), mask=None, scale=D**-0.5,
        first_query=start if kind == "self" else 0,
    )  # fmt: skip
    above = known.rows_before(made)
    made.bin_width = bin_width(max(above + made.queries, made.keys), kept)
    folded = survey(
        made.query, made.key, made.key, mask=rule,
        statistics=[overview_statistic(made.bin_width, above)],
    )  # fmt: skip
    made.lse, made.mask = folded.lse, rule
    made.statistics = {name: folded[name] for name in folded}
    made.axes = {name: folded.axes[name][1:] for name in folded}
    return made


def dense_overview(weights, pool, width):
    zoom = width.bit_length() - 1
    return np.array([[dense_tile(h, 0, 0, zoom, 10**6, pool) for h in item] for item in weights])


def all_weights(made):
    return np.array([[made.weights(h, batch=b) for h in range(3)] for b in range(2)])


cuts = st.lists(st.integers(1, LONG), max_size=7).map(lambda cuts: sorted({0, *cuts}))


@pytest.mark.parametrize("rule", CHUNK_RULES)
@given(cuts=cuts, kept=st.booleans())
def test_the_overview_of_chunks_is_that_of_one_pass(rule, cuts, kept):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pyramid, "FINEST", 4)
        patch.setattr(pyramid, "FEWEST", 6)
        recording = Recording()
        for start, stop in pairwise(cuts):
            recording.add(chunk(start, stop, CHUNK_RULES[rule](start, stop), recording, kept))
        if len(cuts) < 2:
            return
        grown, width = recording["a"], bin_width(cuts[-1], kept)
        assert len(recording.passes) == 1
        assert grown.bin_width == width
        weights = all_weights(grown)
        for pool, name in MAPS.items():
            expected = dense_overview(weights, pool, width)
            assert grown.statistics[name].shape == expected.shape
            np.testing.assert_allclose(grown.statistics[name], expected, rtol=1e-11, atol=1e-15)
        grown.query = grown.key = None
        zoom = width.bit_length()
        np.testing.assert_allclose(
            grown.tile(2, 0, 0, zoom, pool="max", batch=1),
            dense_tile(weights[1, 2], 0, 0, zoom, 256, "max"), rtol=1e-12,
        )  # fmt: skip


def test_single_precision_of_many_single_steps_stays_within_rounding():
    recording = Recording()
    for start in range(LONG):
        made = chunk(start, start + 1, Causal("end"), recording)
        made.statistics = {name: x.astype(np.float32) for name, x in made.statistics.items()}
        recording.add(made)
    grown = recording["a"]
    assert grown.statistics["overview_mean"].dtype == np.float32
    expected = dense_overview(all_weights(grown), "mean", grown.bin_width)
    np.testing.assert_allclose(grown.statistics["overview_mean"], expected, rtol=1e-6)


def test_single_steps_do_not_copy_what_is_there():
    recording = Recording()
    recording.add(chunk(0, 65, Causal("end"), recording))
    rooms = []
    for start in range(65, LONG):
        recording.add(chunk(start, start + 1, Causal("end"), recording))
        rooms.append(recording["a"].room["overview_mean"])
    assert all(room is rooms[0] for room in rooms)
    assert rooms[0].shape == (2, 3, 66, 66)


def test_cross_attention_of_cached_decoding_joins_its_overview():
    recording = Recording()
    for start, stop in ((0, 3), (3, 4), (4, 71)):
        own = chunk(start, stop, Causal("end"), recording)
        own.layer = "self"
        recording.add(own)
        made = chunk(start, stop, None, recording, keys=70, kind="cross")
        recording.add(made)
    cross = recording["a"]
    assert (len(recording.passes), cross.shape) == (1, (2, 3, 71, 70))
    expected = dense_overview(all_weights(cross), "mean", 2)
    np.testing.assert_allclose(cross.statistics["overview_mean"], expected, rtol=1e-11)


def test_bins_that_do_not_fit_together_are_dropped():
    for change in (
        lambda first, then: setattr(then, "bin_width", None),
        lambda first, then: setattr(first, "bin_width", None),
        lambda first, then: setattr(first, "bin_width", 4),
        lambda first, then: then.statistics.pop("overview_max"),
        lambda first, then: then.statistics.update(
            {name: x[:, :, 1:] for name, x in then.statistics.items()}
        ),
    ):
        recording = Recording()
        first = chunk(0, 70, Causal("end"), recording)
        recording.add(first)
        then = chunk(70, LONG, Causal("end"), recording)
        change(first, then)
        recording.add(then)
        assert not set(MAPS.values()) & {*recording["a"].statistics, *recording["a"].axes}


def test_a_loaded_recording_goes_on_joining(tmp_path):
    recording = Recording()
    recording.add(chunk(0, 67, Causal("end"), recording))
    recording.save(tmp_path / "a")
    loaded = load_recording(tmp_path / "a")
    loaded.add(chunk(67, LONG, Causal("end"), loaded))
    loaded.save(tmp_path / "a")
    grown = load_recording(tmp_path / "a")["a"]
    assert grown.bin_width == 2
    weights = all_weights(grown)
    for pool, name in MAPS.items():
        expected = dense_overview(weights, pool, 2)
        np.testing.assert_allclose(grown.statistics[name], expected, rtol=1e-11, atol=1e-15)


# What a capture folds.


@pytest.mark.parametrize("chunks", [(1000,), (37, 64, 899), (999, 1), (500, 3, 1, 496)])
def test_a_capture_in_chunks_has_the_overview_of_one_pass(chunks, monkeypatch):
    monkeypatch.setattr(pyramid, "FINEST", 8)
    model = llama().model
    ids = torch.randint(1, VOCABULARY, (1, 1000), generator=torch.Generator().manual_seed(3))
    with torch.no_grad(), capture(model) as whole:
        model(ids)
    cache = None
    with torch.no_grad(), capture(model) as recording:
        for part in torch.split(ids, list(chunks), dim=1):
            cache = model(part, past_key_values=cache, use_cache=True).past_key_values
    for mine, theirs in zip(recording, whole, strict=True):
        assert mine.bin_width == theirs.bin_width == 8
        for name in MAPS.values():
            np.testing.assert_allclose(
                mine.statistics[name], theirs.statistics[name], rtol=2e-4, atol=1e-6
            )
        dense = dense_tile(mine.weights(1), 0, 0, 3, 10**6, "mean")
        np.testing.assert_allclose(mine.statistics["overview_mean"][0, 1], dense, rtol=1e-5)


def test_statistics_that_are_named_keep_their_meaning():
    family = gpt2()
    with capture(family.model, statistics=[Overview(5)]) as recording:
        family.model(**family.inputs)
    assert recording[0].bin_width is None
    assert recording[0].statistics["overview_mean"].shape == (2, 5, 5, 5)


def test_statistics_alone_serve_the_zooms_of_their_overview_and_refuse_others():
    made, weights = record("causal, end")
    with_overview(made, weights, 4)
    made.query = made.key = None
    made.bin_width = 4
    expected = dense_tile(weights[0, 1], 4, 8, 2, 2, "max")
    np.testing.assert_allclose(made.tile(1, 4, 8, 2, 2, "max"), expected, rtol=1e-12)
    for asked in ({"zoom": 1}, {"zoom": 2, "row0": 2}, {"zoom": 0}):
        with pytest.raises(InputError, match=r"serves tiles from zoom 2 on, whose row0 and col0"):
            made.tile(**{"head": 1, "row0": 0, "col0": 0, **asked})
    with pytest.raises(InputError, match=r'record with keep="qk"'):
        made.weights(1)
