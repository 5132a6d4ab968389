"""Latent attention against its formula in NumPy, DeepSeek's in transformers, and its own cache."""

import copy
import itertools

import numpy as np
import pytest
import torch
from transformers import DeepseekV3Config
from transformers.models.deepseek_v3 import modeling_deepseek_v3 as deepseek

from atento import DTypeError, InputError, ShapeError
from atento.masks import Causal, KeyPadding, Window
from atento.nn.kv_cache import KVCache
from atento.nn.multi_head_latent_attention import MultiHeadLatentAttention
from atento.positions import Rotary, YarnScaling
from oracle import attention_oracle

B, T, C, H = 2, 11, 14, 3
RANK, PLAIN, ROPE, DV, Q_RANK = 7, 5, 4, 13, 17
SIZES = {
    "kv_lora_rank": RANK,
    "qk_nope_head_dim": PLAIN,
    "qk_rope_head_dim": ROPE,
    "v_head_dim": DV,
}


def module(**options):
    torch.manual_seed(19)
    made = MultiHeadLatentAttention(C, H, **SIZES, mask=Causal(), **options).double()
    for name, parameter in made.named_parameters():
        if "norm" in name or "bias" in name:
            torch.nn.init.normal_(parameter, mean=1.0)
    return made


def tokens(*shape, seed=23, dtype=torch.float64):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(shape or (B, T, C), generator=draw, dtype=dtype)


