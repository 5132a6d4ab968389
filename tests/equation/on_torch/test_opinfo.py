"""The samples with which PyTorch tests its own attention, through ours."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention as sdpa
from torch.testing._internal.common_methods_invocations import op_db

import atento
from atento.masks import Causal

(SDPA,) = [op for op in op_db if op.name == "nn.functional.scaled_dot_product_attention"]
CLOSE = {"rtol": 1e-11, "atol": 1e-11}  # the samples reach scores of several hundred


def samples(requires_grad=False):
    made = SDPA.sample_inputs("cpu", torch.float64, requires_grad=requires_grad)
    return [sample for sample in made if not sample.kwargs.get("dropout_p")]


def in_our_words(sample):
    """Inputs with the same batch axes, and torch's arguments as ours."""
    query, (key, value), given = sample.input, sample.args, dict(sample.kwargs)
    batch = torch.broadcast_shapes(*(x.shape[:-2] for x in (query, key, value)))
    if not given.pop("enable_gqa", False):
        query, key, value = (x.expand(*batch, *x.shape[-2:]) for x in (query, key, value))
    asked = {"scale": given.pop("scale", None)}
    mask = given.pop("attn_mask", None)
    if mask is not None:
        asked["mask" if mask.dtype == torch.bool else "bias"] = mask
    if given.pop("is_causal", False):
        asked["mask"] = Causal("start")
    given.pop("dropout_p", None)
    assert not given  # a new argument of torch's: say what it is here
    return (query, key, value), asked


def test_there_are_samples_of_each_kind():
    """The samples are PyTorch's: a release that drops a kind must not go unseen."""
    assert len(samples()) > 10
    asked = [in_our_words(sample)[1] for sample in samples()]
    assert any("mask" in own for own in asked)
    assert any("bias" in own for own in asked)
    assert any(own == {"scale": None} for own in asked)


@pytest.mark.parametrize("index", range(len(samples())))
def test_output_and_gradients_are_torch_s(engine, index):
    sample = samples(requires_grad=True)[index]
    leaves = [x for x in (sample.input, *sample.args) if x.requires_grad]
    inputs, asked = in_our_words(sample)
    wanted = sdpa(sample.input, *sample.args, **sample.kwargs)
    for which in (engine, "auto"):
        found = atento.attention(*inputs, **asked, engine=which)
        torch.testing.assert_close(found, wanted, **CLOSE)
        torch.testing.assert_close(
            torch.autograd.grad(found.square().sum(), leaves, retain_graph=True),
            torch.autograd.grad(wanted.square().sum(), leaves, retain_graph=True),
            **CLOSE,
        )


# What the samples leave out.
def draw(*shape):
    return torch.randn(
        shape, dtype=torch.float64, generator=torch.Generator().manual_seed(len(shape))
    )


MORE = {
    "grouped": ((2, 6, 7, 5), (2, 3, 11, 5), {"enable_gqa": True}, {}),
    "scale": ((2, 3, 7, 5), (2, 3, 11, 5), {"scale": 0.3}, {"scale": 0.3}),
    "bool mask": (
        (2, 3, 7, 5),
        (2, 3, 11, 5),
        {"attn_mask": torch.tensor([True, False, True, True] * 20)[:77].view(7, 11)},
        {"mask": torch.tensor([True, False, True, True] * 20)[:77].view(7, 11)},
    ),
    "grouped and causal": (
        (2, 6, 7, 5),
        (2, 3, 11, 5),
        {"enable_gqa": True, "is_causal": True},
        {"mask": Causal("start")},
    ),
}


@pytest.mark.parametrize("name", MORE)
def test_what_the_samples_leave_out(engine, name):
    of_query, of_key, theirs, ours = MORE[name]
    inputs = draw(*of_query), draw(*of_key), draw(*of_key).flip(-1)
    torch.testing.assert_close(
        atento.attention(*inputs, **ours, engine=engine), sdpa(*inputs, **theirs), **CLOSE
    )
