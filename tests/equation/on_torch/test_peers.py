"""Other libraries' attention where it is the same function: theirs and ours, same numbers."""

import os
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention as sdpa
from transformers.models.gemma2 import modeling_gemma2
from transformers.models.gpt_oss import modeling_gpt_oss
from transformers.models.llama import modeling_llama

import atento
from atento.masks import Causal, KeyPadding, Window
from atento.positions import Alibi
from torch_cases import normal

os.environ["KERAS_BACKEND"] = "torch"
with warnings.catch_warnings():  # both warn of themselves as they are imported
    warnings.simplefilter("ignore")
    import keras
    from x_transformers.attend import Attend
    from x_transformers.x_transformers import AlibiPositionalBias

B, HKV, G, T, D = 2, 3, 2, 7, 5
H = HKV * G
CLOSE = {"rtol": 1e-5, "atol": 1e-6}  # they compute softmax in float32, whatever comes


def grouped(keys=T):
    return [
        torch.from_numpy(normal(B, heads, tokens, D)).float().requires_grad_()
        for heads, tokens in ((H, T), (HKV, keys), (HKV, keys))
    ]


def added(mask, keys=T):
    """Our mask as what others add to the scores."""
    return torch.from_numpy(np.where(mask.dense(T, keys), 0, torch.finfo().min)).float()


def assert_same(ours, theirs, leaves):
    torch.testing.assert_close(ours, theirs, **CLOSE)
    weighing = torch.arange(ours.numel()).view(ours.shape).cos()
    torch.testing.assert_close(
        torch.autograd.grad((ours * weighing).sum(), leaves),
        torch.autograd.grad((theirs * weighing).sum(), leaves),
        **CLOSE,
    )


@pytest.mark.parametrize("mask", [None, Causal(), Causal() & Window(left=2)])
def test_llama_and_its_groups(engine, mask):
    query, key, value = leaves = grouped()
    module = SimpleNamespace(num_key_value_groups=G, training=False)
    theirs, weights = modeling_llama.eager_attention_forward(
        module, query, key, value, None if mask is None else added(mask), scaling=0.4
    )
    ours = atento.attention(query, key, value, mask=mask, scale=0.4, engine=engine)
    assert_same(ours, theirs.transpose(1, 2), leaves)
    own = atento.attention(query, key, value, mask=mask, scale=0.4, return_weights=True)[1]
    torch.testing.assert_close(own, weights, **CLOSE)


@pytest.mark.parametrize("mask", [None, Causal(), Causal() & Window(left=2)])
def test_gpt_oss_and_its_sinks(engine, mask):
    query, key, value = leaves = grouped()
    sinks = torch.from_numpy(normal(H)).float().requires_grad_()
    module = SimpleNamespace(num_key_value_groups=G, training=False, sinks=sinks)
    theirs, _ = modeling_gpt_oss.eager_attention_forward(
        module, query, key, value, None if mask is None else added(mask), scaling=D**-0.5
    )
    ours = atento.attention(query, key, value, mask=mask, sinks=sinks, engine=engine)
    assert_same(ours, theirs.transpose(1, 2), [*leaves, sinks])


@pytest.mark.parametrize("mask", [None, Causal(), Causal() & Window(left=2)])
def test_gemma_2_and_its_softcap(engine, mask):
    query, key, value = leaves = grouped()
    module = SimpleNamespace(num_key_value_groups=G, training=False, head_dim=D)
    theirs, _ = modeling_gemma2.eager_attention_forward(
        module, query, key, value, None if mask is None else added(mask), softcap=1.5
    )
    ours = atento.attention(query, key, value, mask=mask, softcap=1.5, engine=engine)
    assert_same(ours, theirs.transpose(1, 2), leaves)


@pytest.mark.parametrize(
    ("asked", "theirs"),
    [
        ({}, {}),
        ({"mask": Causal("start")}, {"is_causal": True}),
        ({"mask": Window(2, 1, "start")}, {"attn_mask": Window(2, 1, "start")}),
        ({"scale": 0.2}, {"scale": 0.2}),
    ],
)
def test_pytorch(engine, asked, theirs):
    query, key, value = leaves = grouped(keys=11)
    if "attn_mask" in theirs:
        theirs = {"attn_mask": torch.from_numpy(theirs["attn_mask"].dense(T, 11))}
    assert_same(
        atento.attention(query, key, value, **asked, engine=engine),
        sdpa(query, key, value, **theirs, enable_gqa=True),
        leaves,
    )


