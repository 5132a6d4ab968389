"""`recording.effect`: the same numbers as two runs by hand, and words where there are none."""

import copy
import gc
import pickle

import numpy as np
import pytest
import torch
import transformers
from torch import nn

import atento
from atento import Boost, KnockOut, KnockOutEdges, Temperature, capture
from atento._errors import EngineError, InputError
from reading_models import FAMILIES, VOCABULARY, Kernel, bert, gpt2, ids, llama, made, t5

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers")


def recorded(model, *args, **inputs):
    with torch.no_grad(), capture(model, statistics=()) as recording:
        model(*args, **inputs)
    return recording


def run(model, changes=(), **inputs):
    with torch.no_grad(), capture(model, statistics=(), interventions=changes):
        return model(**inputs)


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "gpt_oss", "t5", "bloom", "falcon"])
def test_logit_and_log_probability_are_those_of_two_runs(name):
    family = FAMILIES[name]()
    changes = [KnockOut(family.layers[-1], [0, 2]), Temperature(1, temperature=0.3)]
    recording = recorded(family.model, **family.inputs)
    effect = recording.effect(changes, token=17, position=3, batch=1)
    for found, logits in (
        (effect.before, family.model(**family.inputs).logits),
        (effect.after, run(family.model, changes, **family.inputs).logits),
    ):
        row = logits[1, 3].detach().double()
        np.testing.assert_allclose(found.logit, row[17], rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(found.log_probability, row.log_softmax(-1)[17], rtol=1e-6)
    assert effect.change.logit == effect.after.logit - effect.before.logit
    assert effect.number == effect.after.log_probability - effect.before.log_probability
    assert effect.number != 0
    assert effect.token == 17


def test_without_a_token_it_is_the_one_that_the_model_predicts():
    family = gpt2()
    effect = recorded(family.model, **family.inputs).effect(KnockOut(0))
    logits = family.model(**family.inputs).logits[0, -1]
    assert effect.token == int(logits.argmax())
    assert effect.position == -1
    assert "KnockOut(layer=0, by='zero')" in repr(effect)
    assert f"token {effect.token}, logit" in repr(effect)
    assert effect.to_dict()["change"] == effect.change._asdict()


def test_an_intervention_that_changes_nothing_has_no_effect():
    family = gpt2()
    effect = recorded(family.model, **family.inputs).effect([], token=3)
    assert effect.change == (0, 0)


def test_models_without_logits_change_by_a_relative_distance():
    family = bert()
    recording = recorded(family.model, **family.inputs)
    effect = recording.effect(KnockOut(1, 2), batch=1)
    before = family.model(**family.inputs).last_hidden_state[1].detach().double()
    after = run(family.model, KnockOut(1, 2), **family.inputs).last_hidden_state[1].double()
    np.testing.assert_allclose(effect.before, before, rtol=0, atol=1e-6)
    expected = (after - before).norm() / before.norm()
    np.testing.assert_allclose(effect.change, expected, rtol=1e-5)
    assert effect.token is None
    with pytest.raises(InputError, match="has no logits of which a token"):
        recording.effect(KnockOut(0), token=3)


def test_a_function_says_what_to_look_at():
    family = bert()
    recording = recorded(family.model, **family.inputs)
    pooled = recording.effect(KnockOut(0), of=lambda out: out.pooler_output)
    assert pooled.before.shape == (2, 21)
    assert 0 < pooled.change < 2
    one = recording.effect(KnockOut(0), of=lambda out: out.last_hidden_state[0, 3].sum())
    assert one.change == one.after - one.before
    with pytest.raises(InputError, match="of= must return a tensor of numbers; it returned str"):
        recording.effect(KnockOut(0), of=lambda out: "large")


def test_classes_are_named_or_numbered():
    config = transformers.BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=21,
        num_attention_heads=3,
        num_hidden_layers=2,
        intermediate_size=31,
        num_labels=3,
        id2label={0: "good", 1: "bad", 2: "neither"},
        label2id={"good": 0, "bad": 1, "neither": 2},
    )
    model = made(transformers.BertForSequenceClassification, config)
    recording = recorded(model, input_ids=ids())
    effect = recording.effect(KnockOut(1), "bad", batch=1)
    assert effect.token == 1
    np.testing.assert_allclose(effect.before.logit, model(input_ids=ids()).logits[1, 1].item())
    assert effect.before.logit == recording.effect(KnockOut(1), token=1, batch=1).before.logit
    with pytest.raises(InputError, match="no class 'fair'; there are good, bad, neither"):
        recording.effect(KnockOut(1), "fair")


class Tokenizer:
    """Letters are tokens."""

    def encode(self, text, add_special_tokens=True):
        return [ord(letter) - 90 for letter in text]

    def convert_ids_to_tokens(self, numbers):
        return [chr(90 + i) for i in numbers]


