"""Models in half precision, under autocast and quantised: read as they compute, or refused."""

import numpy as np
import pytest
import torch
from experiments.coverage.measure import Weights
from torch import nn

from atento.reading.capturing import capture
from reading_models import FAMILIES, Kernel, Written, bert, llama, tensors_of

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning:transformers"),
    pytest.mark.filterwarnings("ignore:.*quantiz"),  # torch leaves its own to torchao
]

HALVES = [torch.bfloat16, torch.float16]


def run(model, inputs):
    with torch.no_grad():
        return tensors_of(model(**inputs))


def captured(model, inputs):
    """The recording of one call, which has the bits that the model has alone."""
    plain = run(model, inputs)
    with capture(model, statistics=()) as recording:
        seen = run(model, inputs)
    for one, other in zip(plain, seen, strict=True):
        assert torch.equal(one, other)
    return recording


def weights_of(layer):
    return np.array(
        [[layer.weights(h, batch=b) for h in range(layer.heads)] for b in range(layer.batch)]
    )


def computed(model, inputs):
    """The weights of every softmax and kernel call, in order, seen without a capture."""
    with Weights() as seen:
        run(model, inputs)
    return [each.double().numpy() for each in seen.found]


def in_half(inputs, dtype):
    return {
        name: value.to(dtype) if value.is_floating_point() else value
        for name, value in inputs.items()
    }


# gpt_oss has a softmax over one key more, its sinks.
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "gpt_oss"])
def test_half_precision_has_the_weights_of_its_queries_and_keys(name, dtype):
    family = FAMILIES[name]()
    model, inputs = family.model.to(dtype), in_half(family.inputs, dtype)
    recording = captured(model, inputs)
    assert recording.names == family.layers
    assert recording.skipped == []
    # A kernel's weights are those of the formula on its own arguments. A formula written out in
    # half precision rounds the scores themselves.
    atol = 1e-4 if {layer.way for layer in recording} <= {"interface", "sdpa"} else 3e-2
    if not model.config._attn_implementation.startswith("sdpa"):
        atol = 3e-2
    for layer, expected in zip(recording, computed(model, inputs), strict=True):
        np.testing.assert_allclose(weights_of(layer), expected, rtol=0, atol=atol)
        np.testing.assert_allclose(weights_of(layer).sum(-1), 1, rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("kind", [Kernel, Written])
def test_hand_written_modules_in_half_precision(kind, dtype):
    torch.manual_seed(3)
    model = kind().to(dtype)
    inputs = {"x": torch.randn(2, 11, 15).to(dtype)}
    recording = captured(model, inputs)
    (layer,) = recording
    assert layer.query.dtype == (np.float32 if dtype == torch.bfloat16 else np.float16)
    np.testing.assert_allclose(weights_of(layer), computed(model, inputs)[0], rtol=0, atol=5e-3)
    # The kernel's own exp is off by 4e-5 on a CPU with AVX2 and no AVX-512.
    off = 1e-4 if kind is Kernel else 1e-5
    np.testing.assert_allclose(weights_of(layer).sum(-1), 1, rtol=0, atol=off)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("name", FAMILIES)
def test_autocast_is_read_as_it_computes(name, implementation, dtype):
    more = {} if implementation == "sdpa" else {"attn_implementation": "eager"}
    family = FAMILIES[name](**more)
    with torch.autocast("cpu", dtype):
        recording = captured(family.model, family.inputs)
        expected = computed(family.model, family.inputs)
    assert recording.names == family.layers
    assert recording.skipped == []
    for layer, own in zip(recording, expected, strict=True):
        found = weights_of(layer)
        np.testing.assert_allclose(found, own[..., : found.shape[-1]], rtol=0, atol=3e-2)
        if layer.softcap is None and name != "gpt_oss":  # which has sinks
            np.testing.assert_allclose(found.sum(-1), 1, rtol=0, atol=1e-4)


def test_autocast_around_the_capture_and_within_it_say_the_same():
    family = bert()
    with torch.autocast("cpu", torch.bfloat16):
        around = captured(family.model, family.inputs)
    with capture(family.model, statistics=()) as within, torch.autocast("cpu", torch.bfloat16):
        run(family.model, family.inputs)
    for one, other in zip(around, within, strict=True):
        np.testing.assert_array_equal(one.query, other.query)
        np.testing.assert_array_equal(one.lse, other.lse)


def test_int8_by_torch_is_read_exactly():
    family = bert()
    model = torch.ao.quantization.quantize_dynamic(family.model, {nn.Linear}, dtype=torch.qint8)
    kinds = {type(module).__module__ for module in model.modules()}
    assert any("quantized" in kind for kind in kinds)
    recording = captured(model, family.inputs)
    assert recording.names == family.layers
    for layer, expected in zip(recording, computed(model, family.inputs), strict=True):
        np.testing.assert_allclose(weights_of(layer), expected, rtol=0, atol=1e-5)


class FourBits(nn.Module):
    """A Linear whose weights are kept as whole numbers of 4 bits, two in a byte."""

    def __init__(self, linear):
        super().__init__()
        weight = linear.weight.detach()
        self.shape = weight.shape
        scale = weight.abs().amax(1, keepdim=True).clamp(min=1e-8) / 7
        whole = (weight / scale).round().to(torch.int8) + 8
        pairs = nn.functional.pad(whole.flatten(), (0, whole.numel() % 2)).to(torch.uint8)
        self.register_buffer("packed", pairs[::2] | pairs[1::2] << 4)
        self.register_buffer("scale", scale)
        self.bias = linear.bias

    def forward(self, x):
        pairs = torch.stack([self.packed & 15, self.packed >> 4], 1).flatten()
        whole = pairs[: self.shape[0] * self.shape[1]].view(self.shape).float() - 8
        return nn.functional.linear(x, whole * self.scale, self.bias)


@pytest.mark.parametrize("make", [llama, FAMILIES["bloom"]])
def test_four_bits_with_modules_of_the_quantisers_own_are_read_exactly(make):
    family = make()
    for module in list(family.model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear) and name != "lm_head":
                setattr(module, name, FourBits(child))
    assert sum(isinstance(module, FourBits) for module in family.model.modules()) >= 8
    recording = captured(family.model, family.inputs)
    assert recording.names == family.layers
    for layer, expected in zip(recording, computed(family.model, family.inputs), strict=True):
        np.testing.assert_allclose(weights_of(layer), expected, rtol=0, atol=1e-5)
