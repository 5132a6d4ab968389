"""Gradients on torch: the equation's against finite differences, streaming's against those."""

from functools import cache

import numpy as np
import pytest
import torch

import atento
from atento.masks import Causal, KeyPadding, Prefix, Rule, Segments, Window
from atento.positions import Alibi, RelativeBias
from torch_cases import (
    ALL_WITH_ALL,
    DV,
    FEW_MASKS,
    FEW_OPTIONS,
    TQ,
    B,
    H,
    asked_for,
    normal,
    tensors,
)

CLOSE = {"rtol": 1e-12, "atol": 1e-12}
OF_OUTPUT, OF_LSE = (torch.from_numpy(normal(B, H, TQ, size)) for size in (DV, 1))


def gradients(mask, option, engine, of="output", with_options=True):
    """Of query, key and value, and of bias, table or sinks."""
    inputs = tensors(requires_grad=True)
    asked, leaves = asked_for(mask, option, requires_grad=with_options)
    output, lse = atento.attention(*inputs, **asked, engine=engine, return_lse=True)
    asked = []
    if "output" in of:
        asked.append((output * OF_OUTPUT).sum())
    if "lse" in of:
        asked.append((torch.where(lse == -torch.inf, 0, lse) * OF_LSE[..., 0]).sum())
    wanted = [*inputs, *(leaf for leaf in leaves if leaf.requires_grad)]
    return torch.autograd.grad(sum(asked), wanted, materialize_grads=True)


@cache
def of_the_equation(mask, option, of):
    return gradients(mask, option, "dense", of)


def assert_same_gradients(found, wanted):
    for own, other in zip(found, wanted, strict=False):  # the first are query, key and value
        assert own.isfinite().all()
        torch.testing.assert_close(own, other, **CLOSE)


@pytest.mark.parametrize(("mask", "option"), ALL_WITH_ALL)
def test_streaming_has_the_gradients_of_the_equation(streaming, mask, option):
    each = ("output", "lse") if mask in FEW_MASKS or option in FEW_OPTIONS else ()
    for of in (*each, "output and lse"):
        wanted = of_the_equation(mask, option, of)
        found = gradients(mask, option, streaming, of)
        assert len(found) == len(wanted)
        assert_same_gradients(found, wanted)
    if each:
        without = gradients(mask, option, streaming, with_options=False)
        assert len(without) == 3
        assert_same_gradients(without, of_the_equation(mask, option, "output"))


@pytest.mark.parametrize("mask", ["everybody", "causal, start"])
def test_fused_has_the_gradients_of_the_equation(mask, small_blocks):
    made = []
    for engine in ("dense", "fused"):
        query, key, _ = tensors(requires_grad=True)
        value = torch.from_numpy(np.flip(key.detach().numpy()).copy()).requires_grad_()
        asked, _ = asked_for(mask, "scale")
        output = atento.attention(query, key, value, **asked, engine=engine)
        made.append(torch.autograd.grad((output * OF_OUTPUT[..., :5]).sum(), (query, key, value)))
    assert_same_gradients(made[1], made[0])


# Finite differences: few numbers, so that each of them can be moved.
b, hkv, g, Tq, Tk, d, dv = 1, 1, 2, 3, 5, 2, 1

SMALL = {
    "blocks.FORWARD": (2, 2),
    "blocks.BACKWARD": (2, 2),
    "streaming.LOW": 2,
    "streaming.HIGH": 3,
    "streaming.MADE": 3,
}


@pytest.fixture
def smaller_blocks(monkeypatch):
    for name, size in SMALL.items():
        monkeypatch.setattr(f"atento.equation.on_torch.{name}", size)
    monkeypatch.setattr("atento.equation.schedule.WIDEST", 2)


def leaf(*shape):
    return torch.from_numpy(normal(*shape)).requires_grad_()


MECHANISMS = {
    "plain": (list, dict),
    "causal, start": (list, lambda: {"mask": Causal("start")}),
    "causal, end": (list, lambda: {"mask": Causal("end"), "scale": 0.5}),
    "window": (list, lambda: {"mask": Window(1, 1, "end")}),
    "padding": (list, lambda: {"mask": KeyPadding([[True, False, True, True, False]])}),
    "segments": (list, lambda: {"mask": Segments([0, 1, 1], [0, 0, 1, 1, 2])}),
    "prefix": (list, lambda: {"mask": Causal("start") | Prefix(2)}),
    "rule": (list, lambda: {"mask": Rule(lambda b, h, q, k: (q + k + h) % 3 > 0)}),
    "array": (list, lambda: {"mask": np.tri(Tq, Tk, 0, dtype=bool)[::-1].copy()}),
    "rows that see nothing": (list, lambda: {"mask": Causal("start") & ~Prefix(1)}),
    "softcap": (list, lambda: {"softcap": 0.75}),
    "softcap, window": (list, lambda: {"softcap": 0.75, "mask": Window(1, 0, "end")}),
    "dropout": (list, lambda: {"dropout": 0.5, "seed": 3}),
    "dropout, causal": (list, lambda: {"dropout": 0.3, "seed": 4, "mask": Causal("end")}),
    "sinks": (lambda: [leaf(hkv * g)], lambda sinks: {"sinks": sinks, "mask": Causal("end")}),
    "one sink": (lambda: [leaf()], lambda sink: {"sinks": sink}),
    "bias": (lambda: [leaf(hkv * g, Tq, Tk)], lambda bias: {"bias": bias}),
    "bias, causal": (lambda: [leaf(Tq, Tk)], lambda bias: {"bias": bias, "mask": Causal("end")}),
    "bias per key": (lambda: [leaf(Tk)], lambda bias: {"bias": bias}),
    "bias per query": (lambda: [leaf(b, 1, Tq, 1)], lambda bias: {"bias": bias, "softcap": 1.0}),
    "one bias": (lambda: [leaf()], lambda bias: {"bias": bias, "mask": Causal("end")}),
    "ALiBi": (list, lambda: {"bias": Alibi(hkv * g, "end"), "mask": Causal("end")}),
    "T5": (
        lambda: [leaf(4, hkv * g)],
        lambda table: {"bias": RelativeBias(table, max_distance=4, align="end")},
    ),
    "everything": (
        lambda: [leaf(4, hkv * g), leaf(hkv * g)],
        lambda table, sinks: {
            "bias": RelativeBias(table, max_distance=4, align="end"),
            "sinks": sinks,
            "mask": Window(2, 1, "end"),
            "softcap": 1.5,
            "dropout": 0.3,
            "seed": 5,
            "scale": 0.8,
        },
    ),
}
TWICE = (
    "causal, start",
    "softcap, window",
    "dropout, causal",
    "sinks",
    "bias, causal",
    "everything",
)


