"""To and from Llama's attention in transformers: the same outputs; or why not."""

import copy

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRotaryEmbedding
from transformers.models.mistral.modeling_mistral import MistralAttention, MistralConfig

from atento import DTypeError, InputError, ShapeError
from atento.masks import Causal
from atento.nn.convert import from_llama, to_llama
from atento.nn.kv_cache import KVCache
from atento.nn.multi_head_attention import MultiHeadAttention
from atento.positions import LinearScaling, Rotary

B, T, C, H, HKV, D = 2, 29, 18, 6, 2, 8
ORIGINAL = 11  # so that T tokens are more than the scalings were made for
ROPES = {
    "default": {"rope_theta": 500.0},
    "linear": {"rope_type": "linear", "factor": 3.0},
    "dynamic": {"rope_type": "dynamic", "factor": 3.0},
    "yarn": {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": ORIGINAL,
        "beta_fast": 0.1,
        "beta_slow": 0.02,
    },
    "yarn with mscale": {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": ORIGINAL,
        "mscale": 1.3,
        "mscale_all_dim": 0.7,
        "beta_slow": 0.02,
        "truncate": False,
    },
    "yarn with its factor": {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": ORIGINAL,
        "attention_factor": 1.25,
    },
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": ORIGINAL,
    },
}


def config(rope="default", **options):
    return LlamaConfig(
        **{
            "hidden_size": C,
            "num_attention_heads": H,
            "num_key_value_heads": HKV,
            "head_dim": D,
            "intermediate_size": 13,
            "num_hidden_layers": 2,
            "vocab_size": 17,
            "max_position_embeddings": ORIGINAL,
            "rope_parameters": {"rope_theta": 10000.0} | ROPES[rope],
            "attn_implementation": "eager",
        }
        | options
    )


def drawn(module, dtype=torch.float32):
    torch.manual_seed(79)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module.to(dtype).eval()


def layer(rope="default", dtype=torch.float32, **options):
    return drawn(LlamaAttention(config(rope, **options), layer_idx=0), dtype)


def tokens(dtype=torch.float32):
    draw = torch.Generator().manual_seed(83)
    return torch.randn(B, T, C, generator=draw, dtype=torch.float64).to(dtype)


def called(theirs, x, positions=None):
    """Output and weights; cosines and sines from the model's own table unless given."""
    if positions is None:
        positions = LlamaRotaryEmbedding(theirs.config)(x, torch.arange(x.shape[1])[None])
    ahead = torch.full((x.shape[1],) * 2, -torch.inf, dtype=x.dtype).triu(1)[None, None]
    return theirs(x, position_embeddings=positions, attention_mask=ahead)


def same(made, wanted, close=4e-6):  # 32 times what float32 rounds off
    torch.testing.assert_close(made, wanted, rtol=close, atol=close)


@pytest.mark.parametrize("rope", ROPES)
def test_from_llama_computes_the_same(rope):
    theirs = layer(rope)
    made = from_llama(theirs)
    wanted, weights = called(theirs, tokens())
    got = made(tokens(), return_weights=True)
    same(got[0], wanted)
    same(got[1], weights)
    assert (made.num_heads, made.num_kv_heads, made.head_dim) == (H, HKV, D)
    assert repr(made.mask) == "Causal()"


def test_every_scaling_changes_something():
    outputs = [from_llama(layer(rope))(tokens()) for rope in ROPES]
    for i, one in enumerate(outputs):
        assert all((one - other).abs().max() > 1e-4 for other in outputs[:i])


def test_in_double_precision_it_is_the_same_to_the_last_digits():
    # Whatever the model is in, transformers' table, and the softmax of "eager", are in float32.
    theirs = layer(dtype=torch.float64, attn_implementation="sdpa")
    rates = 500.0 ** (-torch.arange(0, D, 2, dtype=torch.float64) / D)
    angles = (torch.arange(T)[:, None] * rates).repeat(1, 2)[None]
    wanted = called(theirs, tokens(torch.float64), (angles.cos(), angles.sin()))[0]
    same(from_llama(theirs)(tokens(torch.float64)), wanted, 1e-12)