def x_transformers(query, key, value, mask=None, attn_bias=None, sinks=None, **options):
    attend = Attend(heads=H, head_learned_sink=sinks is not None, **options)
    if sinks is not None:
        attend.head_attn_sink = torch.nn.Parameter(sinks.detach().clone())
    return attend(query, key, value, mask=mask, attn_bias=attn_bias)[0]


def test_x_transformers_groups_stand_in_another_order(engine):
    """Its query head h shares key head h mod Hkv; ours share it in consecutive runs."""
    query, key, value = leaves = grouped(keys=11)
    ours_from_theirs = torch.arange(H).view(G, HKV).T.flatten()
    theirs = x_transformers(query, key, value, causal=True)[:, ours_from_theirs]
    ours = atento.attention(
        query[:, ours_from_theirs], key, value, mask=Causal("end"), engine=engine
    )
    assert_same(ours, theirs, leaves)


KEEP = torch.tensor([[True] * 7, [True, False, True, True, True, False, False]])
X_TRANSFORMERS = {
    "plain": ({}, {}),
    "causal": ({"mask": Causal()}, {"causal": True}),
    "padding": ({"mask": KeyPadding(KEEP)}, {"mask": KEEP}),
    "padding and causal": ({"mask": KeyPadding(KEEP) & Causal()}, {"mask": KEEP, "causal": True}),
    "softclamp": ({"softcap": 1.5}, {"softclamp_logits": True, "logit_softclamp_value": 1.5}),
    "scale": ({"scale": 0.2}, {"scale": 0.2}),
    "sinks": ({"sinks": torch.linspace(-2, 2, H)}, {"sinks": torch.linspace(-2, 2, H)}),
    "sinks and causal": (
        {"sinks": torch.linspace(-2, 2, H), "mask": Causal()},
        {"sinks": torch.linspace(-2, 2, H), "causal": True},
    ),
    "ALiBi": (
        {"bias": Alibi(H), "mask": Causal()},
        {"attn_bias": AlibiPositionalBias(H)(T, T), "causal": True},
    ),
    "ALiBi, both sides": ({"bias": Alibi(H)}, {"attn_bias": AlibiPositionalBias(H)(T, T)}),
}


@pytest.mark.parametrize("name", X_TRANSFORMERS)
def test_x_transformers(engine, name):
    asked, theirs = X_TRANSFORMERS[name]
    leaves = [torch.from_numpy(normal(B, H, T, D)).float().requires_grad_() for _ in range(3)]
    assert_same(
        atento.attention(*leaves, **asked, engine=engine),
        x_transformers(*leaves, **theirs),
        leaves,
    )


KERAS = {
    "plain": ({}, {}),
    "causal": ({"mask": Causal("start")}, {"is_causal": True}),
    "mask": ({"mask": Window(2, 1, "start")}, {"mask": Window(2, 1, "start").dense(T, 11)}),
    "bias": (
        {"bias": torch.linspace(-1, 1, H * 11).view(H, 1, 11)},
        {"bias": torch.linspace(-1, 1, H * 11).view(1, H, 1, 11).expand(B, H, T, 11)},
    ),
    "scale": ({"scale": 0.2}, {"scale": 0.2}),
}


@pytest.mark.parametrize("name", KERAS)
def test_keras(engine, name):
    assert keras.backend.backend() == "torch"
    asked, theirs = KERAS[name]
    query, key, value = leaves = grouped(keys=11)
    found = keras.ops.dot_product_attention(
        *(x.transpose(1, 2) for x in leaves), **theirs, flash_attention=False
    )
    assert_same(
        atento.attention(query, key, value, **asked, engine=engine),
        found.transpose(1, 2),
        leaves,
    )


@pytest.mark.parametrize("causal", [False, True])
def test_a_layer_of_keras(engine, causal):
    """GroupQueryAttention, its projections done by hand and its attention by ours."""
    layer = keras.layers.GroupQueryAttention(D, H, HKV)
    x = torch.from_numpy(normal(B, T, 11)).float()
    theirs = layer(x, x, use_causal_mask=causal)
    query, key, value, output = [
        (kernel.value.detach(), bias.value.detach())
        for kernel, bias in zip(layer.weights[::2], layer.weights[1::2], strict=True)
    ]
    heads = [
        torch.einsum("btc,chd->bhtd", x, kernel) + bias[:, None]
        for kernel, bias in (query, key, value)
    ]
    contexts = atento.attention(*heads, mask=Causal() if causal else None, engine=engine)
    ours = torch.einsum("bhtd,hdc->btc", contexts, output[0]) + output[1]
    torch.testing.assert_close(ours, theirs.detach(), **CLOSE)