def turned(x, interleaved):
    """(..., T, d) as complex numbers, one pair one number, times e^(i · position · frequency)."""
    d = x.shape[-1]
    angles = np.arange(x.shape[-2])[:, None] * 10000.0 ** (-np.arange(0, d, 2) / d)
    a, b = (x[..., ::2], x[..., 1::2]) if interleaved else (x[..., : d // 2], x[..., d // 2 :])
    z = (a + 1j * b) * np.exp(1j * angles)
    if interleaved:
        return np.stack([z.real, z.imag], -1).reshape(x.shape)
    return np.concatenate([z.real, z.imag], -1)


def by_formula(attention, x, interleaved=True, visible=None):
    """Output and weights, from the paper's equations 9 to 13 and 14 to 19."""
    p = {name: value.numpy() for name, value in attention.state_dict().items()}
    x = x.numpy()

    def linear(name, x):
        return x @ p[f"{name}.weight"].T + p.get(f"{name}.bias", 0)

    def normed(name, x):
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * p[f"{name}.weight"]

    def heads(x):
        return np.moveaxis(x.reshape(*x.shape[:-1], H, -1), -2, -3)

    if "query.weight" in p:
        query = heads(linear("query", x))
    else:
        query = heads(linear("query_up", normed("query_norm", linear("query_down", x))))
    down = linear("key_value_down", x)
    both = heads(linear("key_value_up", normed("key_value_norm", down[..., :RANK])))
    shared = turned(down[..., None, :, RANK:], interleaved)
    shared = np.broadcast_to(shared, (*both.shape[:-1], ROPE))
    query = np.concatenate([query[..., :PLAIN], turned(query[..., PLAIN:], interleaved)], -1)
    key = np.concatenate([both[..., :PLAIN], shared], -1)
    before = np.tri(x.shape[-2], dtype=bool)
    visible = before if visible is None else before & visible
    contexts, weights, _ = attention_oracle(query, key, both[..., PLAIN:], visible=visible)
    joined = np.moveaxis(contexts, -3, -2).reshape(*x.shape[:-1], H * DV)
    return linear("output", joined), weights


def same(made, wanted):
    np.testing.assert_allclose(made.detach().numpy(), wanted, rtol=1e-11, atol=1e-12)


FORMS = {
    "queries from the input": {},
    "queries from a latent": {"q_lora_rank": Q_RANK},
    "biases": {"q_lora_rank": Q_RANK, "bias": True},
    "halves turn": {"position": Rotary()},
}


@pytest.mark.parametrize("name", FORMS)
def test_it_is_the_formula(name):
    attention = module(**FORMS[name])
    output, weights = attention(tokens(), return_weights=True)
    wanted = by_formula(attention, tokens(), interleaved=name != "halves turn")
    same(output, wanted[0])
    same(weights, wanted[1])
    same(attention(tokens()[0]), wanted[0][0])


def deepseek_layer(**options):
    config = DeepseekV3Config(
        hidden_size=C,
        num_attention_heads=H,
        num_key_value_heads=H,
        **SIZES,
        attn_implementation="eager",
        **options,
    )
    torch.manual_seed(31)
    layer = deepseek.DeepseekV3Attention(config, layer_idx=0)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return layer, deepseek.DeepseekV3RotaryEmbedding(config)


NAMES = {
    "q_proj": "query",
    "q_a_proj": "query_down",
    "q_a_layernorm": "query_norm",
    "q_b_proj": "query_up",
    "kv_a_proj_with_mqa": "key_value_down",
    "kv_a_layernorm": "key_value_norm",
    "kv_b_proj": "key_value_up",
    "o_proj": "output",
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 40.0,
    "original_max_position_embeddings": 16,
    "mscale": 1.0,
    "mscale_all_dim": 0.7,
    "beta_fast": 32,
    "beta_slow": 1,
}
CONFIGS = {
    "V3": {"q_lora_rank": Q_RANK},
    "V2 Lite": {"q_lora_rank": None},
    "biases": {"q_lora_rank": Q_RANK, "attention_bias": True},
    "halves turn": {"q_lora_rank": Q_RANK, "rope_interleave": False},
    "YaRN": {"q_lora_rank": Q_RANK, "rope_parameters": YARN},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_it_is_deepseeks_attention_in_transformers(name):
    options = CONFIGS[name]
    layer, rotary = deepseek_layer(**options)
    scaling = None
    if name == "YaRN":
        scaling = YarnScaling(40.0, 16, mscale=1.0, mscale_all_dim=0.7)
    attention = MultiHeadLatentAttention(
        C,
        H,
        **SIZES,
        q_lora_rank=options["q_lora_rank"],
        bias=options.get("attention_bias", False),
        position=Rotary(interleaved=options.get("rope_interleave", True), scaling=scaling),
        scale=layer.scaling,
        mask=Causal(),
    )
    state = {
        f"{NAMES[(parts := name.rpartition('.'))[0]]}.{parts[2]}": value
        for name, value in layer.state_dict().items()
    }
    attention.load_state_dict(state)
    x = tokens(dtype=torch.float32)
    ahead = torch.full((T, T), -torch.inf).triu(1)[None, None]
    positions = rotary(x, torch.arange(T)[None])
    wanted, weights = layer(x, position_embeddings=positions, attention_mask=ahead)
    made = attention(x, return_weights=True)
    torch.testing.assert_close(made[0], wanted, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(made[1], weights, rtol=1e-5, atol=1e-6)


CUTS = [range(T + 1), (0, 5, 6, T), (0, 9, T), (0, T)]


@pytest.mark.parametrize("absorbs", [None, True, False])
@pytest.mark.parametrize("cuts", CUTS)
def test_a_cache_of_latents_never_changes_the_result(cuts, absorbs, monkeypatch):
    if absorbs is not None:
        monkeypatch.setattr(MultiHeadLatentAttention, "_absorbs", lambda *_: absorbs)
    for x in (tokens(), tokens()[0]):
        attention, cache = module(q_lora_rank=Q_RANK), KVCache()
        output, weights = attention(x, return_weights=True)
        for a, b in itertools.pairwise(cuts):
            made = attention(x[..., a:b, :], cache=cache, return_weights=True)
            same(made[0], output[..., a:b, :].detach().numpy())
            same(made[1], weights[..., a:b, :b].detach().numpy())
        leading = x.shape[:-2]
        assert cache.keys.shape == (*leading, 1, T, RANK)
        assert cache.values.shape == (*leading, 1, T, ROPE)


@pytest.mark.parametrize("absorbs", [True, False])
def test_a_cache_with_a_window_is_a_window(absorbs, monkeypatch):
    monkeypatch.setattr(MultiHeadLatentAttention, "_absorbs", lambda *_: absorbs)
    attention, x, cache = module(), tokens(), KVCache(window=4)
    made = [attention(x[:, a:b], cache=cache) for a, b in ((0, 3), (3, 5), (5, 6), (6, T))]
    wanted = attention(x, mask=Window(left=3)).detach().numpy()
    same(torch.cat(made, 1), wanted)
    assert cache.length == 4


def test_padding_and_a_cache():
    attention, x, cache = module(), tokens(), KVCache()
    keep = np.arange(T) >= np.array([[2], [0]])
    wanted = by_formula(attention, x, visible=keep[:, None, None])[0]
    same(attention(x, mask=KeyPadding(keep)), wanted)
    assert not attention(x, mask=KeyPadding(keep), return_weights=True)[1][0, :, :, :2].any()
    for a, b in ((0, 6), (6, 7), (7, T)):
        same(attention(x[:, a:b], mask=KeyPadding(keep[:, :b]), cache=cache), wanted[:, a:b])


def test_decoding_makes_no_keys_and_values_of_heads():
    sizes = SIZES | {"kv_lora_rank": 41}
    attention = MultiHeadLatentAttention(C, H, **sizes, mask=Causal()).double()
    x, cache, calls = tokens(1, 200, C), KVCache(), []
    with torch.no_grad():
        whole = attention(x)
        attention.key_value_up.register_forward_hook(lambda *_: calls.append(1))
        attention(x[:, :-1], cache=cache)
        assert calls == [1]  # for many queries the heads' own are cheaper
        same(attention(x[:, -1:], cache=cache), whole[:, -1:].numpy())
        assert calls == [1]
        cache.reset()
        attention(x[:, :-1], cache=cache)
        attention.key_value_up = torch.nn.Sequential(attention.key_value_up)  # an adapter, say
        same(attention(x[:, -1:], cache=cache), whole[:, -1:].numpy())
    assert calls == [1, 1, 1]


def test_beams_are_reordered():
    attention, x, cache = module(), tokens(), KVCache()
    attention(x[:, :6], cache=cache)
    cache.reorder([1, 0, 1])
    made = attention(x[[0, 1, 0], 6:], cache=cache)
    joined = torch.cat([x[[1, 0, 1], :6], x[[0, 1, 0], 6:]], 1)
    same(made, attention(joined)[:, 6:].detach().numpy())


def test_a_call_that_is_refused_leaves_the_cache_as_it_was():
    attention, x, cache = module(), tokens(), KVCache()
    attention(x[:, :6], cache=cache)
    with pytest.raises(ShapeError):
        attention(x[:, 6:], mask=KeyPadding([True] * 3), cache=cache)
    assert cache.num_tokens == 6
    same(attention(x[:, 6:], cache=cache), attention(x)[:, 6:].detach().numpy())


STEPS = [
    "query_latents",
    "normalized_query_latents",
    "query_projection",
    "rotated_queries",
    "key_value_projection",
    "latents",
    "rotated_keys",
    "expanded_latents",
    "queries",
    "keys",
    "values",
    "scores",
    "scaled",
    "masked",
    "weights",
    "contexts",
    "concatenated",
    "output",
]


def test_the_trace_shows_the_latents():
    attention = module(q_lora_rank=Q_RANK)
    trace = attention.trace(tokens())
    assert [step.name for step in trace] == STEPS
    same(trace.output, attention(tokens()).detach().numpy())
    same(trace["weights"].value, by_formula(attention, tokens())[1])
    shapes = {step.name: tuple(step.value.shape) for step in trace}
    assert shapes["query_latents"] == (B, T, Q_RANK)
    assert shapes["latents"] == (B, T, RANK)
    assert shapes["rotated_keys"] == (B, T, ROPE)
    assert shapes["rotated_queries"] == (B, H, T, ROPE)
    assert shapes["keys"] == (B, H, T, PLAIN + ROPE)
    assert shapes["contexts"] == (B, H, T, DV)
    for one in (trace, attention.trace(tokens()[0])):
        assert all(len(step.axes) == step.value.ndim for step in one)
    assert [step.name for step in module().trace(tokens())] == STEPS[2:]


def test_the_trace_of_a_later_token_shows_all_keys():
    attention, x, cache = module(), tokens(), KVCache()
    attention(x[:, :-1], cache=cache)
    trace = attention.trace(x[:, -1:], cache=cache)
    assert trace["keys"].value.shape == (B, H, T, PLAIN + ROPE)
    same(trace.output, attention(x)[:, -1:].detach().numpy())


def test_gradients_reach_every_parameter_also_through_the_latents(monkeypatch):
    wanted = None
    for absorbs in (None, True, False):
        attention, cache = module(q_lora_rank=Q_RANK), KVCache()
        if absorbs is None:
            output = attention(tokens())
        else:
            monkeypatch.setattr(MultiHeadLatentAttention, "_absorbs", lambda *_, a=absorbs: a)
            parts = [attention(tokens()[:, a:b], cache=cache) for a, b in ((0, 6), (6, T))]
            output = torch.cat(parts, 1)
        (output * tokens(seed=5)).sum().backward()
        grads = {name: p.grad for name, p in attention.named_parameters()}
        assert all(grad.any() for grad in grads.values())
        wanted = wanted or grads
        for name, grad in grads.items():
            torch.testing.assert_close(grad, wanted[name], rtol=1e-10, atol=1e-11)


def test_gradients_are_those_of_the_numbers():
    attention = MultiHeadLatentAttention(
        4, 2, kv_lora_rank=3, qk_nope_head_dim=1, qk_rope_head_dim=2, v_head_dim=3, mask=Causal()
    ).double()
    assert torch.autograd.gradcheck(attention, tokens(1, 3, 4).requires_grad_())


def test_dropout_drops_the_same_weights_with_a_cache(monkeypatch):
    attention, x = module(dropout=0.5).train(), tokens()
    torch.manual_seed(3)
    whole = attention(x)
    torch.manual_seed(3)
    assert torch.equal(attention(x), whole)
    assert not torch.equal(attention(x), whole)
    for absorbs in (True, False):
        monkeypatch.setattr(MultiHeadLatentAttention, "_absorbs", lambda *_, a=absorbs: a)
        torch.manual_seed(3)
        same(attention(x, cache=KVCache()), whole.detach().numpy())
    same(attention.eval()(x), by_formula(attention, x)[0])


def test_its_state_dict():
    assert list(module().state_dict()) == [
        "query.weight",
        "key_value_down.weight",
        "key_value_norm.weight",
        "key_value_up.weight",
        "output.weight",
    ]
    assert list(module(q_lora_rank=Q_RANK, bias=True).state_dict()) == [
        "query_down.weight",
        "query_down.bias",
        "query_norm.weight",
        "query_up.weight",
        "key_value_down.weight",
        "key_value_down.bias",
        "key_value_norm.weight",
        "key_value_up.weight",
        "output.weight",
        "output.bias",
    ]
    said = repr(module(scale=0.5, dropout=0.1))
    assert "num_heads=3, position=Rotary(" in said
    assert "mask=Causal(), scale=0.5, dropout=0.1" in said


def test_it_compiles_whole_and_exports_with_any_length():
    attention, x = module(q_lora_rank=Q_RANK).eval(), tokens()
    torch._dynamo.reset()
    compiled = torch.compile(attention, fullgraph=True, backend="aot_eager", dynamic=True)
    torch.testing.assert_close(compiled(x), attention(x), rtol=1e-11, atol=1e-12)
    length = torch.export.Dim("length", min=2, max=4096)
    exported = torch.export.export(attention, (x,), dynamic_shapes={"x": {1: length}}).module()
    for count in (2, 29):
        y = tokens(B, count, C, seed=count)
        torch.testing.assert_close(exported(y), attention(y), rtol=1e-11, atol=1e-12)


def test_it_works_in_halves_under_autocast_and_on_no_device():
    attention = module(q_lora_rank=Q_RANK).float()
    x = tokens(dtype=torch.float32)
    wanted = attention(x).detach()
    close = {"rtol": 0.05, "atol": 0.05 * wanted.abs().max().item()}
    with torch.autocast("cpu", torch.bfloat16):
        made, cache = attention(x), KVCache()
        parts = torch.cat([attention(x[:, a:b], cache=cache) for a, b in ((0, 10), (10, T))], 1)
    assert made.dtype == parts.dtype == torch.bfloat16
    torch.testing.assert_close(made.float(), wanted, **close)
    torch.testing.assert_close(parts.float(), wanted, **close)
    for dtype in (torch.bfloat16, torch.float16):
        half = copy.deepcopy(attention).to(dtype)(x.to(dtype))
        assert half.dtype == dtype
        torch.testing.assert_close(half.float(), wanted, **close)
    meta = MultiHeadLatentAttention(C, H, **SIZES, mask=Causal(), device="meta")
    assert meta(torch.empty(B, T, C, device="meta")).shape == (B, T, C)


REFUSED = {
    "no rotation": (
        lambda: module(position=object()),
        InputError,
        "position must rotate, as Rotary() does: latent attention keeps one rotated key",
    ),
    "the class of a rotation": (lambda: module(position=Rotary), InputError, "got <class"),
    "odd rotation": (
        lambda: MultiHeadLatentAttention(C, H, **(SIZES | {"qk_rope_head_dim": 3})),
        InputError,
        "qk_rope_head_dim must be even, for features turn in pairs; got 3",
    ),
    "no heads": (
        lambda: MultiHeadLatentAttention(C, 0, **SIZES),
        InputError,
        "num_heads must be a whole number from 1 on; got 0",
    ),
    "last size": (lambda: module()(tokens()[..., :5]), ShapeError, "takes 14 features"),
    "dtype": (lambda: module()(tokens().float()), DTypeError, "x is torch.float32"),
    "cache of another kind": (
        lambda: module()(tokens(), cache=[]),
        InputError,
        "MultiHeadLatentAttention: cache must be a KVCache, the same one at every call; got list.",
    ),
    "a mask the other way round": (
        lambda: module()(tokens(), mask=torch.ones(T, T, dtype=torch.bool).triu(1)),
        InputError,
        "In atento True = attends: pass mask=~attn_mask",
    ),
    "dropout": (lambda: module(dropout=1.0), InputError, "dropout must be a probability"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_in_words(name):
    call, kind, words = REFUSED[name]
    with pytest.raises(kind) as caught:
        call()
    assert words in str(caught.value)


def test_a_cache_of_another_batch_is_refused():
    attention, cache = module(), KVCache()
    attention(tokens(), cache=cache)
    with pytest.raises(ShapeError, match="batch 2"):
        attention(tokens()[:1], cache=cache)
