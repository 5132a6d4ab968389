"""MultiHeadAttention against an oracle in NumPy, option by option, and its other promises."""

import copy

import numpy as np
import pytest
import torch

import atento
from atento.masks import Causal, Explicit, KeyPadding, Rule, Window
from atento.nn import (
    AttentionHead,
    GroupedQueryAttention,
    MultiHeadAttention,
    MultiQueryAttention,
)
from multi_head_oracle import multi_head_oracle

B, T, H, D, DV, C, OUT = 2, 7, 3, 4, 5, 11, 13
EXACT = {"rtol": 1e-12, "atol": 1e-12}
KEEP = torch.tensor([[True] * 7, [True] * 4 + [False] * 3])

OPTIONS = {
    "plain": ({}, {}),
    "no bias": ({"bias": False}, {}),
    "output bias alone": ({"bias": False, "output_bias": True}, {}),
    "grouped": ({"num_heads": 6, "num_kv_heads": 2}, {"heads": 6, "kv_heads": 2}),
    "multi-query": ({"num_kv_heads": 1}, {"kv_heads": 1}),
    "value size": ({"value_head_dim": DV}, {}),
    "output size": ({"d_out": OUT}, {}),
    "causal": ({"mask": Causal()}, {"visible": np.tri(T, dtype=bool)}),
    "window": (
        {"mask": Causal() & Window(left=2)},
        {"visible": np.tri(T, dtype=bool) & ~np.tri(T, k=-3, dtype=bool)},
    ),
    "scale": ({"scale": 0.3}, {"scale": 0.3}),
    "softcap": ({"softcap": 0.7}, {"softcap": 0.7}),
    "sinks": ({"sinks": True}, {}),
    "rms norm": ({"qk_norm": "rms"}, {"norm": "rms"}),
    "layer norm": ({"qk_norm": "layer"}, {"norm": "layer"}),
    "gate": ({"gate": True, "value_head_dim": DV}, {}),
    "everything": (
        {
            "num_heads": 6,
            "num_kv_heads": 2,
            "value_head_dim": DV,
            "d_out": OUT,
            "bias": False,
            "mask": Causal(),
            "softcap": 0.7,
            "scale": 0.6,
            "sinks": True,
            "qk_norm": "layer",
            "gate": True,
        },
        {
            "heads": 6,
            "kv_heads": 2,
            "norm": "layer",
            "visible": np.tri(T, dtype=bool),
            "softcap": 0.7,
            "scale": 0.6,
        },
    ),
}


def make(seed=17, **options):
    """A module in float64, every parameter drawn: zeros and ones would hide a wrong order."""
    torch.manual_seed(seed)
    options = {"d_model": C, "num_heads": H, "head_dim": D, "dtype": torch.float64} | options
    module = MultiHeadAttention(**options)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) / 2)
    return module


