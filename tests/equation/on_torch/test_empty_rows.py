"""A query that may see no key: output, weights and gradients 0, log-sum-exp −∞, on every engine."""

import numpy as np
import pytest
import torch

import atento
from atento.masks import Causal, KeyPadding, Prefix, Rule
from torch_cases import DV, TK, TQ, B, D, H, asked_for, normal, tensors

i, j = np.indices((TQ, TK))
BLIND = {
    "nobody": ({"mask": Prefix(0)}, np.zeros((TQ, TK), bool)),
    "causal before the first token": ({"mask": Causal("start") & ~Prefix(2)}, (j <= i) & (j >= 2)),
    "padding at the left": ({"mask": Causal("start") & KeyPadding(j[0] > 3)}, (j <= i) & (j > 3)),
    "rule": ({"mask": Rule(lambda b, h, q, k: (q % 2 == 0) & (k >= 0))}, i % 2 == 0),
    "array": ({"mask": ((i + j) % 3 > 0) & (i != 4)}, ((i + j) % 3 > 0) & (i != 4)),
    "bias of −∞": ({"bias": np.where(i % 3 == 1, -np.inf, 0.0)}, i % 3 != 1),
    "bias of −∞ for all": ({"bias": np.array(-np.inf)}, i < 0),
    "bias of −∞ over causal": (
        {"bias": np.where(j == 0, -np.inf, 0.0), "mask": Causal("start")},
        (j <= i) & (j > 0),
    ),
}


@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("with_sinks", [False, True])
@pytest.mark.parametrize("name", BLIND)
def test_a_query_that_sees_nothing(engine, name, with_sinks, softcap):
    asked, visible = BLIND[name]
    blind = ~visible.any(-1)
    unseen = ~visible.any(-2)
    assert blind.any()
    query, key, value = tensors(requires_grad=True)
    sinks = torch.full((H,), 3.0, dtype=torch.float64, requires_grad=True)
    asked = {"softcap": softcap, "sinks": sinks if with_sinks else None, **asked}
    if "bias" in asked:
        asked["bias"] = torch.from_numpy(asked["bias"]).clone().requires_grad_()
    output, lse = atento.attention(query, key, value, **asked, engine=engine, return_lse=True)
    assert not output[..., blind, :].any()
    assert (lse[..., blind] == -torch.inf).all()
    assert lse[..., ~blind].isfinite().all()
    (output.sum() + torch.where(lse == -torch.inf, 0, lse).sum()).backward()
    for leaf in (query, key, value, asked.get("bias"), asked["sinks"]):
        assert leaf is None or leaf.grad.isfinite().all()
    assert not query.grad[..., blind, :].any()
    assert not key.grad[..., unseen, :].any()
    assert not value.grad[..., unseen, :].any()
    if with_sinks and not visible.any():
        assert not sinks.grad.any()
    # Without log-sum-exp backward may go another way.
    query.grad = None
    atento.attention(query, key, value, **asked, engine=engine).sum().backward()
    assert query.grad.isfinite().all()
    assert not query.grad[..., blind, :].any()


@pytest.mark.parametrize("name", BLIND)
def test_the_weights_of_a_query_that_sees_nothing(name):
    asked, visible = BLIND[name]
    visible = torch.from_numpy(visible)
    if "bias" in asked:
        asked = asked | {"bias": torch.from_numpy(asked["bias"])}
    for needs_gradients in (False, True):
        inputs = tensors(requires_grad=needs_gradients)
        output, weights = atento.attention(*inputs, **asked, return_weights=True)
        assert torch.equal(weights > 0, visible.expand(weights.shape))
        assert not output[..., ~visible.any(-1), :].any()


EMPTY = {
    "no keys": ((2, 3, 5, 7), (2, 3, 0, 7)),
    "no queries": ((2, 3, 0, 7), (2, 3, 5, 7)),
    "neither": ((2, 3, 0, 7), (2, 3, 0, 7)),
    "no batch": ((0, 3, 5, 7), (0, 3, 5, 7)),
    "no heads": ((2, 0, 5, 7), (2, 0, 5, 7)),
    "no keys, one head": ((5, 7), (0, 7)),
}


@pytest.mark.parametrize("name", EMPTY)
@pytest.mark.parametrize("option", [{}, {"mask": Causal("end")}, {"softcap": 1.0}, {"sinks": 1.0}])
def test_nothing_to_compute(engine, name, option):
    of_query, of_key = EMPTY[name]
    query, key, value = (
        torch.ones(shape, dtype=torch.float64, requires_grad=True)
        for shape in (of_query, of_key, (*of_key[:-1], 11))
    )
    for which in (engine, "auto"):
        output, lse = atento.attention(query, key, value, **option, engine=which, return_lse=True)
        assert output.shape == (*of_query[:-1], 11)
        assert lse.shape == of_query[:-1]
        assert not output.any()
        assert of_key[-2] or (lse == -torch.inf).all()
        output.sum().backward()
        assert not query.grad.any()
        assert key.grad.shape == key.shape


def test_values_without_features(engine):
    query, key, _ = tensors()
    output = atento.attention(query, key, key[..., :0], engine=engine)
    assert output.shape == (B, H, TQ, 0)


def test_one_token_sees_itself(engine):
    query, key, value = (torch.from_numpy(normal(1, 1, 1, n)) for n in (D, D, DV))
    for asked in ({}, {"mask": Causal()}, {"softcap": 1.0}, {"bias": torch.tensor(3.0).double()}):
        output, lse = atento.attention(query, key, value, **asked, engine=engine, return_lse=True)
        torch.testing.assert_close(output, value, rtol=1e-15, atol=0)
        score = (query * key).sum() / D**0.5
        score = score.tanh() if "softcap" in asked else score + asked.get("bias", 0)
        torch.testing.assert_close(lse, score.reshape(1, 1, 1), rtol=1e-14, atol=1e-15)


def test_an_option_that_hides_nothing_changes_nothing(engine):
    asked, _ = asked_for("everybody", "scale")
    plain = atento.attention(*tensors(), **asked, engine=engine)
    asked["mask"] = ~Prefix(0)
    torch.testing.assert_close(
        atento.attention(*tensors(), **asked, engine=engine), plain, rtol=1e-12, atol=1e-12
    )


def test_a_log_sum_exp_of_0_is_not_an_empty_row():
    """The kernel says 0 for an empty row; so it does for one key with score 0."""
    query, key = torch.zeros(2, 5, 4), torch.zeros(2, 3, 4)
    bias = torch.full((5, 3), -torch.inf)
    bias[1, 2] = bias[4, 0] = 0.0
    output, lse = atento.attention(
        query, key, torch.ones(2, 3, 4), bias=bias, engine="streaming", return_lse=True
    )
    nothing = -torch.inf
    assert lse.tolist() == [[nothing, 0, nothing, nothing, 0]] * 2
    assert output[..., 0].tolist() == [[0, 1, 0, 0, 1]] * 2
