"""A text in chunks is the text in one go: weights, statistics, tokens; and an interrupt between."""

import numpy as np
import pytest
import torch
import transformers
from torch import nn
from transformers import masking_utils

import atento
from atento._errors import InputError
from atento.reading import running
from atento.reading.running import read_tokens
from reading_models import FAMILIES, VOCABULARY, eager_weights, gpt2, ids, llama, made, t5

T = 61
IDS = ids(batch=1, length=T, seed=11)[0].tolist()
IDS[40:50] = IDS[7:17]  # repeated, so that duplicates and induction are not all zero
DECODERS = (
    "llama",
    "gpt2",
    "gemma2",
    "mistral",
    "gpt_oss",
    "bloom",
    "falcon",
    "falcon_with_alibi",
)


def captured(model, tokens=IDS, **options):
    """The recording of one plain call."""
    with torch.no_grad(), atento.capture(model, **options) as recording:
        model(input_ids=torch.tensor([tokens]), use_cache=False)
    return recording


def assert_same(found, wanted):
    """Weights to 1e-5, and every statistic."""
    assert found.names == wanted.names
    assert found.token_ids.tolist() == wanted.token_ids.tolist()
    for one, other in zip(found, wanted, strict=True):
        assert one.shape == other.shape
        for head in range(one.heads):
            np.testing.assert_allclose(one.weights(head), other.weights(head), rtol=0, atol=1e-5)
        assert set(one.statistics) == set(other.statistics)
        for name in one.statistics:
            assert_close(name, one.statistics[name], other.statistics[name])


def assert_close(name, found, wanted):
    if name == "distance_std":  # the root of a variance of 0 shows the rounding's root
        found, wanted = found**2, wanted**2
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("name", DECODERS)
def test_chunks_are_one_go(name):
    model = FAMILIES[name]().model
    found = read_tokens(model, IDS, chunk=13)
    assert (found.tokens, found.chunks, found.interrupted) == (T, 5, False)
    assert_same(found.recording, captured(model))


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2"])
def test_chunks_have_the_weights_of_the_eager_path(name):
    found = read_tokens(FAMILIES[name]().model, IDS, chunk=13)
    wanted = eager_weights(name, {"input_ids": torch.tensor([IDS])})
    for layer in found.recording:
        for head in range(layer.heads):
            np.testing.assert_allclose(
                layer.weights(head), wanted[layer.layer][0, head].numpy(), rtol=0, atol=1e-5
            )


