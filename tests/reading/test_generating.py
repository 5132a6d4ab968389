"""`model.generate` within a capture: the same tokens, and every row is that of a full pass."""

import threading

import numpy as np
import pytest
import torch

from atento.masks import Causal
from atento.reading.capturing import capture
from atento.reading.layer import LayerRecord
from atento.reading.recording import Recording
from reading_models import FAMILIES, gpt2, ids, llama, mistral

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers")

NEW = 4
GREEDY = {"do_sample": False}


def generate(model, tokens, **options):
    torch.manual_seed(11)
    options = {"max_new_tokens": NEW, "pad_token_id": 0, "eos_token_id": None, **options}
    return model.generate(tokens, **options)


def generated(model, tokens, **options):
    """The recording, and the tokens, which are those of the model alone."""
    plain = generate(model, tokens, **options)
    with capture(model, statistics=()) as recording:
        seen = generate(model, tokens, **options)
    assert torch.equal(plain, seen)
    return recording, plain


def full_pass(model, tokens):
    """{layer: (batch, head, query, key)} of all tokens at once."""
    with torch.no_grad(), capture(model, statistics=()) as recording:
        model(input_ids=tokens)
    return {layer.layer: weights_of(layer) for layer in recording}


def weights_of(layer):
    return np.array(
        [[layer.weights(h, batch=b) for h in range(layer.heads)] for b in range(layer.batch)]
    )


def rows_of(recording, layer, keys):
    """All rows that the layer computed, in the order it did, on so many keys."""
    rows = [weights_of(record) for record in recording.records if record.layer == layer]
    for weights in rows:
        assert not weights[..., keys:].any()
    rows = [np.pad(w, [(0, 0)] * 3 + [(0, max(0, keys - w.shape[-1]))]) for w in rows]
    return np.concatenate([weights[..., :keys] for weights in rows], axis=2)


def eager_llama():
    return llama(attn_implementation="eager")


ONE_RECORDING = {
    "greedy": (gpt2, GREEDY),
    "sampled": (gpt2, {"do_sample": True}),
    "sampled from few": (llama, {"do_sample": True, "top_k": 5}),
    "sliding windows": (mistral, GREEDY),
    "windows and none in turn": (FAMILIES["gemma2"], GREEDY),
    "formula written out": (FAMILIES["bloom"], GREEDY),
    "static": (llama, {**GREEDY, "cache_implementation": "static"}),
    "static, windows": (mistral, {**GREEDY, "cache_implementation": "static"}),
    "static, formula written out": (eager_llama, {**GREEDY, "cache_implementation": "static"}),
}


@pytest.mark.parametrize("name", ONE_RECORDING)
def test_steps_of_cached_decoding_are_one_recording(name):
    make, options = ONE_RECORDING[name]
    family = make()
    recording, tokens = generated(family.model, family.inputs["input_ids"], **options)
    asked = tokens[:, :-1]  # the last token is not asked about
    assert recording.names == family.layers
    assert len(recording.passes) == 1
    np.testing.assert_array_equal(recording.token_ids, asked.numpy())
    for layer, expected in full_pass(family.model, asked).items():
        np.testing.assert_allclose(weights_of(recording[layer]), expected, rtol=0, atol=1e-5)


def test_padded_prompts():
    family = llama()
    tokens = family.inputs["input_ids"]
    keep = torch.ones_like(tokens)
    keep[1, :5] = 0
    recording, made = generated(family.model, tokens, attention_mask=keep, **GREEDY)
    assert recording[0].shape == (2, 6, 16, 16)
    alone, _ = generated(family.model, tokens[1:, 5:], **GREEDY)
    for layer in family.layers:
        both = weights_of(recording[layer])[1]
        assert not both[:, :, :5].any()
        np.testing.assert_allclose(both[:, 5:, 5:], weights_of(alone[layer])[0], rtol=0, atol=1e-5)
    del made