def tokens(*shape, seed=19, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_is_the_oracles(name):
    options, said = OPTIONS[name]
    module, x = make(**options), tokens(B, T, C)
    expected, weights = multi_head_oracle(module.state_dict(), x, **({"heads": H} | said))
    with torch.no_grad():
        np.testing.assert_allclose(module(x), expected, **EXACT)
        np.testing.assert_allclose(module(x[1]), expected[1], **EXACT)
        output, given = module(x, return_weights=True)
        np.testing.assert_allclose(output, expected, **EXACT)
        np.testing.assert_allclose(given, weights, **EXACT)
        trace = module.trace(x)
        np.testing.assert_allclose(trace.output, expected, **EXACT)
        np.testing.assert_allclose(trace["weights"].value, weights, **EXACT)


@pytest.mark.parametrize("name", OPTIONS)
def test_gradients_of_every_option(name):
    options, _ = OPTIONS[name]
    module = make(**options)
    x = tokens(1, 3, C).requires_grad_()
    if name == "window":
        module.mask = Causal() & Window(left=1)
    names = [name for name, _ in module.named_parameters()]
    parameters = [p.detach().clone().requires_grad_() for p in module.parameters()]

    def output(x, *values):
        return torch.func.functional_call(module, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(output, (x, *parameters), fast_mode=True)


def test_own_sizes_for_keys_and_values():
    module = make(kdim=2, vdim=17)
    query_in, key_in, value_in = tokens(B, 5, C), tokens(B, T, 2, seed=2), tokens(B, T, 17, seed=3)
    expected, _ = multi_head_oracle(module.state_dict(), query_in, key_in, value_in, heads=H)
    with torch.no_grad():
        np.testing.assert_allclose(module(query_in, key_in, value_in), expected, **EXACT)


def test_values_are_of_the_keys_when_left_out():
    module, x, memory = make(), tokens(B, 5, C), tokens(B, T, C, seed=2)
    torch.testing.assert_close(module(x, memory), module(x, memory, memory), rtol=0, atol=0)
    torch.testing.assert_close(module(x), module(x, x, x), rtol=0, atol=0)


def test_the_mask_of_the_module_and_of_the_call_must_both_allow():
    module, x = make(mask=Causal()), tokens(B, T, C)
    visible = np.tri(T, dtype=bool) & KEEP.numpy()[:, None, None]
    expected, weights = multi_head_oracle(module.state_dict(), x, heads=H, visible=visible)
    with torch.no_grad():
        output, given = module(x, mask=KeyPadding(KEEP), return_weights=True)
    np.testing.assert_allclose(output, expected, **EXACT)
    np.testing.assert_allclose(given, weights, **EXACT)


def test_bias_of_the_call():
    module, x, bias = make(), tokens(B, T, C), tokens(H, T, T, seed=5)
    expected, _ = multi_head_oracle(module.state_dict(), x, heads=H, bias=bias.numpy())
    with torch.no_grad():
        np.testing.assert_allclose(module(x, bias=bias), expected, **EXACT)


def test_a_query_that_sees_nothing_has_no_context():
    module, x = make(mask=~Causal()), tokens(B, T, C)
    with torch.no_grad():
        output, weights = module(x, return_weights=True)
    np.testing.assert_allclose(output[:, -1], module.output.bias.detach().expand(B, C), **EXACT)
    assert not weights[:, :, -1].any()


def test_nan_behind_a_mask_adds_nothing_and_a_visible_one_is_passed_on():
    module, x = make(), tokens(B, T, C)
    padded = x.clone()
    padded[1, 4:] = torch.nan
    with torch.no_grad():
        output = module(padded, mask=KeyPadding(KEEP))
        np.testing.assert_allclose(output[0], module(x[0]), **EXACT)
        np.testing.assert_allclose(output[1, :4], module(x[1, :4]), **EXACT)
        assert output[1, 4:].isnan().all()  # these queries themselves are NaN
        assert module(padded)[1].isnan().all()


def test_weights_do_not_change_the_output():
    module = make(mask=Causal()).float()
    x = tokens(B, 31, C, dtype=torch.float32)
    with torch.no_grad():
        torch.testing.assert_close(
            module(x, return_weights=True)[0], module(x), rtol=1e-6, atol=1e-6
        )


def test_state_dict_keys_are_those_of_the_docstring():
    module = MultiHeadAttention(12, 3, gate=True, qk_norm="layer", sinks=True)
    assert {name: tuple(p.shape) for name, p in module.state_dict().items()} == {
        "sinks": (3,),
        "query.weight": (12, 12),
        "query.bias": (12,),
        "key.weight": (12, 12),
        "key.bias": (12,),
        "value.weight": (12, 12),
        "value.bias": (12,),
        "output.weight": (12, 12),
        "output.bias": (12,),
        "gate.weight": (12, 12),
        "query_norm.weight": (4,),
        "query_norm.bias": (4,),
        "key_norm.weight": (4,),
        "key_norm.bias": (4,),
    }
    assert set(MultiHeadAttention(12, 3, bias=False).state_dict()) == {
        "query.weight",
        "key.weight",
        "value.weight",
        "output.weight",
    }


def test_state_dict_loads_strictly_into_a_fresh_module():
    options = OPTIONS["everything"][0]
    first, second, x = make(**options), make(seed=23, **options), tokens(B, T, C)
    assert not torch.equal(first(x), second(x))
    second.load_state_dict(first.state_dict(), strict=True)
    torch.testing.assert_close(second(x), first(x), rtol=0, atol=0)
    with pytest.raises(RuntimeError, match="Missing key"):
        make(sinks=True).load_state_dict(make().state_dict())


def test_a_deep_copy_is_another_module_with_the_same_output():
    module, x = make(**OPTIONS["everything"][0]), tokens(B, T, C)
    twin = copy.deepcopy(module)
    torch.testing.assert_close(twin(x), module(x), rtol=0, atol=0)
    with torch.no_grad():
        twin.query.weight.zero_()
    assert module.query.weight.abs().sum() > 0


def test_the_input_is_not_modified():
    module, x = make(**OPTIONS["everything"][0]), tokens(B, T, C)
    before = x.clone()
    module(x)
    module.trace(x)
    assert torch.equal(x, before)


# Dropout


def test_dropout_only_while_training():
    module, x = make(dropout=0.5), tokens(B, T, C)
    module.eval()
    torch.testing.assert_close(module(x), make()(x), rtol=0, atol=0)
    module.train()
    torch.manual_seed(1)
    first, second = module(x), module(x)
    assert not torch.equal(first, second)
    torch.manual_seed(1)
    torch.testing.assert_close(module(x), first, rtol=0, atol=0)


def test_dropout_is_what_the_trace_says():
    module, x = make(dropout=0.5), tokens(B, T, C)
    torch.manual_seed(1)
    trace = module.trace(x)
    weights, dropped = (trace[name].value for name in ("weights", "dropped"))
    kept = dropped != 0
    assert 0.3 < kept.double().mean() < 0.7
    torch.testing.assert_close(dropped, weights * kept * 2)
    torch.manual_seed(1)
    torch.testing.assert_close(module(x), trace.output)


# The trace


def test_trace_has_every_step_in_order():
    module = make(qk_norm="rms", gate=True, mask=Causal(), softcap=1.0)
    trace = module.trace(tokens(B, T, C))
    assert [step.name for step in trace] == [
        "query_projection",
        "key_projection",
        "value_projection",
        "normalized_queries",
        "normalized_keys",
        "queries",
        "keys",
        "values",
        "scores",
        "scaled",
        "capped",
        "masked",
        "weights",
        "contexts",
        "gate",
        "gated",
        "concatenated",
        "output",
    ]
    sizes = {"batch": B, "head": H, "query": T, "key": T}
    for step in trace:
        assert len(step.axes) == step.value.ndim
        for axis, size in zip(step.axes, step.value.shape, strict=True):
            assert size == sizes.get(axis, size)
    assert trace["query_projection"].axes == ("batch", "query", "feature")
    assert trace["key_projection"].axes == ("batch", "key", "feature")
    assert trace["contexts"].axes == ("batch", "head", "query", "feature")
    assert trace["concatenated"].axes == ("batch", "query", "feature")
    assert trace.parameters["softcap"] == 1.0


def test_each_step_follows_from_the_one_before():
    module = make(gate=True)
    trace = {step.name: step.value.detach() for step in module.trace(tokens(B, T, C))}
    heads = trace["query_projection"].reshape(B, T, H, D).transpose(1, 2)
    torch.testing.assert_close(trace["queries"], heads, rtol=0, atol=0)
    torch.testing.assert_close(trace["contexts"], trace["weights"] @ trace["values"])
    torch.testing.assert_close(trace["gated"], trace["contexts"] * trace["gate"])
    joined = torch.cat([trace["gated"][:, h] for h in range(H)], dim=-1)
    torch.testing.assert_close(trace["concatenated"], joined, rtol=0, atol=0)
    output = joined @ module.output.weight.T + module.output.bias
    torch.testing.assert_close(trace["output"], output.detach())


def test_trace_of_one_sequence_has_no_batch_axis():
    trace = make().trace(tokens(T, C))
    assert trace["query_projection"].axes == ("query", "feature")
    assert trace["weights"].axes == ("head", "query", "key")
    assert trace["output"].axes == ("query", "feature")


# Heads


def head_masks():
    by_head = Rule(lambda batch, head, query, key: (query + key + head) % 2 == 0)
    explicit = Explicit(tokens(H, T, T).numpy() > -0.5)
    return {
        "none": None,
        "causal": Causal(),
        "rule": by_head,
        "explicit": explicit,
        "both": by_head & Causal(),
        "not": ~explicit,
    }


@pytest.mark.parametrize("mask", head_masks())
@pytest.mark.parametrize("engine", ["auto", "dense", "streaming"])
def test_the_module_is_the_sum_of_its_heads(mask, engine):
    """Σ_h head_h(x) W_out[:, h-th slice]ᵀ + b_out = module(x)."""
    module = make(
        engine=engine,
        value_head_dim=DV,
        mask=head_masks()[mask],
        sinks=True,
        qk_norm="layer",
        gate=True,
        softcap=2.0,
        scale=0.7,
    )
    x = tokens(B, T, C)
    with torch.no_grad():
        total = module.output.bias.expand(B, T, C)
        for h in range(H):
            columns = module.output.weight[:, h * DV : (h + 1) * DV]
            total = total + module.head(h)(x) @ columns.T
        torch.testing.assert_close(total, module(x), rtol=1e-12, atol=1e-12)
        weights = torch.stack([module.head(h)(x, return_weights=True)[1] for h in range(H)], 1)
    expected = module(x, return_weights=True)[1]
    torch.testing.assert_close(weights, expected.detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mask", head_masks())
def test_from_heads_and_back(mask):
    module = make(
        value_head_dim=DV,
        mask=head_masks()[mask],
        sinks=True,
        qk_norm="rms",
        gate=True,
        d_out=OUT,
        kdim=2,
        vdim=17,
        softcap=3.0,
    )
    heads = [module.head(h) for h in range(H)]
    joined = MultiHeadAttention.from_heads(heads, module.output)
    inputs = tokens(B, T, C), tokens(B, T, 2), tokens(B, T, 17)
    torch.testing.assert_close(joined(*inputs), module(*inputs), rtol=0, atol=0)
    assert {k: v.tolist() for k, v in joined.state_dict().items()} == {
        k: v.tolist() for k, v in module.state_dict().items()
    }
    assert joined.output is not module.output


@pytest.mark.parametrize("kv_heads", [1, 2, 6])
def test_heads_of_a_group_share_their_key_head(kv_heads):
    module, x = make(num_heads=6, num_kv_heads=kv_heads), tokens(B, T, C)
    for h in range(6):
        context = module.head(h)(x).detach()
        expected = module.trace(x)["contexts"].value[:, h].detach()
        torch.testing.assert_close(context, expected, rtol=1e-12, atol=1e-12)


def test_heads_of_different_seeds_side_by_side():
    torch.manual_seed(29)
    heads = [AttentionHead(C, D, value_dim=DV, mask=Causal()) for _ in range(H)]
    x = tokens(B, T, C, dtype=torch.float32)
    joined = MultiHeadAttention.from_heads(heads)
    both = torch.cat([head(x) for head in heads], dim=-1)
    torch.testing.assert_close(joined(x), both, rtol=1e-6, atol=1e-6)
    assert joined.output.bias is None


def test_grouped_and_multi_query_heads_are_the_same_class_with_fewer_key_heads():
    grouped = GroupedQueryAttention(C, 6, 2, head_dim=D, dtype=torch.float64)
    plain = make(num_heads=6, num_kv_heads=2)
    plain.load_state_dict(grouped.state_dict())
    x = tokens(B, T, C)
    torch.testing.assert_close(grouped(x), plain(x), rtol=0, atol=0)
    single = MultiQueryAttention(C, 6, head_dim=D, dtype=torch.float64)
    plain = make(num_heads=6, num_kv_heads=1)
    plain.load_state_dict(single.state_dict())
    torch.testing.assert_close(single(x), plain(x), rtol=0, atol=0)


@pytest.mark.parametrize("kv_heads", [1, 2, 6])
def test_a_group_is_consecutive_heads_over_repeated_keys(kv_heads):
    """One key head per query head, the group's repeated, is the same function."""
    grouped = make(num_heads=6, num_kv_heads=kv_heads)
    full = make(num_heads=6)
    state = grouped.state_dict()
    for role in ("key", "value"):
        weight = state[f"{role}.weight"].reshape(kv_heads, D, C)
        bias = state[f"{role}.bias"].reshape(kv_heads, D)
        state[f"{role}.weight"] = weight.repeat_interleave(6 // kv_heads, 0).reshape(-1, C)
        state[f"{role}.bias"] = bias.repeat_interleave(6 // kv_heads, 0).reshape(-1)
    full.load_state_dict(state)
    x = tokens(B, T, C)
    torch.testing.assert_close(grouped(x), full(x), rtol=1e-12, atol=1e-12)


# Half precision and other ways to run


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_modules(dtype):
    module, x = make(qk_norm="rms", sinks=True, gate=True, mask=Causal()), tokens(B, T, C)
    exact = module(x)
    output, weights = module.to(dtype)(x.to(dtype), return_weights=True)
    assert output.dtype == dtype
    assert weights.dtype == torch.float32  # what half-precision inputs are computed in
    rounding = 0.1 if dtype == torch.bfloat16 else 0.02
    torch.testing.assert_close(output.double(), exact, rtol=rounding, atol=rounding)


@pytest.mark.parametrize("options", ["plain", "everything"])
def test_autocast_answers_in_bfloat16_and_learns_in_float32(options):
    module = make(**OPTIONS[options][0]).float()
    x = tokens(B, T, C, dtype=torch.float32).requires_grad_()
    exact = module(x)
    with torch.autocast("cpu", torch.bfloat16):
        output = module(x)
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), exact, rtol=0.1, atol=0.1)
    output.float().sum().backward()
    assert x.grad.dtype == torch.float32
    for parameter in module.parameters():
        assert parameter.grad.isfinite().all()


def test_under_autocast_the_equation_itself_is_as_exact_as_ever():
    """Scores of bfloat16 queries are accumulated in float32, autocast or not (convention 5)."""
    module, x = make().float(), tokens(B, 31, C, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        trace = module.trace(x)
        _, weights = module(x, return_weights=True)
    query, key, value = (trace[name].value for name in ("queries", "keys", "values"))
    assert query.dtype == torch.bfloat16
    exact = atento.trace(*(array.float() for array in (query, key, value)))
    torch.testing.assert_close(trace["weights"].value, exact["weights"].value, rtol=0, atol=0)
    torch.testing.assert_close(weights, exact["weights"].value, rtol=0, atol=0)
    assert torch.equal(trace["contexts"].value, exact.output.bfloat16())


def test_repr_says_what_it_is():
    said = repr(MultiHeadAttention(12, 6, num_kv_heads=2, mask=Causal(), dropout=0.5))
    assert "num_heads=6, num_kv_heads=2, mask=Causal(), dropout=0.5" in said
    assert "(key): Linear(in_features=12, out_features=4, bias=True)" in said
