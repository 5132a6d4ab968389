"""Attention as torch's own tools see it: compile, export, meta and fake tensors, torch.func."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import atento
from atento.masks import Causal, Explicit, KeyPadding, Prefix, Rule, Segments, Window
from atento.masks.mask import Not  # torch.compile reads no `~` of ours inside a function
from atento.positions import Alibi, RelativeBias

B, H, HKV, T, D, DV = 2, 6, 3, 7, 5, 11
SAME = {"rtol": 1e-12, "atol": 1e-12}
compiled = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def inputs(length=T, requires_grad=False, dv=DV):
    generator = torch.Generator().manual_seed(length)

    def draw(*shape):
        made = torch.randn(shape, dtype=torch.float64, generator=generator)
        return made.requires_grad_(requires_grad)

    return draw(B, H, length, D), draw(B, HKV, length, D), draw(B, HKV, length, dv)


TABLE = torch.linspace(-1, 1, 8 * H, dtype=torch.float64).view(8, H)

# Of the length, what the options are: everything follows T.
ASKED = {
    "plain": lambda T: {},
    "causal": lambda T: {"mask": Causal()},
    "causal, end": lambda T: {"mask": Causal("end")},
    "window": lambda T: {"mask": Causal() & Window(left=2)},
    "prefix": lambda T: {"mask": Causal() | Prefix(3)},
    "opposite": lambda T: {"mask": Not(Window(1, 1))},
    "rule": lambda T: {"mask": Rule(lambda b, h, q, k: (q + 2 * k + h + b) % 3 > 0)},
    "softcap": lambda T: {"softcap": 2.0},
    "sinks": lambda T: {"sinks": TABLE[0]},
    "one sink": lambda T: {"sinks": 0.5, "scale": 0.3},
    "ALiBi": lambda T: {"bias": Alibi(H), "mask": Causal()},
    "T5": lambda T: {"bias": RelativeBias(TABLE, max_distance=7)},
    "bias": lambda T: {"bias": TABLE[0, :, None, None]},
    "everything": lambda T: {
        "mask": Causal() & Window(left=2),
        "bias": RelativeBias(TABLE, max_distance=7),
        "sinks": TABLE[0],
        "softcap": 2.0,
    },
}
FAST = ("causal", "rule", "T5", "everything")
EACH = [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in ASKED]


def attend(name):
    def run(query, key, value):
        asked = ASKED[name](query.shape[-2])
        return atento.attention(query, key, value, **asked, return_lse=True)

    return run


def results(run, tensors):
    output, lse = run(*tensors)
    loss = output.square().sum() + torch.where(lse == -torch.inf, 0, lse).sum()
    return [output, lse, *torch.autograd.grad(loss, tensors)]


@compiled
@pytest.mark.parametrize("name", EACH)
def test_compiles_into_one_graph_forward_and_backward(name):
    torch._dynamo.reset()
    run = attend(name)
    fast = torch.compile(run, fullgraph=True, backend="aot_eager")
    for length in (T, 11, 13):  # from the second length on T is dynamic
        found = results(fast, inputs(length, requires_grad=True))
        wanted = results(run, inputs(length, requires_grad=True))
        torch.testing.assert_close(found, wanted, **SAME)


@compiled
@pytest.mark.parametrize("of", [KeyPadding, Segments, Explicit])
def test_compiles_with_tensors_in_the_mask(of):
    torch._dynamo.reset()

    def run(query, key, value, ids):
        ids = {
            KeyPadding: lambda: KeyPadding(ids > 0),
            Segments: lambda: Segments(ids),
            Explicit: lambda: Explicit((ids[:, None, :, None] + ids[:, None, None, :]) > 1),
        }[of]()
        return atento.attention(query, key, value, mask=ids & Causal())

    fast = torch.compile(run, fullgraph=True, backend="aot_eager")
    for length in (T, 11):
        tensors = inputs(length)
        ids = (torch.arange(length) * torch.tensor([[2], [3]])) // 5 % 3
        torch.testing.assert_close(fast(*tensors, ids), run(*tensors, ids), **SAME)


class Attend(torch.nn.Module):
    def __init__(self, name):
        super().__init__()
        self.name = name

    def forward(self, query, key, value):
        return attend(self.name)(query, key, value)


@compiled
@pytest.mark.parametrize("name", EACH)
def test_exports_with_any_length(name):
    length = torch.export.Dim("length", min=2, max=64)
    program = torch.export.export(
        Attend(name), inputs(), dynamic_shapes=[{2: length}, {2: length}, {2: length}]
    )
    for other in (T, 13, 2):
        tensors = inputs(other)
        torch.testing.assert_close(program.module()(*tensors), attend(name)(*tensors), **SAME)


@compiled
def test_dropout_is_drawn_with_each_call_of_a_compiled_function():
    torch._dynamo.reset()

    def run(query, key, value):
        return atento.attention(query, key, value, dropout=0.5)

    fast = torch.compile(run, fullgraph=True, backend="aot_eager")
    tensors = inputs()
    torch.manual_seed(3)
    first, second = fast(*tensors), fast(*tensors)
    assert not torch.allclose(first, second)
    torch.manual_seed(3)
    torch.testing.assert_close(fast(*tensors), first, **SAME)
    torch.manual_seed(3)
    torch.testing.assert_close(run(*tensors), first, **SAME)


@compiled
def test_a_seed_that_is_a_tensor_is_an_input_of_the_graph():
    torch._dynamo.reset()

    def run(query, key, value, seed):
        return atento.attention(query, key, value, dropout=0.5, seed=seed)

    fast = torch.compile(run, fullgraph=True, backend="aot_eager")
    tensors = inputs()
    for seed in (5, 6, 2**40 + 1):
        wanted = atento.attention(*tensors, dropout=0.5, seed=seed)
        torch.testing.assert_close(fast(*tensors, torch.tensor(seed)), wanted, **SAME)


@compiled
def test_weights_of_a_compiled_function():
    torch._dynamo.reset()

    def run(query, key, value):
        return atento.attention(query, key, value, mask=Causal(), return_weights=True)

    fast = torch.compile(run, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(fast(*inputs()), run(*inputs()), **SAME)


@compiled
@pytest.mark.slow
@pytest.mark.parametrize("name", ["causal", "everything"])
def test_compiles_with_inductor(name):
    torch._dynamo.reset()
    run = attend(name)
    fast = torch.compile(run, fullgraph=True)
    found = results(fast, inputs(requires_grad=True))
    torch.testing.assert_close(found, results(run, inputs(requires_grad=True)), **SAME)


@pytest.mark.parametrize("name", ASKED)
def test_on_the_meta_device(name):
    tensors = [array.to("meta").requires_grad_() for array in inputs()]
    asked = ASKED[name](T)
    if isinstance(asked.get("bias"), RelativeBias):
        asked["bias"] = RelativeBias(TABLE.to("meta"), max_distance=7)
    asked |= {option: given.to("meta") for option, given in asked.items() if torch.is_tensor(given)}
    for dtype in (torch.float64, torch.bfloat16):
        own = [array.to(dtype) for array in tensors]
        output, lse = atento.attention(*own, **asked, return_lse=True)
        assert (output.device.type, output.dtype) == ("meta", dtype)
        assert output.shape == (B, H, T, DV)
        assert lse.shape == (B, H, T)
        assert atento.attention(*own, **asked).shape == (B, H, T, DV)
        output.sum().backward()
    assert [array.grad.shape for array in tensors] == [array.shape for array in tensors]


@pytest.mark.parametrize("name", ASKED)
def test_with_fake_tensors(name):
    with FakeTensorMode(allow_non_fake_inputs=True):
        tensors = [torch.empty(array.shape, dtype=torch.float64) for array in inputs()]
        output, lse = attend(name)(*tensors)
        assert output.shape == (B, H, T, DV)
        assert lse.shape == (B, H, T)


@pytest.mark.parametrize("name", ASKED)
def test_torch_func_grad(name):
    def loss(query, key, value):
        output, lse = attend(name)(query, key, value)
        return output.square().sum() + torch.where(lse == -torch.inf, 0, lse).sum()

    found = torch.func.grad(loss, argnums=(0, 1, 2))(*inputs())
    wanted = results(attend(name), inputs(requires_grad=True))[2:]
    torch.testing.assert_close(list(found), wanted, **SAME)


@pytest.mark.parametrize("name", ASKED)
def test_torch_func_vmap(name):
    if name == "rule":  # it counts batch items: under vmap there are others
        asked = {"mask": Rule(lambda b, h, q, k: (q + 2 * k + h) % 3 > 0)}
    else:
        asked = ASKED[name](T)
    many = [torch.stack([array, 2 * array, array.flip(-2)]) for array in inputs()]
    found = torch.func.vmap(lambda q, k, v: atento.attention(q, k, v, **asked))(*many)
    wanted = torch.stack([atento.attention(*one, **asked) for one in zip(*many, strict=True)])
    torch.testing.assert_close(found, wanted, **SAME)


def test_gradients_of_each_example():
    """Per-example gradients: vmap of grad."""
    many = [torch.stack([array, 2 * array]) for array in inputs()]

    def loss(query, key, value):
        return atento.attention(query, key, value, mask=Causal(), softcap=2.0).square().sum()

    found = torch.func.vmap(torch.func.grad(loss))(*many)
    for index, own in enumerate(found):
        wanted = torch.func.grad(loss)(*(array[index] for array in many))
        torch.testing.assert_close(own, wanted, **SAME)


def test_dropout_where_the_seed_cannot_be_looked_at():
    with FakeTensorMode():
        tensors = [torch.empty(array.shape, dtype=torch.float64) for array in inputs()]
        for seed in (None, torch.zeros((), dtype=torch.int64), 5):
            output = atento.attention(*tensors, dropout=0.5, seed=seed)
            assert output.shape == (B, H, T, DV)
    on_meta = [array.to("meta") for array in inputs()]
    for seed in (None, 5):
        assert atento.attention(*on_meta, dropout=0.5, seed=seed).is_meta
