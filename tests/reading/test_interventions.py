"""Interventions against the formula written out, in single calls and in whole models."""

import gc
import weakref

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from transformers.masking_utils import AttentionMaskInterface, eager_mask

import atento
from atento import Boost, KnockOut, KnockOutEdges, Replace, Temperature, capture
from atento._errors import EngineError, InputError, ShapeError
from atento.equation.computed import Computed
from atento.masks import Causal, KeyPadding, Rule, Window
from atento.nn import MultiHeadAttention
from atento.reading.call import AttentionCall
from atento.reading.interventions.applying import Applying
from atento.reading.interventions.recomputed import recomputed
from reading_models import (
    FAMILIES,
    Kernel,
    Written,
    gemma2,
    gpt2,
    ids,
    llama,
    t5,
    tensors_of,
)

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers")

QUERIES, KEYS, FACTOR, HOT = [2, 5, -1], [0, 3, -2], 3.0, 1.7


def edited(scores, weights, kind, heads, sinks=None, visible=None):
    """Weights (batch, head, query, key) after an intervention, in float64 from the definition.

    Args:
        scores: after softcap and bias, −inf where hidden.
        weights: softmax of them, the sink's share left out.
    """
    made = weights.clone()
    rest = 1 - weights.sum(-1, keepdim=True) if sinks is not None else 0
    edges = torch.zeros(weights.shape[-2:], dtype=torch.float64)
    edges[np.ix_(QUERIES, KEYS)] = 1
    own = weights[:, heads]
    if kind == "knock out edges":
        new = own * (1 - edges)
        new = new / (new.sum(-1, keepdim=True) + (0 if sinks is None else rest[:, heads]))
    elif kind == "boost":
        new = own * torch.where(edges > 0, FACTOR, 1.0)
        new = new / (new.sum(-1, keepdim=True) + (0 if sinks is None else rest[:, heads]))
    elif kind == "temperature":
        new = scores[:, heads] / HOT
        if sinks is not None:
            extra = (sinks[heads] / HOT)[None, :, None, None].expand(*new.shape[:3], 1)
            new = torch.cat([new, extra], dim=-1)
        new = new.softmax(-1)[..., : weights.shape[-1]]
    elif kind == "uniform":
        seen = (scores[:, heads] > -torch.inf).double()
        new = seen / seen.sum(-1, keepdim=True)
    elif kind == "window":
        Tq, Tk = weights.shape[-2:]
        near = (torch.arange(Tq)[:, None] - torch.arange(Tk)).abs() <= 2
        seen = ((scores[:, heads] > -torch.inf) & near).double()
        new = seen / seen.sum(-1, keepdim=True)
    else:
        new = pattern(*weights.shape[-2:]).expand_as(own)
    made[:, heads] = new.nan_to_num(0)
    return made


def pattern(queries, keys):
    """Rows that sum to 1, but for one that attends nowhere."""
    torch.manual_seed(8)
    rows = torch.rand(queries, keys, dtype=torch.float64) * (torch.rand(queries, keys) < 0.5)
    rows[3] = 0
    return rows / rows.sum(-1, keepdim=True).clamp(min=1e-30)


def asked(kind, heads, layer=None, length=None):
    """The intervention of that name."""
    match kind:
        case "knock out edges":
            return KnockOutEdges(layer, heads, queries=QUERIES, keys=KEYS)
        case "boost":
            return Boost(layer, heads, queries=QUERIES, keys=KEYS, factor=FACTOR)
        case "temperature":
            return Temperature(layer, heads, temperature=HOT)
        case "uniform":
            return Replace("uniform", layer, heads)
        case "window":
            return Replace(Window(left=2, right=2, align="start"), layer, heads)
    return Replace(pattern(*length), layer, heads)


KINDS = ("knock out edges", "boost", "temperature", "uniform", "window", "array")


def weights_of(layer):
    """(batch, head, query, key) of a record, as it computes them."""
    return np.array(
        [[layer.weights(h, batch=b) for h in range(layer.heads)] for b in range(layer.batch)]
    )


class Asked(nn.Module):
    """The front door, as a model."""

    def forward(self, query, key, value, **options):
        return atento.attention(query, key, value, **options)


class Called(nn.Module):
    """Torch's own attention, as a model."""

    def forward(self, query, key, value, **options):
        return functional.scaled_dot_product_attention(query, key, value, **options)


def cases():
    """Options of the equation, by name."""
    torch.manual_seed(5)
    seen = torch.rand(2, 1, 11, 11) < 0.7
    seen[..., 0] = True
    seen[1, 0, 4] = False  # a query that sees no key
    keep = np.ones((2, 11), bool)
    keep[1, 8:] = False
    return {
        "plain": {},
        "causal": {"mask": Causal()},
        "pairs": {"mask": seen},
        "padding and window": {"mask": KeyPadding(keep) & Window(left=4) & Causal()},
        "a rule by head": {"mask": Rule(lambda b, h, q, k: (k <= q) | (h == 1))},
        "sinks": {"sinks": torch.randn(6), "mask": Causal()},
        "one sink": {"sinks": 0.7},
        "bias": {"bias": torch.randn(11, 11), "mask": Causal()},
        "bias by head": {"bias": torch.randn(6, 11, 11), "scale": 0.3},
        "softcap": {"softcap": 1.5, "mask": Causal()},
        "all": {
            "softcap": 1.5,
            "sinks": torch.randn(6),
            "bias": torch.randn(2, 6, 11, 11),
            "mask": Causal(),
            "scale": 0.4,
        },
    }


def tensors(dtype=torch.float64):
    torch.manual_seed(6)
    return (
        torch.randn(2, 6, 11, 5, dtype=dtype),
        torch.randn(2, 3, 11, 5, dtype=dtype),
        torch.randn(2, 3, 11, 7, dtype=dtype),
    )


