"""Every engine on torch against the float64 oracle: all masks with all options."""

import numpy as np
import pytest
import torch

import atento
from atento.masks import Causal, Explicit, KeyPadding, Prefix, Rule, Segments
from atento.positions import Alibi
from oracle import attention_oracle
from torch_cases import (
    ALL_WITH_ALL,
    FEW_OPTIONS,
    KEY,
    MASKS,
    OPTIONS,
    QUERY,
    TK,
    TQ,
    VALUE,
    D,
    G,
    H,
    asked_for,
    normal,
    oracle,
    tensors,
)

PRECISIONS = {torch.float64: 1e-12, torch.float32: 2e-6}


def assert_equal(result, wanted, tolerance):
    np.testing.assert_allclose(result.detach().numpy(), wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("mask", "option"), ALL_WITH_ALL)
def test_every_mask_with_every_option(engine, mask, option):
    output, _, lse = oracle(mask, option)
    for dtype in PRECISIONS if option in FEW_OPTIONS else [torch.float64]:
        asked, _ = asked_for(mask, option, dtype)
        found = atento.attention(*tensors(dtype), **asked, engine=engine, return_lse=True)
        assert {array.dtype for array in found} == {dtype}
        assert_equal(found[0], output, PRECISIONS[dtype])
        assert_equal(found[1], lse, PRECISIONS[dtype])


@pytest.mark.parametrize(("mask", "option"), ALL_WITH_ALL)
def test_weights_and_log_sum_exp_when_asked_for(mask, option):
    output, weights, lse = oracle(mask, option)
    for dtype in PRECISIONS if option in FEW_OPTIONS else [torch.float64]:
        asked, _ = asked_for(mask, option, dtype)
        for also in ({}, {"return_lse": True}):
            found = atento.attention(*tensors(dtype), **asked, return_weights=True, **also)
            for result, wanted in zip(found, (output, weights, lse), strict=False):
                assert_equal(result, wanted, PRECISIONS[dtype])
            assert len(found) == 2 + len(also)


@pytest.mark.parametrize("spread", [31, -31])
@pytest.mark.parametrize("option", ["plain", "softcap", "sinks", "bias", "T5", "dropout"])
def test_scores_of_many_sizes_raise_the_maximum_from_block_to_block(engine, option, spread):
    """Scores grow (or fall) along the keys, so that each block has a maximum of its own."""
    told = {name: given for name, given in OPTIONS[option][0].items() if name != "seed"}
    key = KEY * np.linspace(0, abs(spread), TK)[:: 1 if spread > 0 else -1, None]
    output, _, lse = attention_oracle(
        QUERY, key, VALUE, visible=MASKS["causal, end"][1], **(told | OPTIONS[option][1])
    )
    asked, _ = asked_for("causal, end", option)
    query, _, value = tensors()
    result, log_sum = atento.attention(
        query, torch.from_numpy(key), value, **asked, engine=engine, return_lse=True
    )
    assert_equal(result, output, 1e-12 * abs(spread))
    assert_equal(log_sum, lse, 1e-12 * abs(spread))


FUSED = {
    "heads": ((2, 3, 7, 5), (2, 3, 11, 5)),
    "grouped heads": ((2, 6, 7, 5), (2, 3, 11, 5)),
    "no batch": ((3, 7, 5), (3, 11, 5)),
    "grouped, no batch": ((6, 7, 5), (2, 11, 5)),
    "one head": ((7, 5), (11, 5)),
    "two batch axes": ((2, 3, 2, 7, 5), (2, 3, 2, 11, 5)),
    "more queries than keys": ((2, 3, 11, 5), (2, 3, 7, 5)),
    "one token": ((1, 1, 1, 5), (1, 1, 1, 5)),
}


@pytest.mark.parametrize("name", FUSED)
@pytest.mark.parametrize("mask", [None, Causal("start")])
@pytest.mark.parametrize("scale", [None, 0.75])
def test_fused_where_it_fits(name, mask, scale, small_blocks):
    of_query, of_key = FUSED[name]
    arrays = query, key, value = normal(*of_query), normal(*of_key), normal(*of_key)
    visible = None if mask is None else np.tri(query.shape[-2], key.shape[-2], dtype=bool)
    output, _, lse = attention_oracle(query, key, value, visible=visible, scale=scale)
    asked = {"mask": mask, "scale": scale, "engine": "fused"}
    for dtype, tolerance in PRECISIONS.items():
        for needs_gradients in (False, True):
            inputs = [torch.from_numpy(x).to(dtype).requires_grad_(needs_gradients) for x in arrays]
            assert_equal(atento.attention(*inputs, **asked), output, tolerance)
            result, log_sum = atento.attention(*inputs, **asked, return_lse=True)
            assert_equal(result, output, tolerance)
            assert_equal(log_sum, lse, tolerance)


def test_one_head_without_its_axis(engine):
    query, key, value = normal(TQ, D), normal(TK, D), normal(TK, 3)
    bias, keep = normal(TQ, 1), np.arange(TK) % 4 != 1
    inputs = [torch.from_numpy(x) for x in (query, key, value)]
    for asked, told in (
        ({}, {}),
        (
            {"mask": Causal("end") & KeyPadding(keep)},
            {"visible": MASKS["causal, end"][1][0, 0] & keep},
        ),
        ({"bias": torch.from_numpy(bias)}, {"bias": bias}),
        ({"bias": Alibi(1, "end")}, {"bias": -(2.0**-8) * distances()}),
        ({"sinks": torch.tensor([0.5], dtype=torch.float64)}, {"sinks": 0.5}),
        ({"mask": Rule(lambda b, h, q, k: (q + k) % 3 > 0)}, {"visible": sums() % 3 > 0}),
    ):
        result, lse = atento.attention(*inputs, **asked, engine=engine, return_lse=True)
        output, _, log_sum = attention_oracle(query, key, value, **told)
        assert result.shape == (TQ, 3)
        assert lse.shape == (TQ,)
        assert_equal(result, output, 1e-12)
        assert_equal(lse, log_sum, 1e-12)