@pytest.mark.parametrize("options", [{"attention_bias": True}, {"num_key_value_heads": H}])
def test_its_other_shapes(options):
    theirs = layer(**options)
    made = from_llama(theirs)
    same(made(tokens()), called(theirs, tokens())[0])
    assert (made.output.bias is None) == ("attention_bias" not in options)


@pytest.mark.parametrize("rope", ROPES)
def test_a_state_dict_and_a_config_are_enough(rope):
    theirs = layer(rope)
    state = theirs.state_dict(prefix="model.layers.7.self_attn.")
    state |= {"model.layers.7.self_attn.rotary_emb.inv_freq": torch.ones(4), "lm_head.weight": 0}
    old = theirs.config.to_dict()
    rope_parameters = old.pop("rope_parameters")
    old["rope_theta"] = rope_parameters.pop("rope_theta")
    kind = rope_parameters.pop("rope_type", "default")
    old["rope_scaling"] = None if kind == "default" else {"type": kind, **rope_parameters}
    for settings in (theirs.config, theirs.config.to_dict(), old):
        made = from_llama(state, settings, prefix="model.layers.7.self_attn.")
        same(made(tokens()), called(theirs, tokens())[0])


def test_a_whole_model_with_our_attention_gives_the_same_logits():
    model = drawn(LlamaForCausalLM(config("llama3")))
    ids = torch.arange(26).reshape(2, 13) % 17
    wanted = model(ids).logits
    for block in model.model.layers:
        block.self_attn = Stand(from_llama(block.self_attn))
    same(model(ids).logits, wanted, 2e-6)


class Stand(nn.Module):
    """Our module where Llama calls its own."""

    def __init__(self, attention):
        super().__init__()
        self.attention = attention

    def forward(self, hidden_states, **_):
        return self.attention(hidden_states), None


def test_decoding_with_our_cache_gives_the_same():
    theirs = layer("llama3")
    made, cache = from_llama(theirs), KVCache()
    parts = [made(tokens()[:, a:b], cache=cache) for a, b in ((0, 19), (19, 20), (20, T))]
    same(torch.cat(parts, 1), called(theirs, tokens())[0])


@pytest.mark.parametrize("rope", ROPES)
@pytest.mark.parametrize("bias", [False, True])
def test_there_and_back_all_is_as_it_was(rope, bias):
    theirs = layer(rope, attention_bias=bias)
    other = copy.deepcopy(theirs)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1)
    assert to_llama(from_llama(theirs), other) is other
    state = to_llama(from_llama(theirs))
    assert set(state) == set(theirs.state_dict())
    for name, value in theirs.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)
        assert torch.equal(state[name], value)


def ours(**options):
    torch.manual_seed(89)
    sizes = {"num_kv_heads": HKV, "head_dim": D, "bias": False}
    position = Rotary(base=500.0)
    return MultiHeadAttention(C, H, **({"mask": Causal(), "position": position} | sizes | options))


def test_to_llama_computes_the_same():
    for options in ({}, {"scale": D**-0.5}):
        same(called(to_llama(ours(**options), layer()), tokens())[0], ours()(tokens()))
    biased = to_llama(ours(), layer(attention_bias=True))
    same(called(biased, tokens())[0], ours()(tokens()))
    assert not biased.q_proj.bias.any()
    half = to_llama(ours(bias=True, output_bias=False), layer(attention_bias=True))
    same(called(half, tokens())[0], ours(bias=True, output_bias=False)(tokens()))


def test_weights_are_copied_and_what_is_trained_stays_so():
    theirs = layer()
    theirs.k_proj.weight.requires_grad_(False)
    theirs.attention_dropout = 0.25
    made = from_llama(theirs)
    assert [name for name, p in made.named_parameters() if not p.requires_grad] == ["key.weight"]
    assert (made.training, made.dropout) == (False, 0.25)
    wanted = made(tokens())
    for state in (theirs.state_dict(), to_llama(made)):
        for tensor in state.values():
            tensor.zero_()
    assert torch.equal(made(tokens()), wanted)


