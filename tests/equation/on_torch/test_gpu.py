"""The engines on a GPU: the same function as on the CPU. Runs where there is one."""

import pytest
import torch

import atento
from atento.masks import Causal, KeyPadding
from atento.positions import RelativeBias
from torch_cases import (
    ALL_WITH_ALL,
    MASKS,
    RATE,
    SEED,
    B,
    H,
    asked_for,
    normal,
    tensors,
)

if not torch.cuda.is_available():
    pytest.skip("no GPU here", allow_module_level=True)

CLOSE = {"rtol": 1e-11, "atol": 1e-11}


def moved(asked):
    """Options with their tensors on the GPU."""
    made = {}
    for name, given in asked.items():
        if isinstance(given, torch.Tensor):
            given = given.cuda()
        elif isinstance(given, RelativeBias):
            given = RelativeBias(given.table.cuda(), given.bidirectional, 7, given.align)
        made[name] = given
    return made


def on_both(asked, engine, dtype=torch.float64, inputs=None):
    """Output, log-sum-exp and gradients from the CPU's dense engine, and from the GPU."""
    made = []
    for device in ("cpu", "cuda"):
        own = [x.detach().to(device).requires_grad_() for x in inputs or tensors(dtype)]
        told = moved(asked) if device == "cuda" else asked
        which = engine if device == "cuda" else "dense"
        output, lse = atento.attention(*own, **told, engine=which, return_lse=True)
        assert output.device.type == lse.device.type == device
        loss = output.square().sum() + torch.where(lse == -torch.inf, 0, lse).sum()
        grads = torch.autograd.grad(loss, own)
        made.append([x.cpu() for x in (output, lse, *grads)])
    return made


@pytest.mark.parametrize(("mask", "option"), ALL_WITH_ALL)
@pytest.mark.parametrize("engine", ["dense", "streaming", "auto"])
def test_every_mask_with_every_option(engine, mask, option, small_blocks):
    asked, _ = asked_for(mask, option)
    wanted, found = on_both(asked, engine)
    torch.testing.assert_close(found, wanted, **CLOSE)


@pytest.mark.parametrize("mask", [None, Causal("start")])
@pytest.mark.parametrize("with_lse", [False, True])
def test_fused(mask, with_lse):
    inputs = [torch.from_numpy(normal(2, 3, 67, 16)) for _ in range(3)]
    wanted = atento.attention(*inputs, mask=mask, engine="dense", return_lse=with_lse)
    on_gpu = [x.cuda() for x in inputs]
    found = atento.attention(*on_gpu, mask=mask, engine="fused", return_lse=with_lse)
    for own, other in zip(
        found if with_lse else [found], wanted if with_lse else [wanted], strict=True
    ):
        torch.testing.assert_close(own.cpu(), other, **CLOSE)


@pytest.mark.parametrize("engine", ["dense", "streaming"])
def test_dropout_drops_the_same_weights_as_on_the_cpu(engine):
    inputs = tensors()
    wanted = atento.attention(*inputs, dropout=RATE, seed=SEED, engine="dense")
    on_gpu = [x.cuda() for x in inputs]
    for seed in (SEED, torch.tensor(SEED), torch.tensor(SEED, device="cuda")):
        found = atento.attention(*on_gpu, dropout=RATE, seed=seed, engine=engine)
        torch.testing.assert_close(found.cpu(), wanted, **CLOSE)


def test_dropout_without_a_seed_follows_manual_seed():
    on_gpu = [x.cuda() for x in tensors()]
    made = []
    for _ in range(2):
        torch.manual_seed(5)
        made.append(atento.attention(*on_gpu, dropout=RATE))
    torch.testing.assert_close(*made, **CLOSE)
    assert not torch.allclose(atento.attention(*on_gpu, dropout=RATE), made[0])
    generator = torch.Generator("cuda").manual_seed(3)
    assert atento.attention(*on_gpu, dropout=RATE, seed=generator).isfinite().all()


@pytest.mark.parametrize(("dtype", "unit"), [(torch.bfloat16, 2.0**-8), (torch.float16, 2.0**-11)])
@pytest.mark.parametrize("engine", ["dense", "streaming", "auto"])
@pytest.mark.parametrize("option", ["plain", "everything", "T5"])
def test_halves(engine, dtype, unit, option):
    asked, leaves = asked_for("combined", option, dtype)
    query, key, value = (x.cuda() for x in tensors(dtype))
    found, lse = atento.attention(query, key, value, **moved(asked), engine=engine, return_lse=True)
    assert (found.dtype, lse.dtype) == (dtype, torch.float32)
    asked, own = asked_for("combined", option)
    for leaf, rounded in zip(own, leaves, strict=True):
        leaf.data = rounded.double()
    exact = atento.attention(*(x.double().cpu() for x in (query, key, value)), **asked)
    torch.testing.assert_close(found.double().cpu(), exact, rtol=1.01 * unit, atol=1e-5)


@pytest.mark.parametrize("engine", ["dense", "streaming"])
def test_queries_that_see_nothing(engine, small_blocks):
    query, key, value = (x.cuda().requires_grad_() for x in tensors())
    output, lse = atento.attention(
        query, key, value, mask=MASKS["nobody"][0], sinks=1.0, engine=engine, return_lse=True
    )
    assert not output.any()
    assert (lse == -torch.inf).all()
    assert output.shape[:2] == (B, H)
    output.sum().backward()
    assert not query.grad.any()


def test_a_padding_mask_that_lies_on_the_gpu():
    keep = torch.arange(11) % 3 > 0
    wanted = atento.attention(*tensors(), mask=KeyPadding(keep))
    for engine in ("dense", "streaming"):
        found = atento.attention(
            *(x.cuda() for x in tensors()), mask=KeyPadding(keep.cuda()), engine=engine
        )
        torch.testing.assert_close(found.cpu(), wanted, **CLOSE)


def test_blocks_of_the_usual_size():
    inputs = [torch.from_numpy(normal(1, 2, 700, 8)).float() for _ in range(3)]
    asked = {"mask": Causal(), "softcap": 3.0, "dropout": 0.1, "seed": 1}
    wanted, found = on_both(asked, "streaming", torch.float32, inputs)
    torch.testing.assert_close(found, wanted, rtol=2e-5, atol=2e-5)


def test_tensors_on_two_devices_are_refused():
    query, key, value = tensors()
    with pytest.raises(atento.DTypeError, match="query is on cuda:0 and key on cpu"):
        atento.attention(query.cuda(), key, value)