def distances():
    i, j = np.indices((TQ, TK))
    return abs(j - i - (TK - TQ))


def sums():
    return np.add.outer(np.arange(TQ), np.arange(TK))


def test_heads_without_a_batch_axis(engine):
    query, key, value = QUERY[1], KEY[1], VALUE[1]
    head, i, j = np.indices((H, TQ, TK))
    inputs = [torch.from_numpy(x) for x in (query, key, value)]
    for asked, told in (
        (
            {"mask": Rule(lambda b, h, q, k: (q + h * k) % 3 > 0)},
            {"visible": (i + head * j) % 3 > 0},
        ),
        ({"mask": (i + head * j) % 3 > 0}, {"visible": (i + head * j) % 3 > 0}),
        ({"mask": Segments(np.arange(TQ) // 2, np.arange(TK) // 3)}, {"visible": i // 2 == j // 3}),
        ({"bias": torch.from_numpy(1.0 * head[:, :1])}, {"bias": head[:, :1]}),
    ):
        result, lse = atento.attention(*inputs, **asked, engine=engine, return_lse=True)
        output, _, log_sum = attention_oracle(query, key, value, **told)
        assert_equal(result, output, 1e-12)
        assert_equal(lse, log_sum, 1e-12)


N, M = 2, 3  # two batch axes


def five_axes():
    return normal(N, M, 2 * G, TQ, D), normal(N, M, 2, TK, D), normal(N, M, 2, TK, 3)


FIVE_AXES = {
    "plain": lambda n, m, h, i, j: ({}, {}),
    "array over the first batch axis": lambda n, m, h, i, j: (
        {"mask": Explicit(((i + j + n) % 3 > 0)[:, :1, :1])},
        {"visible": (i + j + n) % 3 > 0},
    ),
    "array over the second batch axis": lambda n, m, h, i, j: (
        {"mask": Explicit(((i + j + m) % 3 > 0)[0, :, :1])},
        {"visible": (i + j + m) % 3 > 0},
    ),
    "padding": lambda n, m, h, i, j: (
        {"mask": KeyPadding(((n + 2 * m + j) % 4 > 0)[:, :, 0, 0])},
        {"visible": (n + 2 * m + j) % 4 > 0},
    ),
    "rule": lambda n, m, h, i, j: (
        {"mask": Rule(lambda b, h, q, k: (b + h + q + k) % 4 > 0)},
        {"visible": (M * n + m + h + i + j) % 4 > 0},
    ),
    "bias over the first batch axis": lambda n, m, h, i, j: (
        {"bias": 0.1 * (n * i)[:, :1, :1, :, :1]},
        {"bias": 0.1 * n * i},
    ),
    "bias over the second batch axis": lambda n, m, h, i, j: (
        {"bias": 0.1 * (m * j + h)[0]},
        {"bias": 0.1 * (m * j + h)},
    ),
    "bias over all axes": lambda n, m, h, i, j: (
        {"bias": 0.1 * (n + m * j + h * i)},
        {"bias": 0.1 * (n + m * j + h * i)},
    ),
}


@pytest.mark.parametrize("name", FIVE_AXES)
def test_two_batch_axes(engine, name):
    arrays = five_axes()
    asked, told = FIVE_AXES[name](*np.indices((N, M, 2 * G, TQ, TK)))
    if "bias" in asked:
        asked["bias"] = torch.from_numpy(asked["bias"])
    result, lse = atento.attention(
        *map(torch.from_numpy, arrays), **asked, engine=engine, return_lse=True
    )
    output, _, log_sum = attention_oracle(*arrays, **told)
    assert_equal(result, output, 1e-12)
    assert_equal(lse, log_sum, 1e-12)


def test_blocks_of_the_usual_size(monkeypatch):
    """Nothing patched: lengths just across the edge of a block of queries, and of keys."""
    query, key, value = normal(1, 257, D), normal(1, 517, D), normal(1, 517, 3)
    visible = np.tri(257, 517, 260, dtype=bool) & (np.arange(517) >= 5)
    output, _, _ = attention_oracle(query, key, value, visible=visible)
    inputs = [torch.from_numpy(x) for x in (query, key, value)]
    for by_kernel in (True, False):
        monkeypatch.setattr(
            "atento.equation.on_torch.streaming.by_kernel", lambda asked, fits=by_kernel: fits
        )
        result = atento.attention(*inputs, mask=Causal("end") & ~Prefix(5), engine="streaming")
        assert_equal(result, output, 1e-12)


@pytest.mark.parametrize("hidden", [range(3, 9), range(5, 10)])
@pytest.mark.parametrize("option", ["plain", "softcap", "T5"])
def test_blocks_that_nobody_sees_between_blocks_that_all_see(engine, hidden, option):
    """What is left out must not be joined to its neighbours."""
    keep = ~np.isin(np.arange(TK), hidden)
    asked, _ = asked_for("everybody", option)
    told = OPTIONS[option][0] | OPTIONS[option][1]
    output, _, lse = attention_oracle(QUERY, KEY, VALUE, visible=keep, **told)
    found = atento.attention(
        *tensors(), **asked | {"mask": KeyPadding(keep)}, engine=engine, return_lse=True
    )
    assert_equal(found[0], output, 1e-12)
    assert_equal(found[1], lse, 1e-12)
