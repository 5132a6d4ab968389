"""Numbers that stand in books: FACTS of the project, sections B and C."""

import numpy as np
import pytest

import atento
from atento.masks import Causal
from six_tokens import CONTEXTS, WEIGHTS
from six_tokens import SIX as TOKENS


def test_simplified_self_attention_step_by_step():
    trace = atento.trace(TOKENS, TOKENS, TOKENS, scale=1)
    scores = [0.9544, 1.4950, 1.4754, 0.8434, 0.7070, 1.0865]
    np.testing.assert_allclose(trace["scores"].value[1], scores, atol=5e-5)
    divided = trace["scores"].value[1] / trace["scores"].value[1].sum()
    np.testing.assert_allclose(divided, [0.1455, 0.2278, 0.2249, 0.1285, 0.1077, 0.1656], atol=5e-5)
    np.testing.assert_allclose(trace["weights"].value, WEIGHTS, atol=5e-5)
    np.testing.assert_allclose(trace.output, CONTEXTS, atol=5e-5)


@pytest.mark.parametrize("engine", ["dense", "streaming"])
def test_contexts_on_every_engine(engine):
    output = atento.attention(TOKENS, TOKENS, TOKENS, scale=1, engine=engine)
    np.testing.assert_allclose(output, CONTEXTS, atol=5e-5)


# The published contexts of layers with parameters: torch draws them, our attention does the rest.
SELF_ATTENTION = [
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


@pytest.fixture
def torch():
    import torch

    return torch


def test_trainable_weights(torch):
    torch.manual_seed(123)
    W_query, W_key, W_value = (torch.rand(3, 2) for _ in range(3))
    x = torch.tensor(TOKENS, dtype=torch.float32)
    output = atento.attention(x @ W_query, x @ W_key, x @ W_value)
    np.testing.assert_allclose(output, SELF_ATTENTION, atol=5.1e-5)


def linear_layers(torch, seed, *sizes):
    torch.manual_seed(seed)
    return [torch.nn.Linear(*size, bias=bias) for *size, bias in sizes]


def test_linear_layers_and_causal_weights(torch):
    W_query, W_key, W_value = linear_layers(torch, 789, *[(3, 2, False)] * 3)
    x = torch.tensor(TOKENS, dtype=torch.float32)
    with torch.no_grad():
        output = atento.attention(W_query(x), W_key(x), W_value(x))
        trace = atento.trace(W_query(x), W_key(x), W_value(x), mask=Causal())
    np.testing.assert_allclose(output, LINEAR, atol=5.1e-5)
    np.testing.assert_allclose(trace["weights"].value[1], [0.5517, 0.4483, 0, 0, 0, 0], atol=5.1e-5)


def test_causal_head(torch):
    W_query, W_key, W_value = linear_layers(torch, 123, *[(3, 2, False)] * 3)
    x = torch.tensor(TOKENS, dtype=torch.float32)
    with torch.no_grad():
        output = atento.attention(W_query(x), W_key(x), W_value(x), mask=Causal())
    np.testing.assert_allclose(output, CAUSAL_HEAD, atol=5.1e-5)


def test_multi_head(torch):
    *projections, W_out = linear_layers(torch, 123, *[(3, 2, False)] * 3, (2, 2, True))
    x = torch.tensor(TOKENS, dtype=torch.float32)
    with torch.no_grad():
        query, key, value = (  # (token, d_out) -> (head, token, head_dim)
            projection(x).reshape(6, 2, 1).transpose(0, 1) for projection in projections
        )
        heads = atento.attention(query, key, value, mask=Causal())
        output = W_out(heads.transpose(0, 1).reshape(6, 2))
    np.testing.assert_allclose(output, MULTI_HEAD, atol=5.1e-5)


def test_weighted_look_up_of_a_dictionary():
    """The query "país" with hand-chosen weights over méxico, alemania, inglaterra, perro: 8.0."""
    weights = np.array([0.30, 0.30, 0.30, 0.10])
    values = np.array([[7.0], [10.0], [8.0], [5.0]])
    # Keys whose scores are log-weights give exactly these weights after the softmax.
    output = atento.attention(np.array([[1.0]]), np.log(weights)[:, None], values, scale=1)
    np.testing.assert_allclose(output, [[8.0]], rtol=1e-15)


def test_exact_look_up_is_the_limit_of_sharp_attention():
    keys, values = np.eye(4), np.array([[7.0], [10.0], [8.0], [5.0]])
    output = atento.attention(keys[:1], keys, values, scale=1000)
    np.testing.assert_array_equal(output, [[7.0]])