@pytest.mark.parametrize("chunk", [1, 2, 60, 61, 1000])
def test_any_size_of_chunk(chunk):
    model = llama().model
    found = read_tokens(model, IDS, chunk=chunk)
    assert found.chunks == -(-T // chunk)
    assert_same(found.recording, captured(model))


def test_chunks_of_a_long_text_are_smaller_as_their_masks_would_grow(monkeypatch):
    for name, value in {"MOST": 16, "FEWEST": 4, "PAIRS": 8 * T}.items():
        monkeypatch.setattr(running, name, value)
    model, masks = llama().model, []
    whole = captured(model)
    original = masking_utils.sdpa_mask

    def noted(*args, **kwargs):
        made = original(*args, **kwargs)
        masks.append(0 if made is None else made.numel())
        return made

    monkeypatch.setitem(masking_utils.ALL_MASK_ATTENTION_FUNCTIONS, "sdpa", noted)
    found = read_tokens(model, IDS)
    assert found.chunks == -(-T // 8)
    assert 0 < max(masks) <= 8 * T
    assert_same(found.recording, whole)


@pytest.mark.parametrize(
    ("tokens", "chunk"), [(1, 1024), (8192, 1024), (8193, 512), (65_536, 128), (2**30, 128)]
)
def test_how_many_tokens_are_read_at_a_time(tokens, chunk):
    assert running.chunk_for(tokens) == chunk


@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_statistics_alone(name):
    model = FAMILIES[name]().model
    wished = ("entropy", "max", "first", "previous", "self", "duplicate", "induction", "distance")
    options = {"keep": "statistics", "statistics": wished}
    found = read_tokens(model, IDS, chunk=13, **options).recording
    wanted = captured(model, **options)
    for one, other in zip(found, wanted, strict=True):
        assert one.query is None
        assert set(one.statistics) == set(other.statistics)
        for statistic, values in one.statistics.items():
            assert_close(statistic, values, other.statistics[statistic])
    assert str(found.summary()) == str(wanted.summary())
    assert any(row["induction"] > 0 for row in found.summary())


def test_some_layers_and_heads():
    model = gpt2().model
    options = {"layers": [0, "*.2.attn"], "heads": [1, 4]}
    found = read_tokens(model, IDS, chunk=13, **options).recording
    wanted = captured(model, **options)
    assert found.names == wanted.names == ["transformer.h.0.attn", "transformer.h.2.attn"]
    for one, other in zip(found, wanted, strict=True):
        assert one.lse.shape == (1, 2, T)
        np.testing.assert_allclose(one.lse, other.lse, atol=1e-5)


def test_an_encoder_reads_in_one_go():
    model = FAMILIES["bert"]().model
    found = read_tokens(model, IDS, chunk=13)
    assert found.chunks == 1
    with torch.no_grad(), atento.capture(model) as wanted:
        model(torch.tensor([IDS]))
    assert_same(found.recording, wanted)


def test_the_decoder_of_an_encoder_reads_the_text_moved_on_by_one():
    model = t5(decoder_start_token_id=3).model
    found = read_tokens(model, IDS, chunk=13)
    assert found.chunks == 1
    moved = [3, *IDS[:-1]]
    with torch.no_grad(), atento.capture(model) as wanted:
        model(input_ids=torch.tensor([IDS]), decoder_input_ids=torch.tensor([moved]))
    assert_same(found.recording, wanted)
    # the start where the config names none is its padding
    model.config.decoder_start_token_id = None
    again = read_tokens(model, IDS).recording
    with torch.no_grad(), atento.capture(model) as wanted:
        model(input_ids=torch.tensor([IDS]), decoder_input_ids=torch.tensor([[0, *IDS[:-1]]]))
    assert_same(again, wanted)


class Forgetful(transformers.LlamaForCausalLM):
    """It takes a cache, and hands none back."""

    def forward(self, input_ids, past_key_values=None, use_cache=None):
        made = super().forward(input_ids=input_ids, use_cache=False)
        return transformers.modeling_outputs.CausalLMOutputWithPast(logits=made.logits)


def test_a_model_without_a_cache_after_all_is_read_anew():
    model = made(Forgetful, llama().model.config)
    found = read_tokens(model, IDS, chunk=13)
    assert found.chunks == 1
    assert_same(found.recording, captured(llama().model))


class LooksAhead(nn.Module):
    """Bidirectional, though it takes a cache and hands one back."""

    def __init__(self, masked=False):
        super().__init__()
        self.masked = masked
        self.config = transformers.LlamaConfig(is_encoder_decoder=False)
        self.embedding = nn.Embedding(VOCABULARY, 10)
        self.device = torch.device("cpu")

    def forward(self, input_ids, past_key_values=None, use_cache=None):
        x = self.embedding(input_ids)[:, None]
        cache = transformers.DynamicCache() if past_key_values is None else past_key_values
        key, value = cache.update(x, x, 0)
        mask = None
        if self.masked:  # the first key is hidden
            mask = (torch.arange(key.shape[2]) > 0).expand(x.shape[2], -1)
        nn.functional.scaled_dot_product_attention(x, key, value, attn_mask=mask)
        return transformers.modeling_outputs.BaseModelOutputWithPast(past_key_values=cache)


@pytest.mark.parametrize("masked", [False, True])
def test_a_model_that_looks_ahead_is_never_cut(masked):
    found = read_tokens(LooksAhead(masked).eval(), IDS, chunk=13)
    assert found.chunks == 1
    assert found.recording[0].shape == (1, 1, T, T)


def test_logits_are_computed_for_the_last_token_alone():
    model, seen = llama().model, []
    handle = model.lm_head.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1]))
    read_tokens(model, IDS, chunk=13)
    read_tokens(model, IDS)
    handle.remove()
    assert set(seen) == {1}


# Progress, and what is left behind.


def hooks(model):
    return sum(len(module._forward_hooks) for module in model.modules())