def written_out(query, key, value, mask=None, bias=None, scale=None, softcap=None, sinks=None):
    """Scores, weights and sinks in float64."""
    query, key = query.double(), key.double().repeat_interleave(2, dim=1)
    scores = query @ key.mT * (5**-0.5 if scale is None else scale)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if bias is not None:
        scores = scores + bias
    if mask is not None:
        seen = mask
        if not isinstance(mask, torch.Tensor):
            bound = mask.bind(tuple(scores.shape))
            tiles = [
                [bound.at((b, h)).block(range(11), range(11)) for h in range(6)] for b in range(2)
            ]
            seen = torch.tensor(
                np.array(
                    [
                        [np.broadcast_to(getattr(t, "value", t), (11, 11)) for t in row]
                        for row in tiles
                    ]
                )
            )
        scores = scores.masked_fill(~seen, -torch.inf)
    if sinks is not None:
        sinks = torch.as_tensor(sinks, dtype=torch.float64).expand(6)
        extra = sinks[None, :, None, None].expand(2, 6, 11, 1)
        weights = torch.cat([scores, extra], -1).softmax(-1)[..., :-1]
    else:
        weights = scores.softmax(-1)
    return scores, weights.nan_to_num(0), sinks


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", cases())
@pytest.mark.parametrize("heads", [None, [4, 1]])
def test_outputs_and_weights_are_those_of_the_formula(name, kind, heads):
    options, (query, key, value) = cases()[name], tensors()
    if kind == "temperature" and heads is not None and "softcap" in options:
        return  # refused: see below
    model = Asked()
    plain = model(query, key, value, **options)
    with capture(model, interventions=asked(kind, heads, length=(11, 11)), statistics=()) as seen:
        found = model(query, key, value, **options)
    scores, weights, sinks = written_out(query, key, value, **options)
    which = list(range(6)) if heads is None else heads
    expected = edited(scores, weights, kind, which, sinks)
    np.testing.assert_allclose(weights_of(seen[0]), expected, rtol=0, atol=1e-12)
    output = expected @ value.repeat_interleave(2, dim=1)
    np.testing.assert_allclose(found, output, rtol=0, atol=1e-12)
    others = [h for h in range(6) if h not in which]
    assert torch.equal(found[:, others], plain[:, others])
    assert not torch.allclose(found[:, which], plain[:, which])