def test_without_a_cache_every_step_is_a_pass_of_its_own():
    family = llama()
    recording, tokens = generated(
        family.model, family.inputs["input_ids"], use_cache=False, **GREEDY
    )
    assert [run[0].shape for run in recording.passes] == [(2, 6, T, T) for T in range(13, 17)]
    for run in recording.passes:
        asked = tokens[:, : run[0].queries]
        np.testing.assert_array_equal(run.token_ids, asked.numpy())
        for layer, expected in full_pass(family.model, asked).items():
            np.testing.assert_allclose(weights_of(run[layer]), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("make", [gpt2, llama])
def test_beams_are_batch_items_and_none_of_their_rows_is_lost(make):
    family = make()
    recording, _ = generated(family.model, family.inputs["input_ids"], num_beams=3, **GREEDY)
    assert len(recording.passes) > 1  # beams changed places
    assert [run.names for run in recording.passes] == [family.layers] * len(recording.passes)
    for run in recording.passes:
        assert len({layer.shape for layer in run}) == 1
    for layer in family.layers:
        found = rows_of(recording, layer, 16)
        assert found.shape[::2] == (6, 16)
        np.testing.assert_allclose(found.sum(-1), 1, rtol=0, atol=1e-5)
    prompt = full_pass(family.model, family.inputs["input_ids"].repeat_interleave(3, 0))
    for layer, expected in prompt.items():
        found = rows_of(recording, layer, 16)[:, :, :13, :13]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def call_of(layer, key, first):
    """A record of all queries from the first on."""
    query = np.zeros((key.shape[0], 3, key.shape[2] - first, key.shape[3]), np.float32)
    return LayerRecord(
        layer=layer,
        kind="self",
        side=None,
        way="sdpa",
        query=query,
        key=key,
        lse=np.zeros(query.shape[:-1], np.float32),
        mask=Causal("end"),
        scale=1.0,
        first_query=first,
        key_length=key.shape[2],
    )


KEYS = np.random.default_rng(7).standard_normal((2, 3, 8, 5)).astype(np.float32)
BOTH = ["one", "two"]


@pytest.mark.parametrize(
    ("one", "two", "passes"),
    [
        (KEYS, KEYS, [["one", "two"]]),
        (KEYS, KEYS * np.float32(1 + 1e-6), [["one", "two"]]),  # rounding
        (KEYS[::-1], KEYS[::-1], [BOTH, BOTH]),  # beams changed places
        (KEYS[::-1], KEYS, [BOTH, BOTH]),  # and a layer does not show it
        (KEYS, KEYS[::-1], [BOTH, ["two"]]),  # this is no other place of the same stack
        (KEYS[:, :, [0, 2, 1, 3, 4, 5, 6, 7]], KEYS, [BOTH, BOTH]),  # amid the same ends
    ],
)
def test_layers_go_on_together_or_begin_anew_together(one, two, passes):
    recording = Recording()
    for layer in BOTH:
        recording.add(call_of(layer, KEYS[:, :, :7], 0))
    recording.add(call_of("one", one, 7))
    recording.add(call_of("two", two, 7))
    assert [run.names for run in recording.passes] == passes
    assert recording[0].queries == (8 if len(passes) == 1 or passes[1] == ["two"] else 7)


def assistant():
    """A model that is much like llama's, and guesses some tokens right."""
    model = llama().model
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("way", ["another model", "the prompt itself"])
def test_guessed_tokens_are_rows_too(way):
    family = llama()
    torch.manual_seed(5)
    options = (
        {"assistant_model": assistant()}
        if way == "another model"
        else {"prompt_lookup_num_tokens": 3}
    )
    tokens = family.inputs["input_ids"][:1]
    recording, made = generated(family.model, tokens, max_new_tokens=6, **GREEDY, **options)
    plain = generate(family.model, tokens, max_new_tokens=6, **GREEDY)
    assert torch.equal(made, plain)
    assert {layer.layer for layer in recording.records} == set(family.layers)
    for layer in recording.records:  # none of the assistant's
        np.testing.assert_allclose(weights_of(layer).sum(-1), 1, rtol=0, atol=1e-5)
    expected = full_pass(family.model, tokens)
    for name, prompt in expected.items():
        found = weights_of(recording[name])[:, :, :13, :13]
        np.testing.assert_allclose(found, prompt, rtol=0, atol=1e-5)
    passes = recording.passes
    assert len(passes) > 1  # guesses were taken back
    for run in passes:  # each says all tokens that its rows could see
        assert run.names == family.layers
        assert run.token_ids.shape == (1, run[0].keys)
        for name, weights in full_pass(family.model, torch.tensor(run.token_ids)).items():
            first = run[name].first_query
            expected = weights[:, :, first:]
            np.testing.assert_allclose(weights_of(run[name]), expected, rtol=0, atol=1e-5)
    last = passes[-1].token_ids[0]
    agreed = min(len(last), made.shape[1])
    np.testing.assert_array_equal(last[: agreed - 3], made[0, : agreed - 3])


def test_threads_generate_with_one_model_each_its_own_recording():
    family = llama()
    prompts = [ids(batch=1, length=length) for length in (5, 7, 11)]
    expected = [generate(family.model, prompt, **GREEDY) for prompt in prompts]
    found, errors = {}, []
    barrier = threading.Barrier(len(prompts))

    def work(i):
        try:
            with capture(family.model, statistics=()) as recording:
                barrier.wait(timeout=60)
                made = generate(family.model, prompts[i], **GREEDY)
            found[i] = recording, made
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(prompts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    for i, tokens in enumerate(expected):
        recording, made = found[i]
        assert torch.equal(made, tokens)
        np.testing.assert_array_equal(recording.token_ids, tokens[:, :-1].numpy())


def test_an_outer_and_an_inner_capture_read_the_same_generation():
    family = gpt2()
    with capture(family.model, statistics=()) as outer:
        with capture(family.model, layers=1, statistics=()) as inner:
            generate(family.model, family.inputs["input_ids"], **GREEDY)
        once = outer[1].queries
        generate(family.model, family.inputs["input_ids"], **GREEDY)
    assert inner.names == family.layers[1:2]
    assert once == inner[0].queries == 16
    np.testing.assert_array_equal(inner[0].lse, outer[1].lse)
    assert len(outer.passes) == 2
