"""Beam search within a capture: sequences change places, and their tokens go with their rows."""

import numpy as np
import pytest
import torch

from atento.masks import Causal
from atento.reading.capturing import capture
from atento.reading.key_prints import came_from, latest_prints, prints_of, same_prints
from atento.reading.layer import LayerRecord
from atento.reading.recording import Recording
from reading_models import FAMILIES, gpt2, ids, llama, mistral

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers")

BEAMS, NEW = 3, 5
STATISTICS = ["entropy", "duplicate", "received"]


def generated(family, **options):
    """The recording of a beam search, and all hypotheses that it returned."""
    with capture(family.model, **options) as recording:
        made = family.model.generate(
            family.inputs["input_ids"],
            num_beams=BEAMS,
            num_return_sequences=BEAMS,
            max_new_tokens=NEW,
            pad_token_id=0,
            eos_token_id=None,
            do_sample=False,
        )
    return recording, made


def weights_of(layer):
    return np.array(
        [[layer.weights(h, batch=b) for h in range(layer.heads)] for b in range(layer.batch)]
    )


@pytest.mark.parametrize("make", [gpt2, llama, mistral, FAMILIES["bloom"]])
def test_each_pass_names_the_tokens_that_its_rows_saw(make):
    family = make()
    recording, made = generated(family, statistics=())
    passes = recording.passes
    assert len(passes) > 1  # beams changed places
    for run in passes:
        assert run.token_ids.shape == (2 * BEAMS, run[0].keys)
        with torch.no_grad(), capture(family.model, statistics=()) as alone:
            family.model(input_ids=torch.tensor(run.token_ids))
        for layer in run:
            expected = weights_of(alone[layer.layer])[:, :, layer.first_query :]
            np.testing.assert_allclose(weights_of(layer), expected, rtol=0, atol=1e-5)
    # The last token of a hypothesis is not asked about; the others came from some beam.
    last = [list(row) for row in passes[-1].token_ids]
    for hypothesis in made[:, :-1].tolist():
        assert hypothesis in last


@pytest.mark.parametrize("make", [gpt2, llama, mistral])
def test_statistics_alone_see_that_beams_changed_places(make):
    kept, _ = generated(make(), statistics=STATISTICS)
    alone, _ = generated(make(), statistics=STATISTICS, keep="statistics")
    assert len(alone.passes) == len(kept.passes) > 1
    for mine, other in zip(alone.records, kept.records, strict=True):
        assert mine.query is None
        assert mine.shape == other.shape
        for name, values in other.statistics.items():
            np.testing.assert_array_equal(mine.statistics[name], values)
    for mine, other in zip(alone.passes, kept.passes, strict=True):
        np.testing.assert_array_equal(mine.token_ids, other.token_ids)


def test_steps_of_one_sequence_are_one_record_where_statistics_are_kept_alone():
    family = mistral()  # its cache lets go of keys
    with capture(family.model, keep="statistics", statistics=["entropy"]) as recording:
        family.model.generate(
            family.inputs["input_ids"], max_new_tokens=NEW, pad_token_id=0, eos_token_id=None
        )
    assert len(recording.passes) == 1
    assert recording[0].queries == 13 + NEW - 1


