"""The Transformer as torch's operations alone gives what its modules give, and steps aside else."""

import pytest
import torch
from torch import nn

import atento
from atento.equation import front
from atento.lm import Transformer, TransformerConfig
from atento.lm.generating.stepping import Stepper
from atento.lm.plain import Joined, is_plain, plain_logits
from atento.positions import DynamicNTKScaling, LinearScaling

LLAMA = {
    "position": "rotary",
    "norm": "rms",
    "feed_forward": "swiglu",
    "bias": False,
    "tied": False,
    "num_kv_heads": 2,
}
SHAPES = {
    "gpt2": {},
    "llama": LLAMA,
    "no positions": {"position": None, "bias": False},
    "attention alone": {"feed_forward": None},
    "scaled": LLAMA | {"rotary_scaling": LinearScaling(2.0)},
}


def made(dtype=torch.float64, **changes):
    torch.manual_seed(7)
    sizes = {"context": 19, "d_model": 24, "num_layers": 3, "num_heads": 4}
    model = Transformer(TransformerConfig(23, **(sizes | changes))).to(dtype)
    with torch.no_grad():  # first weights are so small that a wrong one would hardly be seen
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


IDS = torch.randint(23, (3, 17), generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("shape", SHAPES)
def test_logits_and_gradients_are_those_of_the_modules(shape):
    model = made(**SHAPES[shape])
    assert is_plain(model, training=True)
    found = []
    for logits in (model(IDS), plain_logits(model, IDS)):
        model.zero_grad()
        nn.functional.cross_entropy(logits.flatten(0, 1), IDS.flatten()).backward()
        found.append((logits.detach(), [p.grad.clone() for p in model.parameters()]))
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-12)
    assert all(gradient.abs().max() > 0 for gradient in found[1][1])


@pytest.mark.parametrize("shape", SHAPES)
def test_joined_weights_are_the_models_own(shape):
    model, other = made(**SHAPES[shape]), made(**SHAPES[shape])
    joined = Joined(model)
    optimizers = [torch.optim.SGD(one.parameters(), lr=0.1) for one in (model, other)]
    for _ in range(2):
        for part in IDS.split(2):  # gradients of parts add up
            logits = plain_logits(model, part, joined.blocks)
            nn.functional.cross_entropy(logits.flatten(0, 1), part.flatten()).backward()
            nn.functional.cross_entropy(other(part).flatten(0, 1), part.flatten()).backward()
        joined.hand_over()
        for own, expected in zip(model.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(own.grad, expected.grad, rtol=1e-9, atol=1e-12)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    for own, expected in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(own, expected, rtol=1e-9, atol=1e-12)
    assert model.state_dict().keys() == other.state_dict().keys()


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_step_gives_the_logits_of_the_whole_text(shape, rows, window):
    model = made(**SHAPES[shape], window=window).eval()
    ids = IDS[:rows]
    caches = model.new_caches()
    with torch.no_grad():
        expected = model(ids)
        model(ids[:, :9], caches)
        stepper = Stepper(model, caches)
        for place in range(9, 17):
            logits = stepper.step(ids[:, : place + 1].tolist())
            torch.testing.assert_close(logits, expected[:, place], rtol=1e-9, atol=1e-12)
    assert stepper.passed == 17
    assert caches[0].num_tokens == 9


def test_half_precision_is_near(monkeypatch):
    model = made(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        half = plain_logits(model, IDS)
        theirs = model(IDS)
    exact = model(IDS)
    far = (theirs - exact).abs().mean()
    assert 0 < (half - exact).abs().mean() < 1.5 * far


def test_whoever_looks_on_gets_the_modules():
    model = made(torch.float32)
    assert is_plain(model)
    handle = model.blocks[1].attention.register_forward_hook(lambda *_: None)
    assert not is_plain(model)
    handle.remove()
    with atento.capture(model) as recording:
        assert front.watcher is not None
        assert not is_plain(model)
        model(IDS)
    assert len(recording) == 3
    assert is_plain(model)


@pytest.mark.parametrize(
    ("changes", "decoding", "training"),
    [
        ({"dropout": 0.1}, True, False),
        ({"window": 5}, True, False),
        (LLAMA | {"rotary_scaling": DynamicNTKScaling(2.0, 9)}, False, False),
    ],
)
def test_what_belongs_to_the_engines_is_left_to_them(changes, decoding, training):
    model = made(**changes)
    assert (is_plain(model), is_plain(model, training=True)) == (decoding, training)


def test_a_module_in_the_place_of_another_is_left_alone():
    class Louder(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    model = made()
    model.blocks[0].attention.output = Louder(24, 24, dtype=torch.float64)
    assert not is_plain(model)