def test_tokens_are_named_by_the_tokenizer():
    family = gpt2()
    recording = recorded(family.model, **family.inputs)
    with pytest.raises(InputError, match=r"no tokenizer is known.*name_tokens\(tokenizer\)"):
        recording.effect(KnockOut(0), "a")
    recording.name_tokens(Tokenizer())
    assert recording.effect(KnockOut(0), "a").token == 7
    with pytest.raises(InputError, match=r"'ab' is 2 tokens for the tokenizer, \[7, 8\]"):
        recording.effect(KnockOut(0), "ab")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"token": 101}, "no token 101: the model has logits of 101 tokens"),
        ({"token": -1}, "no token -1"),
        ({"token": 1.5}, "token must be an id or a text"),
        ({"position": 13}, "logits of 13 positions, the last of 13 tokens; got position 13"),
        ({"position": -14}, "got position -14"),
        ({"position": "last"}, "position must be a whole number"),
        ({"batch": 2}, "there are 2 batch items, 0 to 1; got batch 2"),
    ],
)
def test_what_is_not_there_is_refused(asked, message):
    family = gpt2()
    recording = recorded(family.model, **family.inputs)
    with pytest.raises(InputError, match=message):
        recording.effect(KnockOut(0), **asked)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (KnockOut("h.9.attn"), "no attention was seen in layer 'h.9.attn'. There was in 0: trans"),
        (KnockOut(5), "no attention was seen in layer 5"),
        (KnockOut(0, 9), r"never came: heads 9 \(there were 5\)"),
        (KnockOutEdges("transformer.h.1.attn", keys=13), r"keys 13 \(there were 13\)"),
        ("all", "interventions are KnockOut"),
    ],
)
def test_layers_heads_and_positions_that_are_not_there_are_refused(changes, message):
    family = gpt2()
    with pytest.raises(InputError, match=message):
        recorded(family.model, **family.inputs).effect(changes)


def test_of_decoders_the_position_is_counted_in_their_own_text():
    family = t5()
    recording = recorded(family.model, **family.inputs)
    assert recording.effect(KnockOut(0), position=6).position == -1
    with pytest.raises(InputError, match="logits of 7 positions"):
        recording.effect(KnockOut(0), position=7)


def test_logits_of_the_last_token_alone():
    family = llama()
    recording = recorded(family.model, **family.inputs, logits_to_keep=1)
    assert recording.effect(KnockOut(0), position=12).position == -1
    with pytest.raises(InputError, match="logits of 1 positions, the last of 13 tokens"):
        recording.effect(KnockOut(0), position=3)


def test_a_bare_tensor_is_logits_where_a_token_is_named():
    model = nn.Sequential(Kernel(), nn.Linear(15, 7))
    x = torch.randn(2, 11, 15)
    recording = recorded(model, x)
    effect = recording.effect(KnockOut(0, 1), token=3, position=4)
    np.testing.assert_allclose(effect.before.logit, model(x)[0, 4, 3].item(), rtol=1e-6)
    assert recording.effect(KnockOut(0, 1)).token is None


def test_nothing_is_recorded_also_within_a_capture():
    family = gpt2()
    with torch.no_grad(), capture(family.model, statistics=()) as recording:
        family.model(**family.inputs)
        effect = recording.effect(KnockOut(1, 3), token=5)
        assert len(recording.records) == 3
        with capture(family.model, statistics=(), interventions=KnockOut(0)):
            again = recording.effect(KnockOut(1, 3), token=5)
            family.model(**family.inputs)
    assert effect.change == again.change
    assert len(recording.records) == 6


class Noisy(nn.Module):
    """Draws random numbers in each run."""

    def __init__(self):
        super().__init__()
        self.attend = Kernel()

    def forward(self, x):
        return self.attend(x + torch.randn_like(x))


def test_both_runs_draw_the_same_random_numbers():
    model, x = Noisy(), torch.randn(2, 5, 15)
    recording = recorded(model, x)
    torch.manual_seed(4)
    before = torch.get_rng_state()
    assert recording.effect([]).change == 0
    assert torch.equal(torch.get_rng_state(), before)


def test_random_numbers_and_gradients_are_as_before():
    family = gpt2()
    recording = recorded(family.model, **family.inputs)
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    recording.effect(KnockOut(0))
    assert torch.equal(torch.rand(3), expected)
    assert all(p.grad is None for p in family.model.parameters())


@pytest.mark.parametrize("captured_in", [torch.bfloat16, None])
def test_runs_again_in_the_autocast_that_it_was_captured_in(captured_in):
    family = FAMILIES["gpt2"]()
    with torch.autocast("cpu", captured_in, enabled=captured_in is not None):
        recording = recorded(family.model, **family.inputs)
        logits = run(family.model, [KnockOut(0, 0)], **family.inputs).logits
    now = None if captured_in else torch.bfloat16  # the other way round
    with torch.autocast("cpu", now, enabled=now is not None):
        effect = recording.effect(KnockOut(0, 0), token=17, position=3)
    assert logits.dtype is (captured_in or torch.float32)
    assert effect.after.logit == pytest.approx(logits[0, 3, 17].item(), abs=1e-6)