def test_a_cache_that_a_user_reorders():
    family, text = llama(), ids(batch=2, length=9)
    with torch.no_grad(), capture(family.model, statistics=["duplicate"]) as recording:
        cache = family.model(input_ids=text[:, :6], use_cache=True).past_key_values
        cache.reorder_cache(torch.tensor([1, 0]))
        family.model(input_ids=text[:, 6:], past_key_values=cache)
    first, second = recording.passes
    np.testing.assert_array_equal(first.token_ids, text[:, :6])
    swapped = torch.cat([text[[1, 0], :6], text[:, 6:]], dim=1)
    np.testing.assert_array_equal(second.token_ids, swapped)
    with torch.no_grad(), capture(family.model, statistics=["duplicate"]) as alone:
        family.model(input_ids=swapped)
    for layer in second:
        expected = alone[layer.layer].statistics["duplicate"][..., 6:]
        np.testing.assert_allclose(layer.statistics["duplicate"], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("steps", [(9,), (7, 8, 9)])
def test_a_capture_that_begins_amid_cached_text_knows_no_token_before(steps):
    family, text = llama(), ids(batch=2, length=9)
    text[:, 6:] = text[:, [0, 3, 6]]  # repeats of what nobody saw, and of one that was seen
    text[:, 8] = text[:, 6]
    with torch.no_grad():
        cache = family.model(input_ids=text[:, :6], use_cache=True).past_key_values
        with capture(family.model, statistics=["duplicate"]) as recording:
            for start, stop in zip((6, *steps), steps, strict=False):
                family.model(input_ids=text[:, start:stop], past_key_values=cache)
    assert len(recording.passes) == 1
    unknown = np.full((2, 6), -1)
    np.testing.assert_array_equal(recording.token_ids, np.hstack([unknown, text[:, 6:]]))
    assert recording.tokens[0] == ["…"] * 6 + [str(i) for i in text[0, 6:].tolist()]
    for layer in recording:
        found, weights = layer.statistics["duplicate"], weights_of(layer)
        np.testing.assert_allclose(found[..., :2], 0)
        np.testing.assert_allclose(found[..., 2], weights[:, :, 2, 6], rtol=0, atol=1e-6)


def test_a_tokenizer_is_not_asked_for_tokens_that_nobody_saw():
    class Tokenizer:
        def convert_ids_to_tokens(self, ids):
            assert min(ids) >= 0
            return [f"t{i}" for i in ids]

    recording = Recording(token_ids=[[-1, 5, -1, 7]])
    recording.name_tokens(Tokenizer())
    assert recording.tokens == ["…", "t5", "…", "t7"]


PRINTS = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [([0, 1, 2], None), ([1, 0, 2], [1, 0, 2]), ([2, 2, 2], [2, 2, 2]), ([0, 0, 1], [0, 0, 1])],
)
def test_where_items_came_from(chosen, expected):
    further = np.array([[10.0], [11.0], [12.0]])
    assert came_from(PRINTS, np.hstack([PRINTS[chosen], further])) == expected
    assert came_from(PRINTS, np.hstack([PRINTS[chosen] * 1.01, further])) == expected  # rounded


def test_of_equal_items_each_stays_in_its_place():
    equal = PRINTS[[0, 0, 0]]
    assert came_from(equal, equal) is None


def test_only_items_that_may_be_the_same_are_chosen():
    equal, others = PRINTS[[0, 0, 0]], ~np.eye(3, dtype=bool)
    assert came_from(equal, equal, others) == [1, 0, 0]
    assert came_from(PRINTS, PRINTS, np.eye(3, dtype=bool)) is None


def test_keys_that_a_cache_has_let_go_say_nothing():
    gone = PRINTS.copy()
    gone[:, :2] = 0
    assert came_from(PRINTS, gone) is None
    assert came_from(PRINTS, gone[[0, 2, 1]]) == [0, 2, 1]
    assert same_prints(PRINTS, gone)
    assert not same_prints(PRINTS, gone[[1, 0, 2]])
    longer = np.hstack([gone, np.full((3, 1), 5.0)])
    np.testing.assert_array_equal(latest_prints(PRINTS, longer), [[*row, 5.0] for row in PRINTS])


def test_prints_are_numbers_of_the_keys_themselves():
    key = torch.arange(2 * 3 * 5 * 7, dtype=torch.bfloat16).reshape(2, 3, 5, 7)
    np.testing.assert_array_equal(prints_of(key), key[:, 0, :, 0].double().numpy())


def step(prints, first):
    """A record of one layer's statistics, of the queries from the first on."""
    lse = np.zeros((len(prints), 2, prints.shape[1] - first), np.float32)
    made = LayerRecord(
        "layer", "self", None, "sdpa", None, None, lse, Causal("end"), 1.0, first_query=first
    )
    made.key_length, made.key_prints = prints.shape[1], prints
    return made


def test_a_step_continues_a_record_of_statistics_where_the_prints_do():
    recording = Recording()
    recording.add(step(PRINTS[:, :2], 0))
    recording.add(step(PRINTS, 2))
    assert len(recording.passes) == 1
    recording.add(step(np.hstack([PRINTS[[1, 0, 2]], PRINTS[:, :1]]), 3))
    assert [run[0].queries for run in recording.passes] == [3, 1]