def mechanism(name, engine):
    """Attention as a function of the tensors that have gradients, and those tensors."""
    make, options = MECHANISMS[name]
    inputs = leaf(b, hkv * g, Tq, d), leaf(b, hkv, Tk, d), leaf(b, hkv, Tk, dv)

    def attend(query, key, value, *rest):
        output, lse = atento.attention(
            query, key, value, **options(*rest), engine=engine, return_lse=True
        )
        return output, torch.where(lse == -torch.inf, 0, lse)  # differences of −∞ are NaN

    return attend, (*inputs, *make())


@pytest.mark.parametrize("name", MECHANISMS)
def test_against_finite_differences(engine, name, smaller_blocks):
    attend, inputs = mechanism(name, engine)
    fast = engine == "streaming"  # along random directions; the equation number by number
    assert torch.autograd.gradcheck(attend, inputs, fast_mode=fast)
    if fast:  # without log-sum-exp backward may go another way
        assert torch.autograd.gradcheck(lambda *x: attend(*x)[0], inputs, fast_mode=True)


@pytest.mark.parametrize("name", ["plain", "causal, start"])
def test_fused_against_finite_differences(name):
    query, key, value = leaf(b, hkv * g, Tq, d), leaf(b, hkv, Tk, d), leaf(b, hkv, Tk, d)
    for also in ({}, {"return_lse": True}):
        assert torch.autograd.gradcheck(
            lambda *x, also=also: atento.attention(
                *x, **MECHANISMS[name][1](), engine="fused", **also
            ),
            (query, key, value),
        )


@pytest.mark.parametrize("name", TWICE)
def test_gradients_of_gradients(engine, name, smaller_blocks):
    attend, inputs = mechanism(name, engine)
    assert torch.autograd.gradgradcheck(attend, inputs, fast_mode=engine == "streaming")


def test_each_input_alone_may_ask_for_a_gradient(streaming):
    wanted = of_the_equation("combined", "everything, by distance", "output")
    for index in range(5):
        inputs = list(tensors())
        asked, (sinks, table) = asked_for("combined", "everything, by distance")
        leaf_ = (*inputs, sinks, table)[index]
        leaf_.requires_grad_()
        output = atento.attention(*inputs, **asked, engine=streaming)
        (output * OF_OUTPUT).sum().backward()
        assert [x.grad is not None for x in (*inputs, sinks, table)] == [
            other == index for other in range(5)
        ]
        torch.testing.assert_close(leaf_.grad, wanted[index], **CLOSE)


@pytest.mark.parametrize("threads", [1, 4, 7])
@pytest.mark.parametrize("causal", [False, True])
def test_few_heads_share_their_queries_out(threads, causal, small_blocks):
    """With fewer heads than threads the kernel's backward gets the queries in several parts."""
    shape = [normal(2, tokens, 3) for tokens in (23, 23 if causal else 7)]
    asked = {"mask": Causal("start")}
    if not causal:
        asked = {"bias": torch.from_numpy(np.linspace(-1, 1, 23))[:, None]}
    before, made = torch.get_num_threads(), []
    for engine in ("dense", "streaming"):
        query, key = (torch.from_numpy(x).requires_grad_() for x in shape)
        value = (key.detach() ** 2).requires_grad_()
        try:
            torch.set_num_threads(threads)
            output = atento.attention(query, key[:1], value[:1], **asked, engine=engine)
            weighing = torch.arange(output.numel(), dtype=output.dtype).view(output.shape).cos()
            made.append(torch.autograd.grad((output * weighing).sum(), (query, key, value)))
        finally:
            torch.set_num_threads(before)
    assert_same_gradients(made[1], made[0])


def test_a_gradient_of_zero_or_of_nothing(streaming):
    """Of the two results one may go unused; then the other's gradient is that of it alone."""
    query, key, value = tensors(requires_grad=True)
    output, lse = atento.attention(query, key, value, engine=streaming, return_lse=True)
    assert torch.autograd.grad(lse.sum(), value, allow_unused=True, retain_graph=True)[
        0
    ] is None or (not torch.autograd.grad(lse.sum(), value, retain_graph=True)[0].any())
    nothing = torch.autograd.grad(output.sum() * 0, (query, key, value))
    assert not any(grad.any() for grad in nothing)


def test_backward_twice_over_one_graph(streaming):
    query, key, value = tensors(requires_grad=True)
    output = atento.attention(query, key, value, mask=Causal("end"), engine=streaming)
    first = torch.autograd.grad(output.sum(), (query, key, value), retain_graph=True)
    second = torch.autograd.grad(output.sum(), (query, key, value))
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-14, atol=1e-14)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(output.sum(), query)
