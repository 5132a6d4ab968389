"""NaN and infinity: behind a mask they add nothing; where they are seen they are passed on."""

import pytest
import torch

import atento
from atento.masks import Causal, KeyPadding, Prefix, Window

HEADS, T, SIZE, BAD = 3, 11, 5, 7
SAME = {"rtol": 1e-12, "atol": 1e-12}
NOT_FINITE = [float("nan"), float("inf"), -float("inf")]
PADDED = KeyPadding([token != BAD for token in range(T)])


def inputs(requires_grad=False):
    generator = torch.Generator().manual_seed(7)
    return [
        torch.randn(HEADS, T, SIZE, dtype=torch.float64, generator=generator).requires_grad_(
            requires_grad
        )
        for _ in range(3)
    ]


def spoilt(where, bad, requires_grad=False):
    made = inputs()
    for index in where:
        made[index][:, BAD, 2] = bad
    return [array.requires_grad_(requires_grad) for array in made]


@pytest.fixture(params=["dense", "kernel", "blocks", "fused"])
def any_engine(request, monkeypatch, small_blocks):
    if request.param == "blocks":
        monkeypatch.setattr("atento.equation.on_torch.streaming.by_kernel", lambda asked: False)
    return {"kernel": "streaming", "blocks": "streaming"}.get(request.param, request.param)


@pytest.mark.parametrize("bad", NOT_FINITE)
@pytest.mark.parametrize("where", [0, 1, 2])
@pytest.mark.parametrize("needs_gradients", [False, True])
def test_under_a_causal_mask_those_before_see_nothing_of_it(
    any_engine, where, bad, needs_gradients
):
    clean = atento.attention(*inputs(), mask=Causal(), engine="dense")
    made = spoilt([where], bad, needs_gradients)
    output, lse = atento.attention(*made, mask=Causal(), engine=any_engine, return_lse=True)
    alone = atento.attention(*made, mask=Causal(), engine=any_engine)
    for result in (output, alone):
        torch.testing.assert_close(result[:, :BAD], clean[:, :BAD], **SAME)
        if where == 0:
            torch.testing.assert_close(result[:, BAD + 1 :], clean[:, BAD + 1 :], **SAME)
        if bad != bad:
            seen = {0: result[:, BAD], 1: result[:, BAD:], 2: result[:, BAD:, 2]}[where]
            assert seen.isnan().all()
        if where == 2 and bad == bad:
            assert (result[:, BAD:, 2] == bad).all()
    assert lse[:, :BAD].isfinite().all()
    if where == 2:
        assert lse.isfinite().all()


@pytest.mark.parametrize("bad", NOT_FINITE)
@pytest.mark.parametrize("where", [[1], [2], [1, 2]])
@pytest.mark.parametrize(
    "option", [{}, {"softcap": 2.0}, {"dropout": 0.3, "seed": 5}, {"sinks": 1.0}]
)
def test_a_key_that_nobody_sees_may_hold_anything(engine, where, bad, option):
    """As padding does that was never written."""
    found = []
    for made in (inputs(requires_grad=True), spoilt(where, bad, requires_grad=True)):
        output, lse = atento.attention(*made, mask=PADDED, engine=engine, return_lse=True, **option)
        (output.square().sum() + lse.sum()).backward()
        found.append([output, lse, *(array.grad for array in made)])
    for own, wanted in zip(found[1], found[0], strict=True):
        torch.testing.assert_close(own, wanted, **SAME)


@pytest.mark.parametrize("bad", NOT_FINITE)
@pytest.mark.parametrize("where", [1, 2])
def test_hidden_by_a_bias_of_minus_infinity(engine, where, bad):
    bias = torch.zeros(T, T, dtype=torch.float64)
    bias[:, BAD] = -torch.inf
    clean = atento.attention(*inputs(), bias=bias, engine="dense")
    if where == 2:  # a weight of 0, and not a mask: 0 · NaN is the formula's own answer
        clean[..., 2] = torch.nan
    elif bad != -float("inf"):  # NaN − ∞ and ∞ − ∞
        clean[:] = torch.nan
    made = spoilt([where], bad)
    output = atento.attention(*made, bias=bias, engine=engine)
    dense = atento.attention(*made, bias=bias, engine="dense")
    torch.testing.assert_close(output, dense, **SAME, equal_nan=True)


@pytest.mark.parametrize("where", [1, 2])
def test_gradients_of_queries_that_cannot_see_it(any_engine, where):
    """Keys after a causal query are hidden from it, and its gradient knows nothing of them."""
    found = []
    for made in (inputs(requires_grad=True), spoilt([where], float("nan"), requires_grad=True)):
        output = atento.attention(*made, mask=Causal(), engine=any_engine)
        output[:, :BAD].sum().backward()
        found.append(made[0].grad[:, :BAD])
    torch.testing.assert_close(found[1], found[0], **SAME)


def test_what_is_seen_is_passed_on_without_a_mask(engine):
    for where in (0, 1, 2):
        output = atento.attention(*spoilt([where], float("nan")), engine=engine)
        seen = {0: output[:, BAD], 1: output, 2: output[..., 2]}[where]
        assert seen.isnan().all()
        if where == 2:
            assert output[..., :2].isfinite().all()


def test_gradients_of_what_is_seen_are_nan_too(engine):
    made = spoilt([1], float("nan"), requires_grad=True)
    atento.attention(*made, mask=Window(2, 2), engine=engine).sum().backward()
    assert made[0].grad[:, BAD].isnan().all()


def test_weights_pass_nothing_on_either():
    for where in ([1], [2]):
        clean = atento.attention(*inputs(), mask=PADDED, return_weights=True)
        made = atento.attention(*spoilt(where, float("nan")), mask=PADDED, return_weights=True)
        for own, wanted in zip(made, clean, strict=True):
            torch.testing.assert_close(own, wanted, **SAME)


def test_large_numbers_that_add_up_to_infinity_are_no_reason_to_stop(engine):
    query, key, value = (array.float() for array in inputs())
    value = value.sign() * 3e38
    asked = {"mask": Causal() & ~Prefix(1), "engine": engine}
    output = atento.attention(query, key, value, **asked)
    exact = atento.attention(query.double(), key.double(), value.double(), **asked)
    assert output.isfinite().all()
    torch.testing.assert_close(output.double(), exact, rtol=1e-5, atol=1e33)


@pytest.mark.parametrize("keys", [70, 300, 701])
@pytest.mark.parametrize("bad", NOT_FINITE)
@pytest.mark.parametrize("at", [0, 37, 69])
def test_a_value_that_is_not_finite_is_found_in_long_causal_inputs(keys, bad, at):
    query, key, value = (torch.randn(2, 3, T, 64).double() for T in (300, keys, keys))
    value[1, 2, at, 5] = bad
    mask = Causal(align="start")
    assert atento.plan(query, key, value, mask=mask).engine == "fused"
    output = atento.attention(query, key, value, mask=mask)
    expected = atento.attention(query, key, value, mask=mask, engine="dense")
    torch.testing.assert_close(output, expected, **SAME, equal_nan=True)
    assert output[1, 2, :at].isfinite().all()
    assert not output[1, 2, at:, 5].isfinite().any()
