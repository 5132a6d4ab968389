"""The compiled passes: the equation's numbers from every mask and option, and when they serve."""

import subprocess
import sys

import numpy as np
import pytest
import torch

import atento
from atento.equation.on_torch import blocks, compiled
from atento.masks import Causal, Explicit, KeyPadding, Prefix, Window
from oracle import attention_oracle
from torch_cases import ALL_WITH_ALL, DV, TQ, B, H, asked_for, normal, oracle, tensors

OF_OUTPUT = torch.from_numpy(normal(B, H, TQ, DV))


@pytest.fixture(autouse=True)
def calls(monkeypatch, small_blocks):
    """The kernels serve everything, in blocks that are small; their names, once for each call."""
    made, kernels = [], compiled._kernels()
    assert kernels is not None
    monkeypatch.setattr(compiled, "WORTH", 0)
    monkeypatch.setattr(blocks, "COMPILED_FORWARD", (2, 6))
    monkeypatch.setattr(blocks, "COMPILED_BACKWARD", (3, 5))
    monkeypatch.setattr("atento.equation.on_torch.streaming.by_kernel", lambda asked: False)

    def counted(name):
        kernel = getattr(kernels, name)
        return lambda *given: made.append(name) or kernel(*given)

    class Counted:
        weigh_block, weigh_block_back = map(counted, ("weigh_block", "weigh_block_back"))

    monkeypatch.setattr(compiled, "_kernels", lambda: Counted)
    return made


def gradients(mask, option, dtype, engine):
    """Output, log-sum-exp, and the gradients of everything that may have one."""
    inputs = tensors(dtype, requires_grad=True)
    asked, leaves = asked_for(mask, option, dtype, requires_grad=True)
    output, lse = atento.attention(*inputs, **asked, engine=engine, return_lse=True)
    seen = torch.where(lse == -torch.inf, 0, lse)
    both = (output * OF_OUTPUT.to(dtype)).sum() + seen.sin().sum()
    return [output, lse, *torch.autograd.grad(both, [*inputs, *leaves], materialize_grads=True)]