@pytest.mark.parametrize("chunk", [13, 1000])
def test_progress(chunk):
    model, told = llama().model, []
    read_tokens(model, IDS, chunk=chunk, progress=told.append)
    steps = 2 * -(-T // chunk)
    assert len(told) >= steps
    assert told == sorted(told)
    assert told[0] == pytest.approx(1 / steps)
    assert told[-1] == 1
    assert hooks(model) == 0


def test_without_anybody_to_tell_no_hook_is_set():
    model, seen = llama().model, []
    attention = model.model.layers[0].self_attn
    forward = attention.forward

    def watched(*args, **kwargs):
        seen.append(hooks(model))
        return forward(*args, **kwargs)

    attention.forward = watched
    read_tokens(model, IDS, chunk=13)
    assert set(seen) == {0}


# An interrupt.


def interrupted_at(model, call, layer=1):
    """The model's layer raises KeyboardInterrupt at the call of that number, once."""
    calls = []

    def hook(*_):
        calls.append(None)
        if len(calls) == call:
            raise KeyboardInterrupt

    return model.get_submodule(llama().layers[layer]).register_forward_hook(hook)


def test_what_is_left_is_not_touched_by_what_came_after():
    """Overview bins of two queries, the last of which is cut where the interrupt leaves it."""
    model = llama().model
    tokens = ids(batch=1, length=110, seed=5)[0].tolist()
    handle = interrupted_at(model, call=5)  # layer 0 has read the fourth chunk
    found = read_tokens(model, tokens, chunk=25)
    handle.remove()
    assert (found.tokens, found.recording[0].bin_width) == (75, 2)
    assert_same(found.recording, captured(model, tokens[:75]))


@pytest.mark.parametrize("layer", [0, 1])
def test_an_interrupt_leaves_the_chunks_that_were_finished(layer, tmp_path):
    model = llama().model
    handle = interrupted_at(model, call=4, layer=layer)  # 1: the first look; 2, 3: whole chunks
    found = read_tokens(model, IDS, chunk=13, progress=lambda _: None)
    handle.remove()
    assert (found.tokens, found.chunks, found.interrupted) == (26, 2, True)
    assert [record.shape[2:] for record in found.recording] == [(26, 26)] * 2
    wanted = captured(model, IDS[:26])
    assert_same(found.recording, wanted)
    found.recording.save(tmp_path / "run.safetensors")
    assert_same(atento.load_recording(tmp_path / "run.safetensors"), wanted)
    assert hooks(model) == 0


def test_an_interrupt_before_the_first_chunk_is_passed_on():
    model = llama().model
    handle = interrupted_at(model, call=2)
    with pytest.raises(KeyboardInterrupt):
        read_tokens(model, IDS, chunk=13, progress=lambda _: None)
    handle.remove()
    assert hooks(model) == 0


def test_an_interrupt_in_one_go_is_passed_on():
    model = llama().model
    handle = interrupted_at(model, call=2)
    with pytest.raises(KeyboardInterrupt):
        read_tokens(model, IDS)
    handle.remove()


# What is refused.


@pytest.mark.parametrize(
    ("options", "name", "message"),
    [
        (
            {"layers": [0, 3]},
            "layer_unknown",
            "there is no layer 3. There are 3: 0: transformer.h.0.attn, 1: transformer.h.1.attn, "
            "2: transformer.h.2.attn.",
        ),
        ({"layers": ["nothing.*"]}, "layer_unknown", "there is no layer nothing.*. There are 3:"),
        (
            {"heads": [1, 5]},
            "head_unknown",
            "there is no head 5 in layer transformer.h.0.attn: its heads are 0 to 4.",
        ),
        (
            {"heads": [5], "layers": ["*.1.attn"]},
            "head_unknown",
            "there is no head 5 in layer transformer.h.1.attn",
        ),
    ],
)
def test_layers_and_heads_that_are_not_there(options, name, message):
    model = gpt2().model
    with pytest.raises(InputError) as raised:
        read_tokens(model, IDS, chunk=13, **options)
    assert str(raised.value).startswith(message)
    assert raised.value.name == name
    assert str(raised.value.facts["came"]) in message


def test_many_layers_are_not_all_listed():
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY, n_positions=67, n_embd=4, n_layer=14, n_head=1
    )
    model = transformers.GPT2Model(config).eval()
    with pytest.raises(InputError) as raised:
        read_tokens(model, IDS, layers=[14])
    assert str(raised.value) == (
        "there is no layer 14. There are 14: 0: h.0.attn, 1: h.1.attn, 2: h.2.attn, …, "
        "13: h.13.attn."
    )


def test_a_model_that_reads_no_text():
    with pytest.raises(InputError, match="ViTModel reads no token ids") as raised:
        read_tokens(FAMILIES["vit"]().model, IDS)
    assert raised.value.name == "model_no_text"


class NoAttention(LooksAhead):
    def forward(self, input_ids):
        return self.embedding(input_ids)


def test_a_model_without_attention():
    with pytest.raises(InputError, match="no attention was seen in NoAttention") as raised:
        read_tokens(NoAttention(), IDS)
    assert raised.value.name == "model_no_attention"


@pytest.fixture
def hidden(monkeypatch):
    """A model whose attention goes through a kernel that nobody knows."""

    def kernel(module, query, key, value, mask, **kwargs):
        return query.transpose(1, 2).contiguous(), None

    monkeypatch.setitem(transformers.AttentionInterface._global_mapping, "my_flash", kernel)
    model = llama().model
    monkeypatch.setattr(model.config, "_attn_implementation_internal", "my_flash")
    return model


def test_a_model_none_of_whose_layers_can_be_read(hidden):
    with pytest.raises(InputError, match="none of the layers could be read exactly") as raised:
        read_tokens(hidden, IDS)
    assert raised.value.name == "model_unread"
    assert "model.layers.0.self_attn: " in str(raised.value)
    assert "'my_flash' cannot be read" in str(raised.value)


class Half(LooksAhead):
    """A layer that can be read, and a model whose layers cannot."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, past_key_values=None, use_cache=None):
        x = self.embedding(input_ids)[:, None]
        nn.functional.scaled_dot_product_attention(x, x, x, is_causal=True)
        return self.model(input_ids=input_ids, use_cache=False)


def test_layers_that_cannot_be_read_are_listed(hidden):
    found = read_tokens(Half(hidden), IDS, chunk=13)
    assert (found.chunks, found.recording.names) == (1, ["(model)"])
    assert [layer for layer, _ in found.recording.skipped] == [
        f"model.{layer}" for layer in llama().layers
    ]
    with pytest.raises(InputError, match=r"model\.model\.layers\.1\.self_attn: .*my_flash"):
        read_tokens(Half(hidden), IDS, layers=["*.1.self_attn"])