def test_a_cache_that_was_empty_is_left_out():
    family = llama()
    cache = transformers.DynamicCache(config=family.model.config)
    recording = recorded(family.model, **family.inputs, past_key_values=cache, use_cache=True)
    effect = recording.effect(KnockOut(1, 3), token=5, position=-1)
    logits = family.model(**family.inputs).logits[0, -1]
    np.testing.assert_allclose(effect.before.logit, logits[5].item(), rtol=1e-6)
    assert cache.get_seq_length() == 13


def test_steps_of_generation_cannot_be_run_again():
    family = gpt2()
    with capture(family.model, statistics=()) as recording:
        family.model.generate(
            family.inputs["input_ids"], max_new_tokens=3, do_sample=False, pad_token_id=0
        )
    message = "goes on from a cache, token by token"
    with pytest.raises(InputError, match=message):
        recording.effect(KnockOut(0))
    with torch.no_grad():
        cache = family.model(**family.inputs).past_key_values
        with capture(family.model, statistics=()) as middle:
            family.model(input_ids=ids(length=1), past_key_values=cache)
    with pytest.raises(InputError, match=message):
        middle.effect(KnockOut(0))


def test_more_keys_than_queries_are_no_cache():
    class Prefixed(Kernel):
        def forward(self, x):
            made = nn.functional.scaled_dot_product_attention(x[:, :, 3:], x, x)
            return made.sum(1)

    model = Prefixed()
    recording = recorded(model, torch.randn(2, 3, 11, 5))
    assert recording[0].first_query == 3
    assert recording.effect(KnockOut(heads=1)).change > 0


def test_the_first_of_several_calls_is_run_again():
    family = bert()
    with torch.no_grad(), capture(family.model, statistics=()) as recording:
        family.model(input_ids=ids(length=5))
        family.model(input_ids=ids(length=7))
    assert recording.effect(KnockOut(0)).before.shape == (5, 21)


def test_recordings_that_know_no_model_say_so(tmp_path):
    family = gpt2()
    recording = recorded(family.model, **family.inputs)
    recording.save(tmp_path / "run.safetensors")
    for other in (
        atento.load_recording(tmp_path / "run.safetensors"),
        pickle.loads(pickle.dumps(recording)),  # noqa: S301 - our own
        copy.deepcopy(recording),
        atento.Recording(),
    ):
        with pytest.raises(InputError, match="knows no model that could be run again"):
            other.effect(KnockOut(0))
        with pytest.raises(InputError, match="knows no model that could be run again"):
            other.sweep()


def test_a_model_that_is_gone_is_not_kept_and_said_so():
    model = Kernel()
    recording = recorded(model, torch.randn(2, 5, 15))
    del model
    gc.collect()
    with pytest.raises(InputError, match="the model that was captured is gone"):
        recording.effect(KnockOut(0))


def test_inputs_that_were_written_to_are_noticed():
    family = gpt2()
    tokens = family.inputs["input_ids"].clone()
    recording = recorded(family.model, tokens)
    recording.effect(KnockOut(0))
    tokens[0, 3] = 5
    with pytest.raises(InputError, match="has been written to since"):
        recording.effect(KnockOut(0))


def test_dropout_is_refused_by_name():
    family = gpt2()
    family.model.train()
    recording = recorded(family.model, **family.inputs)
    with pytest.raises(InputError, match=r"transformer.drop drops at random.*model.eval"):
        recording.effect(KnockOut(0))
    family.model.eval()
    recording.effect(KnockOut(0))
    Kernel().train()
    model = Kernel().train()  # nothing to drop
    recorded(model, torch.randn(2, 5, 15)).effect(KnockOut(0))


def test_layers_that_cannot_be_changed_are_refused_by_name(monkeypatch):
    family = llama()
    interface = transformers.AttentionInterface
    sdpa = interface._global_mapping["sdpa"]
    recording = recorded(family.model, **family.inputs)
    monkeypatch.setitem(interface._global_mapping, "my_flash", sdpa)
    monkeypatch.setattr(family.model.config, "_attn_implementation_internal", "my_flash")
    with pytest.raises(EngineError, match=r"layers.1.self_attn: .*'my_flash' cannot be read"):
        recording.effect(KnockOut("model.layers.1.self_attn"))


def test_a_changed_recording_is_compared_with_the_model_as_it_is():
    family = gpt2()
    changed = capture(family.model, statistics=(), interventions=KnockOut(0))
    with torch.no_grad(), changed as recording:
        family.model(**family.inputs)
    effect = recording.effect(Boost(1, keys=0, factor=2.0), token=5)
    plain = family.model(**family.inputs).logits[0, -1, 5].item()
    np.testing.assert_allclose(effect.before.logit, plain, rtol=1e-6)
