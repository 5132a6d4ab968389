"""Recordings: layers in order, cached decoding as one record, passes, tokens and comparison."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atento import InputError, ShapeError, capture, load_recording
from atento.masks import Causal, Explicit, KeyPadding, Rule, Window
from atento.masks.band import Band
from atento.reading.growth import StackedMask
from atento.reading.recording import Recording
from reading_models import gpt2
from reading_records import HKV, TK, TQ, B, D, H, dense_tile, normal, record, record_of

T = 7
STEPS = ((0, 3), (3, 4), (4, 6), (6, 7))


def layers(names, **changes):
    return [record("causal, end", layer=name, **changes)[0] for name in names]


def test_layers_come_in_the_order_they_ran_by_number_and_by_name():
    recording = Recording()
    for made in layers(["b", "a", "c"]):
        recording.add(made)
    assert len(recording) == 3
    assert [layer.layer for layer in recording] == recording.names == ["b", "a", "c"]
    assert recording[1] is recording["a"] is recording[-2]
    assert "c" in recording
    assert "d" not in recording
    assert repr(recording) == "Recording(3 layers)"
    assert repr(recording[0]).startswith("LayerRecord('b', self, batch=2, head=6, query=11, key=13")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (3, r"there is no layer 3\. There are 3: 0: b, 1: a, 2: c\."),
        (-4, r"there is no layer -4"),
        ("d", r"there is no layer 'd'\. There are 3: 0: b, 1: a, 2: c\."),
        (1.0, r"by its number or its name; got 1\.0"),
        (True, r"by its number or its name; got True"),
    ],
)
def test_a_layer_that_is_not_there_is_refused_with_those_that_are(asked, message):
    with pytest.raises(InputError, match=message):
        Recording(layers(["b", "a", "c"]))[asked]


def test_a_recording_is_read_without_torch():
    code = (
        "import sys, atento.reading.saving, atento.reading.roles; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_an_empty_recording_says_so():
    recording = Recording((), None, [("x", "why")])
    assert len(recording) == 0
    assert list(recording) == recording.passes == recording.tokens == []
    assert recording.token_ids is None
    assert recording.skipped == [("x", "why")]
    with pytest.raises(InputError, match="Nothing was recorded yet"):
        recording[0]


def test_an_added_record_that_does_not_fit_together_is_refused():
    made, _ = record()
    made.lse = made.lse[..., 1:]
    with pytest.raises(ShapeError, match="query must be"):
        Recording().add(made)


# Cached decoding: calls of some rows each, over the keys so far.

QUERY, KEY = normal(B, H, T, D), normal(B, HKV, T, D)
_i, _j = np.indices((T, T))
_keep = np.array([[False, False, True, True, True, True, True], [True] * 7])
_holes = (_i * 3 + _j) % 4 != 1
_bias = normal(1, H, T, T)


def causal(start, stop):
    return Causal("end")


def first_alone(start, stop):
    """As models pass it: no mask at all where one query sees every key so far."""
    return None if stop - start == 1 else Causal("end")


def padded(start, stop):
    return Causal("end") & KeyPadding(_keep[:, :stop])


def window(start, stop):
    return Window(2, 0, "end")


def holes(start, stop):
    return Rule(lambda b, h, q, k: ((q + start) * 3 + k) % 4 != 1) & Causal("end")


def array(start, stop):
    return Explicit(
        np.broadcast_to((_holes & (_j <= _i))[start:stop, :stop], (H, stop - start, stop))
    )


RULES = {
    "causal": (causal, _j <= _i),
    "one query sees all": (first_alone, _j <= _i),
    "padded": (padded, (_j <= _i) & _keep[:, None, None, :]),
    "window": (window, (_j <= _i) & (_j >= _i - 2)),
    "rule with holes": (holes, _holes & (_j <= _i)),
    "array": (array, _holes & (_j <= _i)),
}


def steps(rule, visible, bias=None, layer="a", **changes):
    """The calls of cached decoding, each with its own oracle."""
    visible = np.broadcast_to(visible, (B, H, T, T))
    for start, stop in STEPS:
        own = {} if bias is None else {"bias": bias[..., start:stop, :stop]}
        yield record_of(
            QUERY[:, :, start:stop],
            KEY[:, :, :stop],
            visible[:, :, start:stop, :stop],
            rule(start, stop),
            layer=layer,
            theirs=own,
            first_query=start,
            **own,
            **changes,
        )[0]


@pytest.mark.parametrize("name", RULES)
def test_steps_of_cached_decoding_become_the_record_of_one_full_pass(name):
    rule, visible = RULES[name]
    recording = Recording()
    for made in steps(rule, visible):
        recording.add(made)
    whole, weights = record_of(QUERY, KEY, visible, rule(0, T), layer="a")
    grown = recording["a"]
    assert len(recording) == len(recording.passes) == 1
    assert grown.shape == (B, H, T, T)
    np.testing.assert_array_equal(grown.query, QUERY)
    np.testing.assert_array_equal(grown.key, KEY)
    np.testing.assert_allclose(grown.lse, whole.lse, rtol=1e-12)
    assert set(grown.statistics) == set(whole.statistics)
    for statistic, values in whole.statistics.items():
        np.testing.assert_allclose(
            grown.statistics[statistic], values, rtol=1e-12, atol=1e-12, err_msg=statistic
        )
    for batch in range(B):
        for head in range(H):
            mine = grown.weights(head, batch=batch)
            np.testing.assert_allclose(mine, weights[batch, head], rtol=1e-12, atol=1e-12)


def test_masks_that_are_one_rule_stay_one_rule_however_many_steps_there_are():
    for name, kind in (("causal", Band), ("one query sees all", Band), ("window", Band)):
        recording = Recording()
        for made in steps(*RULES[name]):
            recording.add(made)
        assert isinstance(recording["a"].mask, kind), name
    recording = Recording()
    for made in steps(*RULES["padded"]):
        recording.add(made)
    assert repr(recording["a"].mask) == "(Causal() & Explicit(shape=(2, 1, 1, 7)))"


def test_keys_that_only_later_queries_hide_stay_seen_by_earlier_ones():
    hidden = np.array([True, False, True, True])
    visible = (_j <= _i)[:4, :4] & (hidden | (_i[:4, :4] < 3))
    recording = Recording()
    for start, stop, rule in ((0, 3, Causal("end")), (3, 4, KeyPadding(hidden))):
        own = visible[start:stop, :stop]
        query = QUERY[:, :, start:stop]
        recording.add(record_of(query, KEY[:, :, :stop], own, rule, first_query=start)[0])
    _, weights = record_of(QUERY[:, :, :4], KEY[:, :, :4], visible, None)
    assert (weights[0, 1, 1:3, 1] > 0).all()
    np.testing.assert_allclose(recording[0].weights(1), weights[0, 1], rtol=1e-12, atol=1e-12)


@given(
    name=st.sampled_from(sorted(RULES)),
    rows=st.tuples(st.integers(0, T), st.integers(0, T)),
    cols=st.tuples(st.integers(0, T), st.integers(0, T)),
)
def test_a_stacked_mask_answers_for_any_block_as_the_pairs_do(name, rows, cols):
    rule, visible = RULES[name]
    visible = np.broadcast_to(visible, (B, H, T, T))
    stacked = StackedMask(
        (start, stop - start, stop, rule(start, stop).bind((B, H, stop - start, stop)))
        for start, stop in STEPS
        if rule(start, stop) is not None
    )
    if name == "one query sees all":
        return
    rows, cols = range(min(rows), max(rows)), range(min(cols), max(cols))
    block = visible[:, :, rows.start : rows.stop, cols.start : cols.stop]
    for one, own in ((stacked, block), (stacked.at((1, 2)), block[1, 2])):
        tile, covered = one.block(rows, cols), one.coverage(rows, cols)
        tile = tile.value if not isinstance(tile, np.ndarray) else tile
        assert np.array_equal(np.broadcast_to(tile, own.shape), own)
        if covered is not None:
            assert (own == covered.value).all()


def test_a_bias_of_every_step_is_kept():
    recording = Recording()
    for made in steps(causal, _j <= _i, bias=_bias):
        recording.add(made)
    _, weights = record_of(QUERY, KEY, _j <= _i, Causal(), theirs={"bias": _bias})
    mine = recording["a"].weights(4, (1, 7), batch=1)
    np.testing.assert_allclose(mine, weights[1, 4, 1:], rtol=1e-12, atol=1e-12)


def test_generated_rows_do_not_copy_all_earlier_ones():
    recording = Recording()
    calls = list(steps(causal, _j <= _i))
    recording.add(calls[0])
    recording.add(calls[1])
    before = recording["a"].query
    recording.add(calls[2])
    assert np.shares_memory(before, recording["a"].query)


def test_an_overview_of_a_part_is_dropped_when_rows_are_appended():
    recording = Recording()
    for made in steps(causal, _j <= _i):
        made.statistics["overview_mean"] = np.zeros((B, H, 2, 2))
        made.axes["overview_mean"] = ("head", "row bin", "column bin")
        recording.add(made)
    assert "overview_mean" not in recording["a"].statistics
    assert "overview_mean" not in recording["a"].axes


def test_cross_attention_of_cached_decoding_goes_on_with_its_own_layers():
    recording, cross_key = Recording(), normal(B, HKV, 5, D)
    for made, (start, stop) in zip(steps(causal, _j <= _i, side="decoder"), STEPS, strict=True):
        recording.add(made)
        cross, _ = record_of(
            QUERY[:, :, start:stop], cross_key, None, None, layer="cross", kind="cross",
            side="decoder",
        )  # fmt: skip
        recording.add(cross)
    whole, weights = record_of(QUERY, cross_key, None, None)
    assert len(recording.passes) == 1
    assert recording["cross"].shape == (B, H, T, 5)
    np.testing.assert_allclose(recording["cross"].weights(5), weights[0, 5], rtol=1e-12)
    received = recording["cross"].statistics["received"]
    np.testing.assert_allclose(received, whole.statistics["received"], rtol=1e-12)


def test_calls_that_start_anew_are_further_passes():
    recording = Recording()
    for number in range(3):
        for made in layers(["a", "b"]):
            made.lse = made.lse + number
            recording.add(made)
    assert len(recording) == 2
    assert [part.names for part in recording.passes] == [["a", "b"]] * 3
    assert recording["b"] is recording.passes[0]["b"]
    assert recording.passes[2]["b"].lse[0, 0, 0] == recording["b"].lse[0, 0, 0] + 2
    assert repr(recording) == "Recording(2 layers, 3 passes)"


def test_rows_after_other_keys_are_a_further_pass():
    calls = list(steps(causal, _j <= _i))
    calls[1].key = calls[1].key[::-1].copy()  # a beam search that reordered its batch
    recording = Recording()
    recording.add(calls[0])
    recording.add(calls[1])
    assert [part["a"].queries for part in recording.passes] == [3, 1]


def test_token_ids_of_steps_are_appended_and_of_passes_kept_apart():
    recording = Recording(layers(["a", "a"]))
    recording.add_token_ids([5, 6, 7])
    recording.add_token_ids([[8]], first=3)
    recording.add_token_ids([1, 2])
    np.testing.assert_array_equal(recording.token_ids, [[5, 6, 7, 8]])
    assert [part.tokens for part in recording.passes] == [["5", "6", "7", "8"], ["1", "2"]]


class Tokenizer:
    def convert_ids_to_tokens(self, ids):
        return [f"<{i}>" for i in ids]


class OneByOne:
    def id_to_token(self, i):
        return None if i == 9 else f"({i})"


class Decoder:
    def decode(self, ids):
        return f"[{ids[0]}]"


def test_tokens_are_their_ids_until_they_are_named():
    recording = Recording(layers(["a"]), token_ids=[3, 9])
    assert recording.tokens == ["3", "9"]
    recording.name_tokens(["three", "nine"])
    assert recording.tokens == ["three", "nine"]
    for tokenizer, expected in (
        (Tokenizer(), ["<3>", "<9>"]),
        (OneByOne(), ["(3)", "9"]),
        (Decoder(), ["[3]", "[9]"]),
    ):
        recording.name_tokens(tokenizer)
        assert recording.tokens == expected
    batch = Recording(layers(["a"]), token_ids=[[3, 9], [4, 4]], tokens=Tokenizer())
    assert batch.tokens == [["<3>", "<9>"], ["<4>", "<4>"]]


def test_tokens_that_do_not_fit_are_refused():
    recording = Recording(layers(["a"]), token_ids=[3, 9])
    with pytest.raises(ShapeError, match=r"3 texts for 2 tokens"):
        recording.name_tokens(["a", "b", "c"])
    with pytest.raises(ShapeError, match=r"3 lists of texts for 1 batch items"):
        recording.name_tokens([["a", "b"]] * 3)
    with pytest.raises(InputError, match=r"text must be a str"):
        recording.name_tokens(["a", 3])
    with pytest.raises(InputError, match=r"takes a list of texts or a tokenizer .* got str"):
        recording.name_tokens("ab")
    with pytest.raises(InputError, match=r"no token ids that the tokenizer could name"):
        Recording(layers(["a"])).name_tokens(Tokenizer())
    with pytest.raises(ShapeError, match=rf"2 texts for {TQ} tokens"):
        Recording(layers(["a"])).name_tokens(["a", "b"])
    with pytest.raises(InputError, match=r"token_ids must be whole numbers; got float64"):
        recording.token_ids = [0.5]
    with pytest.raises(ShapeError, match=r"token_ids must be \(batch, token\)"):
        recording.token_ids = [[[1]]]


def test_a_comparison_gives_the_largest_difference_and_where_it_is():
    first, second = (Recording(layers(["a", "b"])) for _ in range(2))
    second["b"].statistics["entropy"][1, 4, 8] += 2.5
    second["b"].statistics["max_key"][0, 2, 7] += 3
    second["a"].statistics["received"][0, 3, 12] -= 0.5
    second["a"].lse[1, 5, 10] += 0.25
    rows = {(row["layer"], row["head"], row["statistic"]): row for row in first.compare(second)}
    assert len(rows) == 2 * H * (1 + len(first["a"].statistics))
    found = {
        ("b", 4, "entropy"): (2.5, 2.5 / (B * TQ), (1, 8)),
        ("b", 2, "max_key"): (1.0, 1.0 / (B * TQ), (0, 7)),
        ("a", 3, "received"): (0.5, 0.5 / (B * TK), (0, 12)),
        ("a", 5, "lse"): (0.25, 0.25 / (B * TQ), (1, 10)),
    }
    for key, row in rows.items():
        largest, mean, where = found.get(key, (0.0, 0.0, None))
        assert row["max"] == pytest.approx(largest, rel=1e-12)
        assert row["mean"] == pytest.approx(mean, rel=1e-12)
        assert where is None or row["where"] == where


def test_a_comparison_computes_the_difference_of_weights_when_asked():
    first, second = (Recording(layers(["a"])) for _ in range(2))
    second["a"].query[1, 2, 4] *= 2
    difference = first.compare(second).weights("a", 2, (3, 6), batch=1)
    expected = first["a"].weights(2, (3, 6), batch=1) - second["a"].weights(2, (3, 6), batch=1)
    np.testing.assert_array_equal(difference, expected)
    assert difference[1].any()
    assert not difference[[0, 2]].any()


def test_a_comparison_is_of_all_passes():
    first, second = (Recording(layers(["a", "b", "a", "b"])) for _ in range(2))
    second.records[3].statistics["entropy"][1, 4, 8] += 2.5
    changed = [row for row in first.compare(second) if row["max"]]
    assert [(row["pass"], row["layer"], row["head"]) for row in changed] == [(1, "b", 4)]
    with pytest.raises(InputError, match=r"2 times here and 1 times there\. Compare recording\.pa"):
        first.compare(Recording(layers(["a", "b"])))
    third = Recording(layers(["a", "b", "b", "a"]))
    with pytest.raises(InputError, match=r"in one order"):
        first.compare(third)


# Heads that keep the numbers that they have in the model.


def some_heads(numbers, **changes):
    """A record of some heads, and all weights."""
    made, weights = record("causal, end", **changes)
    own = [number % H for number in numbers]
    made.query, made.lse = made.query[:, own], made.lse[:, own]
    made.key = made.key[:, [head // (H // HKV) for head in own]]
    made.statistics = {name: array[:, own] for name, array in made.statistics.items()}
    made.head_numbers = numbers
    made.check()
    return made, weights


def test_heads_are_asked_for_by_the_numbers_that_they_have_in_the_model():
    made, weights = some_heads((5, 1, 3))
    assert (made.heads, made.head_numbers) == (3, (5, 1, 3))
    for asked, head in ((5, 5), (1, 1), (3, 3), (-1, 3), (-2, 1), (-3, 5), (np.int64(3), 3)):
        np.testing.assert_allclose(made.weights(asked), weights[0, head], rtol=1e-12, atol=1e-12)
        tile = made.tile(asked, 0, 0, 2)
        np.testing.assert_allclose(tile, dense_tile(weights[0, head], 0, 0, 2, 256, "mean"))
    for asked in (0, 2, 4, 6, -4):
        message = rf"there are heads 5, 1 and 3 in layer 'layers.0.attn'; got head {asked}\."
        with pytest.raises(InputError, match=message):
            made.weights(asked)
    for asked in (True, 1.5, "a"):
        with pytest.raises(InputError, match=r"head must be a whole number"):
            made.weights(asked)
    one, _ = some_heads((4,))
    with pytest.raises(InputError, match=r"there is head 4 in layer .*; got head 0\."):
        one.tile(0, 0, 0, 0)


def test_rows_and_differences_name_heads_by_their_numbers(tmp_path):
    first, second = (Recording([some_heads((5, 1, 3))[0]]) for _ in range(2))
    assert [row["head"] for row in first.summary()] == [5, 1, 3]
    assert [row["head"] for row in first.to_dict()["heads"]] == [5, 1, 3]
    second[0].lse[1, 2] += 1
    assert [row["head"] for row in first.compare(second) if row["max"]] == [3]
    second.save(tmp_path / "a")
    assert load_recording(tmp_path / "a")[0].head_numbers == (5, 1, 3)
    with pytest.raises(InputError, match=r"has the heads \(5, 1, 3\) here and \(5, 1, 2\) there"):
        first.compare(Recording([some_heads((5, 1, 2))[0]]))


def test_a_call_of_other_heads_does_not_continue_a_record():
    recording = Recording([some_heads((5, 1))[0]])
    recording.add(some_heads((5, 2), first_query=TQ)[0])
    assert len(recording.passes) == 2


@pytest.mark.parametrize("numbers", [(1, 2), (1, 2, 2), (1, 2, 3, 4)])
def test_head_numbers_that_do_not_fit_are_refused(numbers):
    made, _ = some_heads((5, 1, 3))
    made.head_numbers = numbers
    with pytest.raises(ShapeError, match=r"head_numbers must be 3 different numbers"):
        made.check()


def test_a_capture_of_some_heads_keeps_their_numbers():
    family = gpt2()
    with capture(family.model) as whole:
        family.model(**family.inputs)
    with capture(family.model, heads=[3, 1]) as recording:
        family.model(**family.inputs)
    for mine, theirs in zip(recording, whole, strict=True):
        assert mine.head_numbers == (3, 1)
        for head in (3, 1):
            np.testing.assert_allclose(mine.weights(head), theirs.weights(head), rtol=1e-5)
    with (
        pytest.raises(InputError, match=r"heads names a head twice; got \[3, 3\]"),
        capture(family.model, heads=[3, 3]),
    ):
        pass


def test_rows_that_see_no_key_do_not_differ():
    first, second = (Recording([record("nobody")[0]]) for _ in range(2))
    assert all(row["max"] == 0 for row in first.compare(second))


def test_recordings_that_cannot_be_compared_are_refused():
    recording = Recording(layers(["a", "b"]))
    with pytest.raises(InputError, match=r"Only here: b\. Only there: c\."):
        recording.compare(Recording(layers(["a", "c"])))
    with pytest.raises(InputError, match=r"in one order"):
        recording.compare(Recording(layers(["b", "a"])))
    with pytest.raises(InputError, match=r"another Recording; got list"):
        recording.compare([])
    shorter, _ = record_of(QUERY, KEY, None, None, layer="a")
    with pytest.raises(ShapeError, match=r"layer 'a' has weights .* \(2, 6, 11, 13\) here and"):
        Recording(layers(["a"])).compare(Recording([shorter]))
