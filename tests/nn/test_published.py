"""Every module's numbers as they stand in the book: FACTS of the project, section C."""

import numpy as np
import pytest
import torch

from atento.masks import Causal
from atento.nn import (
    AttentionHead,
    CausalSelfAttention,
    MultiHeadAttention,
    SelfAttention,
    SimplifiedSelfAttention,
)
from six_tokens import CONTEXTS, SIX, WEIGHTS

TOKENS = torch.tensor(SIX, dtype=torch.float32)
ROUNDED = {"rtol": 0, "atol": 5.1e-5}  # the book prints four decimals of float32 results

TRAINABLE = [
    [0.2996, 0.8053],
    [0.3061, 0.8210],
    [0.3058, 0.8203],
    [0.2948, 0.7939],
    [0.2927, 0.7891],
    [0.2990, 0.8040],
]
LINEAR = [
    [-0.0739, 0.0713],
    [-0.0748, 0.0703],
    [-0.0749, 0.0702],
    [-0.0760, 0.0685],
    [-0.0763, 0.0679],
    [-0.0754, 0.0693],
]
CAUSAL_HEAD = [
    [-0.4519, 0.2216],
    [-0.5874, 0.0058],
    [-0.6300, -0.0632],
    [-0.5675, -0.0843],
    [-0.5526, -0.0981],
    [-0.5299, -0.1081],
]
MULTI_HEAD = [
    [0.3190, 0.4858],
    [0.2943, 0.3897],
    [0.2856, 0.3593],
    [0.2693, 0.3873],
    [0.2639, 0.3928],
    [0.2575, 0.4028],
]


def in_every_shape(module, expected):
    """One sequence, a batch of it, and the trace: one function."""
    with torch.no_grad():
        np.testing.assert_allclose(module(TOKENS), expected, **ROUNDED)
        batch = module(torch.stack([TOKENS, TOKENS.flip(0)]))
        np.testing.assert_allclose(batch[0], expected, **ROUNDED)
        np.testing.assert_allclose(module.trace(TOKENS).output, expected, **ROUNDED)


def test_simplified_self_attention_step_by_step():
    module = SimplifiedSelfAttention()
    in_every_shape(module, CONTEXTS)
    trace = module.trace(TOKENS)
    scores = trace["scores"].value[1]
    np.testing.assert_allclose(scores, [0.9544, 1.4950, 1.4754, 0.8434, 0.7070, 1.0865], **ROUNDED)
    np.testing.assert_allclose(
        scores / scores.sum(), [0.1455, 0.2278, 0.2249, 0.1285, 0.1077, 0.1656], **ROUNDED
    )
    np.testing.assert_allclose(trace["weights"].value, WEIGHTS, **ROUNDED)
    assert trace["weights"].axes == ("query", "key")
    output, weights = module(TOKENS, return_weights=True)
    np.testing.assert_allclose(weights, WEIGHTS, **ROUNDED)
    np.testing.assert_allclose(output, CONTEXTS, **ROUNDED)
    assert not module.state_dict()


def test_self_attention_with_given_parameters():
    torch.manual_seed(123)
    module = SelfAttention(3, 2)
    torch.manual_seed(123)
    # The book multiplies x @ W with W (d_in, d_out): the transpose of a Linear's weight.
    state = {f"{role}.weight": torch.rand(3, 2).T for role in ("query", "key", "value")}
    module.load_state_dict(state)
    in_every_shape(module, TRAINABLE)


def test_self_attention_with_linear_layers():
    torch.manual_seed(789)
    in_every_shape(SelfAttention(3, 2), LINEAR)


def test_causal_weights():
    torch.manual_seed(789)
    weights = CausalSelfAttention(3, 2).trace(TOKENS)["weights"].value
    np.testing.assert_allclose(weights[1].detach(), [0.5517, 0.4483, 0, 0, 0, 0], **ROUNDED)


@pytest.mark.parametrize(
    "make",
    [
        lambda: CausalSelfAttention(3, 2),
        lambda: AttentionHead(3, 2, bias=False, mask=Causal()),
    ],
    ids=["CausalSelfAttention", "AttentionHead"],
)
def test_causal_head(make):
    torch.manual_seed(123)
    in_every_shape(make(), CAUSAL_HEAD)


def test_two_causal_heads_side_by_side():
    """The book's wrapper of heads: their contexts concatenated, with no projection after them."""
    torch.manual_seed(123)
    heads = [CausalSelfAttention(3, 2) for _ in range(2)]
    joined = MultiHeadAttention.from_heads(heads)
    with torch.no_grad():
        np.testing.assert_allclose(joined(TOKENS)[:, :2], CAUSAL_HEAD, **ROUNDED)
        both = torch.cat([head(TOKENS) for head in heads], dim=-1)
        np.testing.assert_allclose(joined(TOKENS), both, rtol=0, atol=1e-6)


def test_multi_head():
    torch.manual_seed(123)
    module = MultiHeadAttention(
        3, 2, head_dim=1, d_out=2, bias=False, output_bias=True, mask=Causal()
    )
    in_every_shape(module, MULTI_HEAD)