@pytest.mark.parametrize(("mask", "option"), ALL_WITH_ALL)
def test_every_mask_with_every_option(mask, option, calls):
    output, _, lse = oracle(mask, option)
    found = gradients(mask, option, torch.float32, "streaming")
    wanted = gradients(mask, option, torch.float64, "dense")
    np.testing.assert_allclose(found[0].detach(), output, rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(found[1].detach(), lse, rtol=2e-6, atol=2e-6)
    for own, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(own.double(), other, rtol=2e-5, atol=2e-5)
    assert mask == "nobody" or {"weigh_block", "weigh_block_back"} == set(calls)


@pytest.mark.parametrize("spread", [31, -31])
def test_scores_of_many_sizes_raise_the_maximum_from_block_to_block(spread, calls):
    query, key, value = normal(2, 7, 5), normal(2, 23, 5), normal(2, 23, 3)
    key *= np.linspace(0, abs(spread), 23)[:: 1 if spread > 0 else -1, None]
    query, key = query.astype("f4"), key.astype("f4")
    output, _, lse = attention_oracle(query, key, value)
    given = [torch.from_numpy(x).float() for x in (query, key, value)]
    found = atento.attention(*given, engine="streaming", return_lse=True)
    np.testing.assert_allclose(found[0], output, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found[1], lse, rtol=2e-6)
    assert calls


def test_a_bias_that_does_not_lie_row_after_row(calls):
    """As a transposed parameter: torch adds it, block by block; its gradient still gathers."""
    query, key, value, bias = normal(2, 7, 5), normal(2, 11, 5), normal(2, 11, 3), normal(11, 7)
    made = []
    for dtype, engine in ((torch.float32, "streaming"), (torch.float64, "dense")):
        leaves = [torch.from_numpy(x).to(dtype).requires_grad_() for x in (query, key, value, bias)]
        output = atento.attention(*leaves[:3], bias=leaves[3].T, engine=engine)
        made.append([output, *torch.autograd.grad(output.square().sum(), leaves)])
    assert "weigh_block_back" in calls
    for own, other in zip(*made, strict=True):
        torch.testing.assert_close(own.double(), other, rtol=2e-5, atol=2e-5)


def test_masks_that_may_not_be_written_to():
    inputs = [torch.from_numpy(normal(2, 9, 5)).float() for _ in range(3)]
    pairs = np.tri(9, dtype=bool)
    pairs.flags.writeable = False
    found = atento.attention(*inputs, mask=Explicit(pairs), engine="streaming")
    torch.testing.assert_close(
        found, atento.attention(*inputs, mask=Causal(), engine="dense"), rtol=2e-6, atol=2e-6
    )


def test_rows_that_see_nothing_have_gradient_0():
    inputs = [torch.from_numpy(normal(2, 9, 5)).float().requires_grad_() for _ in range(3)]
    bias = torch.from_numpy(normal(9, 9)).float()
    bias[4] = -torch.inf
    bias.requires_grad_()
    output, lse = atento.attention(
        *inputs, mask=Causal() & ~Prefix(2), bias=bias, engine="streaming", return_lse=True
    )
    empty = torch.tensor([0, 1, 4])
    assert not output[:, empty].any()
    assert (lse[:, empty] == -torch.inf).all()
    assert lse.isneginf().sum() == 6
    grads = torch.autograd.grad(output.square().sum(), [*inputs, bias])
    assert all(grad.isfinite().all() for grad in grads)
    assert not grads[0][:, empty].any()
    assert not grads[3][empty].any()
    assert not grads[3].triu(1).any()
    assert not grads[3][:, :2].any()


def test_nan_is_not_hidden_and_stays_in_its_row(calls):
    query, key, value = (torch.from_numpy(normal(2, 9, 5)).float() for _ in range(3))
    query[0, 3, 1] = torch.nan
    found = atento.attention(query, key, value, dropout=0.1, seed=1, engine="streaming")
    assert calls
    assert found[0, 3].isnan().all()
    found[0, 3] = 0
    assert found.isfinite().all()
    key[1, 7] = torch.nan
    query[0, 3, 1] = 0
    assert atento.attention(query, key, value, softcap=1.0, engine="streaming")[1].isnan().all()


def test_threads_share_out_the_same_numbers():
    before, made = torch.get_num_threads(), []
    try:
        for threads in (2, 2, 1, 3):
            torch.set_num_threads(threads)
            made.append(gradients("combined", "bias of all alike", torch.float32, "streaming"))
    finally:
        torch.set_num_threads(before)
    assert all(map(torch.equal, made[0], made[1]))
    for found in made[2:]:
        torch.testing.assert_close(found, made[0], rtol=2e-6, atol=2e-6)


def test_the_exponential_is_right_to_the_last_bit_but_one():
    from atento.equation.on_torch.tile_kernels import exponentials

    numbers = np.linspace(-87, 88, 200_001, dtype=np.float32)
    found = numbers.copy()
    exponentials(found)
    exact = np.exp(numbers.astype(np.float64))
    assert (np.abs(found - exact) <= np.spacing(exact.astype(np.float32))).all()
    edges = np.array([0, -87.01, -1e30, -np.inf, 89, np.inf, np.nan], np.float32)
    exponentials(edges)
    assert edges[:4].tolist() == [1, 0, 0, 0]
    assert edges[4] == edges[5] == found[-1]
    assert np.isnan(edges[6])


@pytest.mark.parametrize("asked", [{"dropout": 0.1, "seed": 3}, {"softcap": 2.0}])
def test_when_they_serve(asked, calls, monkeypatch):
    inputs = [torch.from_numpy(normal(2, 9, 5)).float() for _ in range(3)]
    atento.attention(*(x.double() for x in inputs), **asked, engine="streaming")
    assert not calls
    monkeypatch.setattr(compiled, "WORTH", 2 * 9 * 9 + 1)
    atento.attention(*inputs, **asked, engine="streaming")
    assert not calls
    monkeypatch.setattr(compiled, "WORTH", 2 * 9 * 9)
    atento.attention(*inputs, **asked, engine="streaming")
    assert calls


def test_halves_and_shared_key_heads(calls):
    query, key, value = normal(2, 4, 9, 5), normal(2, 2, 9, 5), normal(2, 2, 9, 3)
    mask = Window(left=3) & KeyPadding(np.arange(9) < 7)
    made = []
    for dtype, engine in ((torch.bfloat16, "streaming"), (torch.float64, "dense")):
        inputs = [
            torch.from_numpy(x).bfloat16().to(dtype).requires_grad_() for x in (query, key, value)
        ]
        output = atento.attention(
            *inputs, mask=mask & Causal(), softcap=2.0, engine=engine, dropout=0.2, seed=5
        )
        made.append([output, *torch.autograd.grad(output.sum(), inputs)])
    assert "weigh_block_back" in calls
    for own, other in zip(*made, strict=True):
        torch.testing.assert_close(own.double(), other, rtol=2.0**-6, atol=2.0**-6)


SCRIPT = """
import sys, torch
{first}
import atento
from atento.equation.on_torch import compiled
torch.manual_seed(1)
x = [torch.randn(2, 300, 8) for _ in range(3)]
compiled.WORTH = {worth}
found = atento.attention(*x, softcap=3.0, dropout=0.2, seed=4, engine="streaming")
wanted = atento.attention(*x, softcap=3.0, dropout=0.2, seed=4, engine="dense")
torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
print(sys.modules.get("numba") is not None)
"""


@pytest.mark.parametrize(
    ("first", "worth", "loaded"),
    [
        ("", 0, "True"),
        ("", 2**26, "False"),
        ("sys.modules['numba'] = None", 0, "False"),
        ("import numba; numba.njit = lambda *a, **k: 1 / 0", 0, "True"),
    ],
)
def test_where_numba_is_missing_or_broken_torch_serves(first, worth, loaded):
    script = SCRIPT.format(first=first, worth=worth)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [loaded]