def state():
    return layer().state_dict()


LONG = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0] * 4,
    "long_factor": [1.0] * 4,
}
WRONG = "to_llama: the result would not compute what this module does: this LlamaAttention"
REFUSED = {
    "another model's layer": (
        lambda: from_llama(MistralAttention(MistralConfig(hidden_size=64), 0)),
        DTypeError,
        "from_llama reads LlamaAttention (transformers); got MistralAttention.",
    ),
    "another model's config": (
        lambda: from_llama(state(), {"model_type": "qwen3"}),
        InputError,
        "from_llama reads the attention of llama models; this config is of 'qwen3'.",
    ),
    "no config": (lambda: from_llama(state()), InputError, "pass config= too"),
    "names of another model": (
        lambda: from_llama(state() | {"q_norm.weight": torch.ones(D)}, config()),
        InputError,
        "the state dict also has q_norm.weight, of which this conversion knows nothing",
    ),
    "missing names": (
        lambda: from_llama({"q_proj.weight": torch.ones(1)}, config()),
        InputError,
        "the state dict has no k_proj.weight, v_proj.weight, o_proj.weight.",
    ),
    "another scaling": (
        lambda: from_llama(state(), config().to_dict() | {"rope_parameters": LONG}),
        InputError,
        "from_llama: this config scales rotary positions by 'longrope'; we have default, linear, "
        "dynamic, yarn and llama3.",
    ),
    "partial rotation": (
        lambda: from_llama(
            state(), config().to_dict() | {"rope_parameters": {"partial_rotary_factor": 0.5}}
        ),
        InputError,
        "a LlamaAttention rotates all features of a head; this config asks for 0.5 of them",
    ),
    "no rotation": (
        lambda: to_llama(ours(position=None)),
        InputError,
        "Llama's attention rotates queries and keys, and this module's position is None",
    ),
    "another rotation": (
        lambda: to_llama(ours(position=Rotary(scaling=LinearScaling(2.0))), layer()),
        InputError,
        f"{WRONG} has Rotary(base=500.0, interleaved=False, rotary_dim=None, scaling=None), and "
        "this module position=Rotary(base=10000.0, interleaved=False, rotary_dim=None, "
        "scaling=LinearScaling(factor=2.0)).",
    ),
    "no mask": (
        lambda: to_llama(ours(mask=None)),
        InputError,
        "Llama's attention is causal, and this module's mask is None.",
    ),
    "sinks": (lambda: to_llama(ours(sinks=True)), InputError, "Llama's attention has no sinks."),
    "norm": (lambda: to_llama(ours(qk_norm="rms")), InputError, "normalises no queries and keys"),
    "scale": (
        lambda: to_llama(ours(scale=1.0), layer()),
        InputError,
        f"{WRONG} multiplies its scores by 0.353553, this module by 1.",
    ),
    "heads": (
        lambda: to_llama(ours(num_kv_heads=3), layer()),
        InputError,
        f"{WRONG} has 2 key heads, and this module 3.",
    ),
    "head size": (
        lambda: to_llama(ours(head_dim=10, scale=D**-0.5), layer()),
        InputError,
        f"{WRONG}'s heads have 8 features, and this module's 10.",
    ),
    "biases": (
        lambda: to_llama(ours(bias=True), layer()),
        InputError,
        f"{WRONG} has no biases (attention_bias=False), and this module has.",
    ),
    "another width": (
        lambda: to_llama(ours(), layer(hidden_size=24)),
        ShapeError,
        "to_llama: the layer's q_proj.weight has shape (48, 24), and this module makes (48, 18).",
    ),
    "into another layer": (
        lambda: to_llama(ours(), nn.Linear(2, 2)),
        DTypeError,
        "got Linear.",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_the_same_is_refused_in_words(name):
    call, kind, words = REFUSED[name]
    with pytest.raises(kind) as caught:
        call()
    assert words in str(caught.value)
