"""Positions under PyTorch's tracing: one graph, any length, and the same numbers."""

import subprocess
import sys

import pytest
import torch

from atento.positions import (
    Alibi,
    DynamicNTKScaling,
    RelativeBias,
    Rotary,
    Sinusoidal,
    YarnScaling,
)


class Turned(torch.nn.Module):
    def __init__(self, scaling):
        super().__init__()
        self.plain = Rotary(scaling=scaling)
        self.partial = Rotary(interleaved=True, rotary_dim=4)

    def forward(self, x, positions):
        x = Sinusoidal().embed(x, start=3)
        return self.plain.rotate(x, positions) + self.partial.rotate(x)


class Biases(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.table = torch.nn.Parameter(torch.randn(32, 3))
        self.alibi = Alibi(3)

    def forward(self, x, positions):
        import array_api_compat.torch as xp

        shape = (2, 3, x.shape[-2], positions.shape[-1])
        rules = (self.alibi.aligned("end"), RelativeBias(self.table, align="end"))
        one, two = (rule.bind(shape, xp, x.device, x.dtype).dense() for rule in rules)
        return one + two * x.sum()


MODULES = [
    lambda: Turned(YarnScaling(4.0, 64)),
    lambda: Turned(DynamicNTKScaling(2.0, 5)),
    Biases,
]
NAMES = ["yarn", "dynamic_ntk", "biases"]


def inputs(T):
    return torch.randn(2, 3, T, 6), torch.arange(2 * T).reshape(2, T)


@pytest.mark.slow
@pytest.mark.parametrize("make", MODULES, ids=NAMES)
def test_compile_in_one_graph_for_any_length(make):
    torch._dynamo.reset()
    module = make()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager", dynamic=True)
    for T in (5, 11):
        x, positions = inputs(T)
        grads = []
        for f in (module, compiled):
            leaf = x.clone().requires_grad_()
            y = f(leaf, positions)
            grads.append(torch.autograd.grad(y.square().sum(), leaf)[0])
        torch.testing.assert_close(compiled(x, positions), module(x, positions))
        torch.testing.assert_close(grads[1], grads[0])


@pytest.mark.parametrize("make", MODULES, ids=NAMES)
def test_export_for_any_length(make):
    module, T = make(), torch.export.Dim("T")
    exported = torch.export.export(
        module, inputs(5), dynamic_shapes={"x": {2: T}, "positions": {1: T}}
    ).module()
    longer = inputs(13)
    torch.testing.assert_close(exported(*longer), module(*longer))


@pytest.mark.slow
def test_tracing_as_the_first_thing_a_process_does():
    program = (
        "import warnings; warnings.simplefilter('error')\n"
        "import torch; from atento.positions import rotary\n"
        "f = torch.compile(rotary, fullgraph=True, backend='eager')\n"
        "print(tuple(f(torch.nn.Parameter(torch.ones(5, 4))).shape))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("(5, 4)\n", "")


def test_the_room_imports_without_torch():
    program = "import sys, atento.positions; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "False\n"