@pytest.mark.parametrize("kind", KINDS)
def test_statistics_are_those_of_the_changed_weights(kind):
    query, key, value = tensors()
    model, kept = Asked(), ["entropy", "max"]
    with capture(
        model, interventions=asked(kind, [1, 4], length=(11, 11)), statistics=kept
    ) as seen:
        model(query, key, value, mask=Causal())
    scores, weights, _ = written_out(query, key, value, mask=Causal())
    w = edited(scores, weights, kind, [1, 4]).numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.where(w > 0, w * np.log(w), 0).sum(-1)
    np.testing.assert_allclose(seen[0].statistics["entropy"], entropy, rtol=0, atol=1e-10)
    np.testing.assert_allclose(seen[0].statistics["max"], w.max(-1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("by", ["zero", "mean"])
def test_heads_are_knocked_out_and_their_weights_kept(by):
    query, key, value = tensors()
    model = Asked()
    with capture(model, interventions=KnockOut(heads=[-1, 2], by=by), statistics=()) as seen:
        found = model(query, key, value, mask=Causal())
    plain = model(query, key, value, mask=Causal())
    expected = plain.clone()
    for head in (5, 2):
        expected[:, head] = 0 if by == "zero" else plain[:, head].mean(1, keepdim=True)
    assert torch.equal(found, expected)
    _, weights, _ = written_out(query, key, value, mask=Causal())
    np.testing.assert_allclose(weights_of(seen[0]), weights, rtol=0, atol=1e-12)


def test_interventions_compose_and_knock_outs_come_last():
    query, key, value = tensors()
    several = [
        KnockOut(heads=0, by="mean"),
        Boost(heads=[0, 1], queries=QUERIES, keys=KEYS, factor=FACTOR),
        Temperature(heads=1, temperature=HOT),
        KnockOutEdges(heads=1, queries=5),
        KnockOut(heads=3),
    ]
    model = Asked()
    with capture(model, interventions=several, statistics=()) as seen:
        found = model(query, key, value, mask=Causal())
    scores, weights, _ = written_out(query, key, value, mask=Causal())
    boosted = edited(scores, weights, "boost", [0, 1])
    hot = boosted[:, 1] ** (1 / HOT)
    boosted[:, 1] = hot / hot.sum(-1, keepdim=True)
    boosted[:, 1, 5] = 0
    np.testing.assert_allclose(weights_of(seen[0]), boosted, rtol=0, atol=1e-12)
    output = boosted @ value.repeat_interleave(2, dim=1)
    output[:, 0] = output[:, 0].mean(1, keepdim=True)
    output[:, 3] = 0
    np.testing.assert_allclose(found, output, rtol=0, atol=1e-12)


def test_the_order_counts():
    query, key, value = tensors()
    boost, hot = Boost(keys=2, factor=5.0), Temperature(temperature=2.0)
    model, found = Asked(), []
    for several in ([boost, hot], [hot, boost]):
        with capture(model, interventions=several, statistics=()) as seen:
            model(query, key, value)
        found.append(weights_of(seen[0]))
    _, w, _ = written_out(query, key, value)
    factor = torch.ones(11, dtype=torch.float64)
    factor[2] = 5
    first, second = (w * factor) ** 0.5, w**0.5 * factor
    for weights, own in zip(found, (first, second), strict=True):
        np.testing.assert_allclose(weights, own / own.sum(-1, keepdim=True), rtol=0, atol=1e-12)


@given(
    rows=st.sets(st.integers(-11, 10), min_size=1),
    keys=st.sets(st.integers(-11, 10), min_size=1),
    heads=st.sets(st.integers(0, 5), min_size=1),
    factor=st.floats(1e-3, 1e3),
    softcap=st.none() | st.floats(0.5, 5),
)
@settings(deadline=None, max_examples=40)
def test_boosted_weights_are_a_factor_apart_before_they_are_divided(
    rows, keys, heads, factor, softcap
):
    query, key, value = tensors()
    model = Asked()
    changes = Boost(heads=heads, queries=rows, keys=keys, factor=factor)
    with capture(model, interventions=changes, statistics=()) as seen:
        found = model(query, key, value, mask=Causal(), softcap=softcap)
    _, expected, _ = written_out(query, key, value, mask=Causal(), softcap=softcap)
    for head in heads:
        for row in {r % 11 for r in rows}:
            expected[:, head, row, sorted({k % 11 for k in keys})] *= factor
    expected = expected / expected.sum(-1, keepdim=True)
    np.testing.assert_allclose(weights_of(seen[0]), expected, rtol=0, atol=1e-11)
    output = expected @ value.repeat_interleave(2, dim=1)
    np.testing.assert_allclose(found, output, rtol=0, atol=1e-11)


def test_a_boost_and_its_inverse_change_nothing():
    query, key, value = tensors()
    model = Asked()
    several = [Boost(keys=2, factor=7.0), Boost(keys=2, factor=1 / 7)]
    with capture(model, interventions=several, statistics=()) as seen:
        found = model(query, key, value)
    np.testing.assert_allclose(found, model(query, key, value), rtol=0, atol=1e-13)
    _, weights, _ = written_out(query, key, value)
    np.testing.assert_allclose(weights_of(seen[0]), weights, rtol=0, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single_and_rounded_at_the_end(dtype):
    query, key, value = (each.to(dtype) for each in tensors())
    model = Asked()
    with capture(model, interventions=Boost(keys=2, factor=5.0), statistics=()) as seen:
        found = model(query, key, value)
    assert found.dtype == dtype
    _, weights, _ = written_out(query, key, value)
    factor = torch.ones(11, dtype=torch.float64)
    factor[2] = 5
    expected = weights * factor
    expected = expected / expected.sum(-1, keepdim=True)
    np.testing.assert_allclose(weights_of(seen[0]), expected, rtol=0, atol=1e-6)
    output = expected @ value.double().repeat_interleave(2, dim=1)
    np.testing.assert_allclose(found.double(), output, rtol=2 * torch.finfo(dtype).eps, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_flow_through_what_was_changed(kind):
    query, key, value = (each.requires_grad_() for each in tensors())
    model = Asked()
    with capture(model, interventions=asked(kind, [4, 1], length=(11, 11)), statistics=()):
        found = model(query, key, value, mask=Causal())
    torch.manual_seed(1)
    upstream = torch.randn_like(found)
    got = torch.autograd.grad(found, (query, key, value), upstream, allow_unused=True)
    seen = torch.ones(11, 11).tril().bool()
    scores = query @ key.repeat_interleave(2, dim=1).mT * 5**-0.5
    scores = scores.masked_fill(~seen, -torch.inf)
    weights = edited(scores, scores.softmax(-1), kind, [4, 1])
    output = weights @ value.repeat_interleave(2, dim=1)
    expected = torch.autograd.grad(output, (query, key, value), upstream)
    for own, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(own, other, rtol=0, atol=1e-11)


def test_a_rule_by_head_that_no_call_has_bound_keeps_its_heads():
    query, key, value = tensors()
    rule = Rule(lambda b, h, q, k: (k <= q) | (h == 1))
    call = AttentionCall("l", "self", None, "sdpa", query, key, value, mask=rule)
    (changed,) = Applying(Temperature(heads=[4, 1], temperature=HOT)).changed(
        [call], "l", None, 0, lambda call: call
    )
    found = recomputed(changed, Computed(torch.zeros(2, 6, 11, 7, dtype=torch.float64)))
    scores, weights, _ = written_out(query, key, value, mask=rule)
    expected = edited(scores, weights, "temperature", [4, 1])[:, [4, 1]]
    output = expected @ value.repeat_interleave(2, dim=1)[:, [4, 1]]
    np.testing.assert_allclose(found.output[:, [4, 1]], output, rtol=0, atol=1e-12)


def test_no_matrix_is_made_for_edges():
    """Rows, keys and features alone grow: 2**31 weights would not fit."""
    T = 2**15
    query = torch.zeros(1, 2, T, 4)
    call = AttentionCall("l", "self", None, "sdpa", query, query, query)
    several = [
        KnockOutEdges(queries=slice(9, None), keys=[0, 5]),
        Boost(heads=1, queries=[3, -1], keys=slice(0, 99), factor=2.0),
        Temperature(heads=1, temperature=2.0),
        Replace("uniform", heads=0),
        Replace(Window(left=9), heads=0),
    ]
    (made,) = Applying(several).changed([call], "l", None, 0, lambda call: call)
    assert made.bias is None
    assert made.query.shape == made.key.shape == (1, 2, T, 5)


# Whole models, against the same edit in attention written out.


@pytest.fixture
def reference():
    """`reference(make, kind, heads, layer)`: outputs and weights of the model, edited by hand."""
    interface, masks = transformers.AttentionInterface, AttentionMaskInterface

    def run(make, inputs, edit):
        found = {}

        def attend(module, query, key, value, attention_mask, scaling=None, **kwargs):
            key, value = (
                each.double().repeat_interleave(query.shape[1] // key.shape[1], dim=1)
                for each in (key, value)
            )
            scores = (
                query.double() @ key.mT * (query.shape[-1] ** -0.5 if scaling is None else scaling)
            )
            softcap = kwargs.get("softcap")
            if softcap is not None:
                scores = softcap * torch.tanh(scores / softcap)
            if kwargs.get("position_bias") is not None:
                scores = scores + kwargs["position_bias"]
            hidden = torch.zeros_like(scores, dtype=torch.bool)
            if attention_mask is not None:
                hidden = hidden | (attention_mask[..., : scores.shape[-1]] < -1e30)
            scores = scores.masked_fill(hidden, -torch.inf)
            sinks = kwargs.get("s_aux")
            logits = scores
            if sinks is not None:
                sinks = sinks.double()
                extra = sinks[None, :, None, None].expand(*scores.shape[:3], 1)
                logits = torch.cat([scores, extra], -1)
            weights = logits.softmax(-1)[..., : scores.shape[-1]].nan_to_num(0)
            number = len(found)
            weights = found[number] = edit(number, scores, weights, sinks)
            return (weights @ value).transpose(1, 2).to(query.dtype).contiguous(), None

        interface.register("by_hand", attend)
        masks.register("by_hand", eager_mask)
        try:
            with torch.no_grad():
                return tensors_of(make(attn_implementation="by_hand").model(**inputs)), found
        finally:
            interface._global_mapping.pop("by_hand", None)
            masks._global_mapping.pop("by_hand", None)

    return run


BY_INTERFACE = ["gpt2", "llama", "bert", "gemma2", "mistral", "gpt_oss", "vit", "whisper"]


# Gemma 2 has no softcap behind sdpa, and gpt-oss no sdpa.
WAYS = [
    (name, way)
    for name in BY_INTERFACE
    for way in ("sdpa", "eager")
    if way == "eager" or name not in ("gemma2", "gpt_oss")
]


@pytest.mark.parametrize("kind", KINDS[:4])
@pytest.mark.parametrize(("name", "implementation"), WAYS)
def test_whole_models_are_changed_as_by_hand(reference, name, kind, implementation):
    family = FAMILIES[name](attn_implementation=implementation)
    layer = family.layers[-1] if name != "whisper" else family.layers[2]
    heads = None if name == "gemma2" else [2, 0]
    cross = family.layers.index(layer)

    def edit(number, scores, weights, sinks):
        if number != cross:
            return weights
        which = list(range(scores.shape[1])) if heads is None else heads
        return edited(scores, weights, kind, which, sinks)

    expected, by_hand = reference(FAMILIES[name], family.inputs, edit)
    changed = capture(family.model, interventions=asked(kind, heads, layer), statistics=())
    with torch.no_grad(), changed as seen:
        found = tensors_of(family.model(**family.inputs))
    for own, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(own, other, rtol=0, atol=1e-5 * (1 + other.abs().max()))
    for number, record in enumerate(seen):
        np.testing.assert_allclose(weights_of(record), by_hand[number], rtol=0, atol=1e-5)
    with torch.no_grad():
        plain = tensors_of(family.model(**family.inputs))[0]
    assert not torch.allclose(plain, found[0], atol=1e-4)


@pytest.mark.parametrize("kind", [*KINDS[:4], "knock out"])
def test_cross_attention_of_t5_is_changed(monkeypatch, kind):
    family, layer = FAMILIES["t5"](), "decoder.block.1.layer.1.EncDecAttention"
    changes = KnockOut(layer, 1) if kind == "knock out" else asked(kind, 1, layer)
    with torch.no_grad(), capture(family.model, interventions=changes, statistics=()) as seen:
        found = family.model(**family.inputs).logits
    with torch.no_grad(), capture(family.model, statistics=()) as plain:
        family.model(**family.inputs)
    own = plain[layer]
    q, k = (torch.from_numpy(each).double() for each in (own.query, own.key))
    scores = q @ k.mT * own.scale
    weights = scores.softmax(-1)
    if kind != "knock out":
        weights = edited(scores, weights, kind, [1])
    np.testing.assert_allclose(weights_of(seen[layer]), weights, rtol=0, atol=1e-5)

    kernel = transformers.AttentionInterface._global_mapping["sdpa"]
    target = dict(family.model.named_modules())[layer]

    def by_hand(module, query, key, value, mask, *args, **kwargs):
        output, none = kernel(module, query, key, value, mask, *args, **kwargs)
        if module is target:
            output = (weights.float() @ value).transpose(1, 2)
            if kind == "knock out":
                output[:, :, 1] = 0
        return output, none

    monkeypatch.setitem(transformers.AttentionInterface._global_mapping, "sdpa", by_hand)
    with torch.no_grad():
        expected = family.model(**family.inputs).logits
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["gpt2", "bert", "llama"])
def test_a_layer_without_heads_adds_only_the_bias_of_its_output_projection(name):
    family = FAMILIES[name]()
    layer = family.layers[1]
    module = dict(family.model.named_modules())[layer]
    outputs = []
    with torch.no_grad(), capture(family.model, interventions=KnockOut(layer), statistics=()):
        handle = module.register_forward_hook(lambda _m, _a, made: outputs.append(made[0]))
        family.model(**family.inputs)
        handle.remove()
    bias = module.c_proj.bias if name == "gpt2" else torch.zeros(outputs[0].shape[-1])
    np.testing.assert_array_equal(outputs[0], bias.detach().expand_as(outputs[0]))


def test_eager_models_return_the_changed_weights():
    family = llama(attn_implementation="eager")
    changes = KnockOutEdges(layer=1, heads=3, queries=slice(4, None), keys=0)
    with torch.no_grad(), capture(family.model, interventions=changes, statistics=()) as seen:
        made = family.model(**family.inputs, output_attentions=True)
    assert not made.attentions[1][:, 3, 4:, 0].any()
    np.testing.assert_allclose(made.attentions[1], weights_of(seen[1]), rtol=0, atol=1e-6)


def test_parameters_get_the_gradients_of_eager_attention():
    changes = [
        KnockOutEdges(1, 2, queries=[3, -1], keys=[0, 1]),
        Temperature(0, temperature=0.5),
        KnockOut(1, 0, by="mean"),
    ]
    found = []
    for implementation in ("sdpa", "eager"):
        family = llama(attn_implementation=implementation)
        with capture(family.model, interventions=changes, statistics=()):
            family.model(**family.inputs).logits.square().mean().backward()
        found.append([p.grad for p in family.model.parameters()])
    for own, other in zip(*found, strict=True):
        np.testing.assert_allclose(own, other, rtol=0, atol=1e-5 * other.abs().max())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model_class", [Written, Kernel])
def test_hand_written_models_are_changed(kind, model_class):
    torch.manual_seed(2)
    model = model_class().double()
    x = torch.randn(2, 11, 15, dtype=torch.float64, requires_grad=True)
    q, k, v = (part.view(2, 11, 3, 5).transpose(1, 2) for part in model.qkv(x).chunk(3, -1))
    scores = (q @ k.mT / 5**0.5).masked_fill(torch.ones(11, 11).triu(1).bool(), -torch.inf)
    weights = edited(scores, scores.softmax(-1), kind, [2, 0])
    expected = (weights @ v).transpose(1, 2).reshape(2, 11, 15)
    changes = asked(kind, [2, 0], length=(11, 11))
    with capture(model, interventions=changes, statistics=()) as seen:
        found = model(x)
    np.testing.assert_allclose(weights_of(seen[0]), weights.detach(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.detach(), expected.detach(), rtol=0, atol=1e-12)
    own, other = (torch.autograd.grad(each.square().sum(), x)[0] for each in (found, expected))
    np.testing.assert_allclose(own, other, rtol=0, atol=1e-10)


@pytest.mark.parametrize("by", ["zero", "mean"])
def test_heads_of_a_formula_written_out_are_knocked_out_by_their_weights(by):
    torch.manual_seed(2)
    model, x = Written().double(), torch.randn(2, 11, 15, dtype=torch.float64)
    kernel = Kernel().double()
    kernel.load_state_dict(model.state_dict())
    found = []
    for each in (model, kernel):
        changes = KnockOut(heads=1, by=by)
        with torch.no_grad(), capture(each, interventions=changes, statistics=()) as seen:
            found.append(each(x))
        assert weights_of(seen[0])[:, 1].any()
    np.testing.assert_allclose(found[0], found[1], rtol=0, atol=1e-13)
    assert not torch.allclose(found[0], model(x))


def test_bloom_is_changed_as_by_hand(monkeypatch):
    family = FAMILIES["bloom"]()
    layer = family.layers[0]
    changes = Boost(layer, [1, 3], queries=QUERIES, keys=KEYS, factor=FACTOR)
    with torch.no_grad(), capture(family.model, interventions=changes, statistics=()) as seen:
        found = family.model(**family.inputs).logits
    from transformers.models.bloom import modeling_bloom

    calls, softmax = [], functional.softmax

    class Edited:
        def __getattr__(self, name):
            return getattr(functional, name)

        @staticmethod
        def softmax(scores, **options):
            weights = softmax(scores, **options)
            calls.append(weights)
            if len(calls) > 1:
                return weights
            whole = weights.reshape(2, 5, 13, 13).double()
            calls[0] = edited(whole, whole, "boost", [1, 3])
            return calls[0].to(weights).reshape(weights.shape)

    monkeypatch.setattr(modeling_bloom, "F", Edited())
    with torch.no_grad():
        expected = family.model(**family.inputs).logits
    np.testing.assert_allclose(weights_of(seen[0]), calls[0], rtol=0, atol=1e-5)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * (1 + expected.abs().max()))


def by_hand_in_heads(module, query, weights_edit):
    """`nn.MultiheadAttention` of (batch, token, feature), written out."""
    B, T, C = query.shape
    q, k, v = (
        part.view(B, T, module.num_heads, -1).transpose(1, 2)
        for part in functional.linear(query, module.in_proj_weight, module.in_proj_bias).chunk(
            3, -1
        )
    )
    scores = (q @ k.mT / q.shape[-1] ** 0.5).double()
    weights = weights_edit(scores, scores.softmax(-1))
    output = (weights.float() @ v).transpose(1, 2).reshape(B, T, C)
    return module.out_proj(output), weights


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("need_weights", [False, True])
def test_multi_head_attention_of_torch_is_changed(kind, need_weights):
    torch.manual_seed(3)
    model = nn.MultiheadAttention(15, 3, batch_first=True).eval()
    x = torch.randn(2, 11, 15)
    expected, weights = by_hand_in_heads(model, x, lambda s, w: edited(s, w, kind, [1]))
    changes = asked(kind, 1, length=(11, 11))
    with torch.no_grad(), capture(model, interventions=changes, statistics=()) as seen:
        found, mean = model(x, x, x, need_weights=need_weights)
    np.testing.assert_allclose(found, expected.detach(), rtol=0, atol=1e-6)
    np.testing.assert_allclose(weights_of(seen[0]), weights.detach(), rtol=0, atol=1e-6)
    if need_weights:
        np.testing.assert_allclose(mean, weights.mean(1).detach(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("changes", [KnockOut(0, 1), Boost(0, 1, keys=2, factor=9.0)])
def test_the_fast_path_of_the_transformer_encoder_is_changed(changes):
    torch.manual_seed(3)
    layer = nn.TransformerEncoderLayer(15, 3, 31, batch_first=True)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    x = torch.randn(2, 11, 15)
    with torch.no_grad(), capture(model, interventions=changes, statistics=()):
        found = model(x)
    own = model.layers[0].self_attn
    q, k, v = (
        part.view(2, 11, 3, 5).transpose(1, 2)
        for part in functional.linear(x, own.in_proj_weight, own.in_proj_bias).chunk(3, -1)
    )
    weights = (q @ k.mT / 5**0.5).softmax(-1)
    if isinstance(changes, Boost):
        weights[:, 1, :, 2] *= 9
        weights = weights / weights.sum(-1, keepdim=True)
    output = weights @ v
    if isinstance(changes, KnockOut):
        output[:, 1] = 0
    attended = own.out_proj(output.transpose(1, 2).reshape(2, 11, 15))
    first = model.layers[0]
    h = first.norm1(x + attended)
    h = first.norm2(h + first.linear2(first.linear1(h).relu()))
    expected = model.layers[1](h)
    np.testing.assert_allclose(found, expected.detach(), rtol=0, atol=1e-5)


def test_modules_of_atento_are_changed_with_their_weights():
    torch.manual_seed(3)
    model = MultiHeadAttention(12, 6, num_kv_heads=2, mask=Causal() & Window(left=4))
    x = torch.randn(2, 11, 12)
    changes = Boost(heads=4, keys=3, factor=5.0)
    with torch.no_grad():
        plain, weights = model(x, return_weights=True)
        with capture(model, interventions=changes, statistics=()) as seen:
            found, changed = model(x, return_weights=True)
    expected = weights.clone()
    expected[:, 4, :, 3] *= 5
    expected[:, 4] /= expected[:, 4].sum(-1, keepdim=True)
    np.testing.assert_allclose(changed, expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(weights_of(seen[0]), expected, rtol=0, atol=1e-6)
    assert not torch.allclose(found, plain)
    # Key 3 is hidden from these.
    np.testing.assert_allclose(found[:, :3], plain[:, :3], rtol=0, atol=1e-6)


def test_half_of_the_batch_is_padded():
    family = gpt2()
    keep = torch.ones(2, 13, dtype=torch.long)
    keep[1, :5] = 0
    changes = KnockOutEdges(1, 2, queries=slice(6, None), keys=[6, -1])
    with torch.no_grad(), capture(family.model, interventions=changes, statistics=()) as seen:
        family.model(**family.inputs, attention_mask=keep)
    with torch.no_grad(), capture(family.model, statistics=()) as plain:
        family.model(**family.inputs, attention_mask=keep)
    expected = weights_of(plain[1])
    expected[:, 2, 6:, [6, 12]] = 0
    expected[:, 2] /= np.maximum(expected[:, 2].sum(-1, keepdims=True), 1e-30)
    np.testing.assert_allclose(weights_of(seen[1]), expected, rtol=0, atol=1e-6)


# Cached decoding.


@pytest.mark.parametrize("name", ["gpt2", "llama", "mistral", "gpt_oss", "bloom"])
@pytest.mark.parametrize(
    "changes",
    [
        Boost(1, [1, 2], queries=slice(5, None), keys=4, factor=FACTOR),
        KnockOutEdges(1, 2, queries=[6, 9], keys=[1, 4]),
        Temperature(1, 0, temperature=HOT),
        Replace(Window(left=2), 1, 0),
        KnockOut(0, 2),
    ],
    ids=lambda each: type(each).__name__,
)
def test_positions_are_those_of_the_whole_sequence_while_a_cache_grows(name, changes):
    family = FAMILIES[name]()
    tokens = family.inputs["input_ids"]
    with torch.no_grad(), capture(family.model, interventions=changes, statistics=()) as whole:
        expected = family.model(**family.inputs).logits
    found, cache = [], None
    with torch.no_grad(), capture(family.model, interventions=changes, statistics=()) as steps:
        for start, stop in ((0, 7), (7, 8), (8, 13)):
            made = family.model(
                input_ids=tokens[:, start:stop], past_key_values=cache, use_cache=True
            )
            cache = made.past_key_values
            found.append(made.logits)
    size = 1 + expected.abs().max()
    np.testing.assert_allclose(torch.cat(found, 1), expected, rtol=0, atol=2e-5 * size)
    for one, other in zip(steps, whole, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(weights_of(one), weights_of(other), rtol=0, atol=2e-5)


def test_queries_of_cross_attention_stand_where_their_own_stack_is():
    family = t5()
    layer = "decoder.block.1.layer.1.EncDecAttention"
    changes = KnockOutEdges(layer, 1, queries=[2, 5], keys=slice(0, 4))
    tokens = family.inputs["decoder_input_ids"]
    with torch.no_grad(), capture(family.model, interventions=changes, statistics=()) as whole:
        expected = family.model(**family.inputs).logits
    hidden = (weights_of(whole[layer])[:, 1, :, :4] == 0).all((0, 2))
    np.testing.assert_array_equal(np.flatnonzero(hidden), [2, 5])
    with torch.no_grad(), capture(family.model, interventions=changes, statistics=()):
        cache, states, found = None, None, []
        for start, stop in ((0, 4), (4, 5), (5, 7)):
            made = family.model(
                **({"encoder_outputs": (states,)} if cache else family.inputs)
                | {"decoder_input_ids": tokens[:, start:stop], "past_key_values": cache},
                use_cache=True,
            )
            cache, states = made.past_key_values, made.encoder_last_hidden_state
            found.append(made.logits)
    np.testing.assert_allclose(torch.cat(found, 1), expected, rtol=0, atol=1e-4)


def test_a_cache_with_room_ends_where_the_tokens_end():
    family = llama()
    tokens = family.inputs["input_ids"]
    cache = transformers.StaticCache(config=family.model.config, max_cache_len=17)
    changes = KnockOutEdges(1, 3, keys=-1)
    with torch.no_grad(), capture(family.model, interventions=changes, statistics=()) as seen:
        family.model(input_ids=tokens[:, :12], past_key_values=cache)
        family.model(input_ids=tokens[:, 12:], past_key_values=cache)
    last = seen.records[-1]
    assert last.keys == 17
    assert not weights_of(last)[:, 3, -1, 12].any()
    assert weights_of(last)[:, 2, -1, 12].all()


def test_a_boost_from_the_end_is_refused_while_a_cache_grows():
    family = gpt2()
    tokens = family.inputs["input_ids"]
    changes = Boost(1, keys=-1, factor=2.0)
    with torch.no_grad(), capture(family.model, interventions=changes, statistics=()):
        cache = family.model(input_ids=tokens[:, :7], use_cache=True).past_key_values
        with pytest.raises(EngineError, match="count them from 0"):
            family.model(input_ids=tokens[:, 7:], past_key_values=cache)


# What is asked for.


def test_layers_are_names_patterns_and_numbers():
    family = gpt2()
    found = []
    for layer in (1, "transformer.h.1.attn", "*.1.*", [1]):
        if isinstance(layer, list):
            continue
        changes = KnockOut(layer, heads=range(1, 3))
        with torch.no_grad(), capture(family.model, interventions=changes, statistics=()):
            found.append(family.model(**family.inputs).logits)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@pytest.mark.parametrize(
    "same",
    [
        [0, 2, 4],
        (4, 2, 0),
        range(0, 5, 2),
        slice(0, 5, 2),
        np.array([0, 2, 4]),
        torch.tensor([0, 2, 4]),
        np.array([True, False, True, False, True]),
        torch.tensor([True, False, True, False, True]),
        [-11, -9, -7],
        slice(-11, -6, 2),
    ],
)
def test_positions_are_said_in_many_ways(same):
    query, key, value = tensors()
    model = Asked()
    with capture(model, interventions=KnockOutEdges(keys=same), statistics=()) as seen:
        model(query, key, value)
    hidden = (weights_of(seen[0]) == 0).all((0, 1, 2))
    np.testing.assert_array_equal(np.flatnonzero(hidden), [0, 2, 4])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Boost(keys=1, factor=0), "factor must be a finite number above 0; got 0"),
        (lambda: Boost(keys=1, factor=-2.0), "factor must be a finite number above 0; got -2.0"),
        (lambda: Boost(keys=1, factor=float("nan")), "factor must be .* got nan"),
        (lambda: Boost(keys=1, factor="3"), "factor must be .* got '3'"),
        (lambda: Temperature(temperature=0), "temperature must be a finite number above 0; got 0"),
        (lambda: Temperature(temperature=float("inf")), "temperature must be .* got inf"),
        (lambda: KnockOut(by="noise"), 'by must be "zero" or "mean"; got .noise.'),
        (lambda: KnockOut(layer=-1), "counted from 0"),
        (lambda: KnockOut(layer=1.5), "layer must be a module path, a pattern or a number"),
        (lambda: KnockOut(heads=[]), "heads is empty"),
        (lambda: KnockOut(heads=True), "heads must be a whole number"),
        (lambda: KnockOutEdges(keys="all"), "keys must be a whole number"),
        (lambda: KnockOutEdges(queries=1.5), "queries must be a whole number"),
        (lambda: KnockOutEdges(queries=np.ones((2, 2), bool)), "queries must be a whole number"),
        (lambda: Replace("sharp"), 'pattern must be "uniform", a mask or an array; got .sharp.'),
        (lambda: Replace(np.ones((3, 3))), r"row \(0,\) sums to 3"),
        (lambda: Replace(-np.eye(3)), "it has negative numbers or NaN"),
        (lambda: Replace(np.eye(3) * np.nan), "it has negative numbers or NaN"),
        (lambda: Replace(np.ones(3)), r"axes \(query, key\).* got float64 of shape \(3,\)"),
        (lambda: Replace(np.eye(3) > 0), "got bool of shape .* give a mask"),
        (lambda: capture(nn.Linear(2, 2), interventions="all").__enter__(), "interventions are"),
        (lambda: capture(nn.Linear(2, 2), interventions=[KnockOut]).__enter__(), "got <class"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_the_model_runs(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            KnockOut(layer=7),
            r"KnockOut\(layer=7.*no attention was seen in layer 7. There was in 0:",
        ),
        (KnockOut(layer="*.mlp"), "no attention was seen in layer '.*mlp'"),
        (KnockOut(layer=0, heads=[1, 5]), r"never came: heads 5 \(there were 5\)"),
        (KnockOut(layer=0, heads=-6), r"heads -6 \(there were 5\)"),
        (Boost(keys=13, factor=2.0), r"keys 13 \(there were 13\)"),
        (KnockOutEdges(queries=[2, 40], keys=0), r"queries 40 \(there were 13\)"),
        (KnockOutEdges(keys=slice(20, None)), r"keys slice\(20, None, None\) \(there were 13\)"),
        (Replace(np.eye(20)), "rows of the pattern from 13 on"),
    ],
)
def test_what_never_came_is_an_error_at_the_end(changes, message):
    family = gpt2()
    with torch.no_grad(), pytest.raises(InputError, match=message):  # noqa: SIM117
        with capture(family.model, interventions=changes, statistics=()):
            family.model(**family.inputs)
    with (
        torch.no_grad(),
        capture(family.model, interventions=changes, statistics=(), strict=False) as seen,
    ):
        family.model(**family.inputs)
    assert [name for name, _ in seen.skipped] == ["interventions"]


def test_patterns_that_do_not_fit_are_refused_by_the_layers_name():
    family = gpt2()
    for rows, message in (
        (np.eye(5), r"transformer.h.1.attn: the pattern has the shape \(5, 5\), and .*2, 13, 13"),
        (np.stack([np.eye(13)] * 3), r"the pattern has the shape \(3, 13, 13\)"),
    ):
        with torch.no_grad(), pytest.raises(ShapeError, match=message):  # noqa: SIM117
            with capture(family.model, interventions=Replace(rows, 1), statistics=()):
                family.model(**family.inputs)
    longer = np.zeros((20, 20))
    longer[:, 0] = 1
    with torch.no_grad(), pytest.raises(InputError, match="rows of the pattern from 13 on"):  # noqa: SIM117
        with capture(family.model, interventions=Replace(longer, 1), statistics=()):
            family.model(**family.inputs)


def test_a_temperature_for_some_heads_behind_a_softcap_is_refused():
    family = gemma2()
    changes = Temperature(0, 1, temperature=2.0)
    message = r"model.layers.0.self_attn: Temperature.* one softcap for all"
    with torch.no_grad(), pytest.raises(EngineError, match=message):  # noqa: SIM117
        with capture(family.model, interventions=changes, statistics=()):
            family.model(**family.inputs)
    changed = capture(family.model, interventions=changes, statistics=(), strict=False)
    with torch.no_grad(), changed as seen:
        found = family.model(**family.inputs).logits
        assert torch.equal(found, family.model(**family.inputs).logits)
    assert seen.skipped[0][0] == "model.layers.0.self_attn"


def test_layers_whose_kernel_is_hidden_are_never_left_unchanged(monkeypatch):
    family = llama()
    interface = transformers.AttentionInterface
    sdpa = interface._global_mapping["sdpa"]
    monkeypatch.setitem(interface._global_mapping, "my_flash", sdpa)
    monkeypatch.setattr(family.model.config, "_attn_implementation_internal", "my_flash")
    with torch.no_grad(), pytest.raises(EngineError, match="'my_flash' cannot be read"):  # noqa: SIM117
        with capture(family.model, layers=1, interventions=KnockOut(0), statistics=()):
            family.model(**family.inputs)


def test_interventions_know_nothing_of_earlier_captures():
    family = gpt2()
    changes = KnockOutEdges(0, keys=9)
    with torch.no_grad():
        with capture(family.model, interventions=changes, statistics=()):
            family.model(**family.inputs)
        with pytest.raises(InputError, match="keys 9"):  # noqa: SIM117
            with capture(family.model, interventions=changes, statistics=()):
                family.model(input_ids=ids(length=5))


# Nothing is left behind, and captures within captures.


def changed_run_that_fails(family):
    with capture(family.model, interventions=KnockOut(1, 2), statistics=()):
        family.model(**family.inputs)
        raise ZeroDivisionError


def test_the_model_is_as_it_was_after_a_changed_run():
    family = llama()
    before = {k: v.clone() for k, v in family.model.state_dict().items()}
    hooks = [len(module._forward_hooks) for module in family.model.modules()]
    with torch.no_grad():
        plain = family.model(**family.inputs).logits
        with capture(family.model, interventions=KnockOut(1, 2), statistics=()):
            assert not torch.equal(family.model(**family.inputs).logits, plain)
        assert torch.equal(family.model(**family.inputs).logits, plain)
        with pytest.raises(ZeroDivisionError):
            changed_run_that_fails(family)
        assert torch.equal(family.model(**family.inputs).logits, plain)
    assert [len(module._forward_hooks) for module in family.model.modules()] == hooks
    for name, value in family.model.state_dict().items():
        assert torch.equal(value, before[name])


def test_nested_captures_apply_one_after_the_other_and_record_what_the_model_goes_on_with():
    family = llama()
    one, other = Boost(1, 2, keys=3, factor=4.0), Temperature(1, 2, temperature=HOT)
    with torch.no_grad():
        with capture(family.model, interventions=[one, other], statistics=()) as both:
            expected = family.model(**family.inputs).logits
        with (
            capture(family.model, statistics=()) as outer,
            capture(family.model, interventions=one, statistics=()) as middle,
            capture(family.model.model, interventions=other, statistics=()) as inner,
        ):
            found = family.model(**family.inputs).logits
    assert torch.equal(found, expected)
    for seen in (outer, middle, inner):
        np.testing.assert_array_equal(weights_of(seen[1]), weights_of(both[1]))


def test_other_threads_run_the_model_unchanged():
    import threading

    family, found = llama(), []
    with torch.no_grad():
        plain = family.model(**family.inputs).logits

    def work():
        with torch.no_grad():
            found.append(family.model(**family.inputs).logits)

    with torch.no_grad(), capture(family.model, interventions=KnockOut(1), statistics=()):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert not torch.equal(family.model(**family.inputs).logits, plain)
    assert torch.equal(found[0], plain)


def test_a_recording_does_not_keep_the_model_alive():
    model = Kernel()
    with torch.no_grad(), capture(model, interventions=KnockOut(heads=1), statistics=()) as seen:
        model(torch.randn(2, 5, 15))
    there = weakref.ref(model)
    del model
    gc.collect()
    assert there() is None
    assert len(seen) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded_again_it_has_the_same_weights(kind, tmp_path):
    family = gpt2()
    changes = asked(kind, [3, 1], 1, length=(13, 13))
    with torch.no_grad(), capture(family.model, interventions=changes, statistics=()) as seen:
        family.model(**family.inputs)
    seen.save(tmp_path / "run.safetensors")
    again = atento.load_recording(tmp_path / "run.safetensors")
    np.testing.assert_array_equal(weights_of(again[1]), weights_of(seen[1]))
    assert (tmp_path / "run.safetensors").stat().st_size < 2**18


def test_some_heads_can_be_recorded_while_others_are_changed():
    family = llama()
    changes = KnockOutEdges(1, [4, 5], queries=slice(1, None), keys=0)
    with torch.no_grad():
        with capture(family.model, interventions=changes, statistics=()) as whole:
            family.model(**family.inputs)
        with capture(family.model, heads=[4, 1], interventions=changes, statistics=()) as some:
            family.model(**family.inputs)
    for head in (4, 1):
        np.testing.assert_allclose(some[1].weights(head), whole[1].weights(head), rtol=0, atol=1e-6)
    assert not some[1].weights(4)[1:, 0].any()


def test_dropout_in_training_drops_weights_of_the_changed_head():
    """The mean over many draws is the output without dropout."""
    query, key, value = tensors()
    model, changes = Asked(), Boost(heads=2, keys=0, factor=3.0)
    with capture(model, interventions=changes, statistics=()):
        expected = model(query, key, value)
        drawn = [model(query, key, value, dropout=0.3, seed=i)[:, 2] for i in range(400)]
    total = torch.stack(drawn)
    assert not torch.equal(total[0], total[1])
    error = (total.mean(0) - expected[:, 2]).abs() / (total.std(0) / 20)
    assert error.max() < 5
