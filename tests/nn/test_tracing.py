"""torch.compile, torch.export, the meta device: the modules as torch's own tools see them."""

import pytest
import torch

from atento.masks import Causal, KeyPadding, Window
from atento.nn import (
    AttentionHead,
    CausalSelfAttention,
    CrossAttention,
    LearnedPositions,
    MultiHeadAttention,
    RelativePositionBias,
    SimplifiedSelfAttention,
)
from atento.positions import Alibi, DynamicNTKScaling, Rotary, Sinusoidal, YarnScaling

B, T, C, H = 2, 7, 12, 3
SAME = {"rtol": 1e-5, "atol": 1e-6}

MODULES = {
    "plain": lambda: MultiHeadAttention(C, H),
    "causal": lambda: MultiHeadAttention(C, H, mask=Causal()),
    "window": lambda: MultiHeadAttention(C, H, mask=Causal() & Window(left=2)),
    "grouped": lambda: MultiHeadAttention(C, H, num_kv_heads=1, mask=Causal()),
    "value size": lambda: MultiHeadAttention(C, H, value_head_dim=5, d_out=11),
    "rotary": lambda: MultiHeadAttention(C, H, position=Rotary(), mask=Causal()),
    "rotary, dynamic": lambda: MultiHeadAttention(
        C, H, position=Rotary(scaling=DynamicNTKScaling(2.0, 5))
    ),
    "rotary, yarn": lambda: MultiHeadAttention(
        C, H, position=Rotary(interleaved=True, scaling=YarnScaling(2.0, 5))
    ),
    "alibi": lambda: MultiHeadAttention(C, H, position=Alibi(H), mask=Causal()),
    "t5": lambda: MultiHeadAttention(C, H, position=RelativePositionBias(H)),
    "learned": lambda: MultiHeadAttention(C, H, position=LearnedPositions(64, C)),
    "sinusoidal": lambda: MultiHeadAttention(C, H, position=Sinusoidal()),
    "sinks": lambda: MultiHeadAttention(C, H, sinks=True, mask=Causal()),
    "softcap": lambda: MultiHeadAttention(C, H, softcap=2.0),
    "qk_norm": lambda: MultiHeadAttention(C, H, qk_norm="rms"),
    "gate": lambda: MultiHeadAttention(C, H, gate=True, qk_norm="layer"),
    "everything": lambda: MultiHeadAttention(
        C,
        H,
        num_kv_heads=1,
        value_head_dim=5,
        d_out=11,
        mask=Causal() & Window(left=2),
        position=Rotary(),
        softcap=2.0,
        sinks=True,
        qk_norm="rms",
        gate=True,
    ),
    "head": lambda: AttentionHead(C, 5, mask=Causal()),
    "causal self-attention": lambda: CausalSelfAttention(C, 5),
    "simplified": SimplifiedSelfAttention,
}
FAST = ("plain", "causal", "t5", "everything")
EACH = [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in MODULES]
compiled = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def make(name):
    torch.manual_seed(53)
    torch._dynamo.reset()
    return MODULES[name]()


def tokens(length=T, batch=B, size=C):
    return torch.randn(
        batch, length, size, generator=torch.Generator().manual_seed(batch * 100 + length)
    )


def both_ways(module, fast, x):
    """Output and gradients, run as it is and compiled."""
    found = []
    for run in (module, fast):
        module.zero_grad(set_to_none=True)
        own = x.clone().requires_grad_()
        output = run(own)
        output.square().sum().backward()
        found.append([output, own.grad, *(parameter.grad for parameter in module.parameters())])
    torch.testing.assert_close(found[1], found[0], **SAME)


@compiled
@pytest.mark.parametrize("name", EACH)
def test_compiles_into_one_graph_forward_and_backward(name):
    module = make(name)
    fast = torch.compile(module, fullgraph=True, backend="aot_eager")
    for length in (T, 11):  # the second length makes T dynamic
        both_ways(module, fast, tokens(length))


@compiled
@pytest.mark.slow
@pytest.mark.parametrize("name", ["causal", "t5", "everything"])
def test_compiles_with_inductor(name):
    module = make(name)
    fast = torch.compile(module, fullgraph=True)
    for length in (T, 11):
        both_ways(module, fast, tokens(length))


@compiled
def test_compiled_cross_attention_with_two_lengths():
    torch._dynamo.reset()
    module = CrossAttention(C, H, kdim=5)
    fast = torch.compile(module, fullgraph=True, backend="aot_eager")
    for query, key in ((T, 11), (5, 13), (3, 2)):
        x, memory = tokens(query), tokens(key, size=5)
        torch.testing.assert_close(fast(x, memory), module(x, memory), **SAME)


@compiled
def test_compiled_with_weights():
    module = make("causal")
    fast = torch.compile(module, fullgraph=True, backend="aot_eager")
    for length in (T, 11):
        x = tokens(length)
        made, expected = fast(x, return_weights=True), module(x, return_weights=True)
        torch.testing.assert_close(made, expected, **SAME)


@compiled
def test_compiled_with_padding_that_changes():
    module = make("causal")
    fast = torch.compile(module, fullgraph=True, backend="aot_eager")
    for count in (3, 5, 7):
        mask, x = KeyPadding(torch.arange(T).expand(B, T) < count), tokens()
        torch.testing.assert_close(fast(x, mask=mask), module(x, mask=mask), **SAME)


@compiled
def test_compiled_dropout_draws_anew_and_follows_the_seed():
    torch._dynamo.reset()
    module = MultiHeadAttention(C, H, dropout=0.5)
    fast = torch.compile(module, fullgraph=True, backend="aot_eager")
    x = tokens()
    torch.manual_seed(3)
    first, second = fast(x), fast(x)
    assert not torch.equal(first, second)
    torch.manual_seed(3)
    torch.testing.assert_close(fast(x), first, rtol=0, atol=0)
    torch.manual_seed(3)
    torch.testing.assert_close(module(x), first, **SAME)


@compiled
@pytest.mark.parametrize("name", EACH)
def test_exports_with_any_number_of_tokens(name):
    module, argument = make(name).eval(), "x" if name == "simplified" else "query_in"
    length = torch.export.Dim("T", min=2, max=64)
    program = torch.export.export(module, (tokens(),), dynamic_shapes={argument: {1: length}})
    for count in (T, 2, 31):
        x = tokens(count)
        torch.testing.assert_close(program.module()(x), module(x), **SAME)


@compiled
def test_exports_cross_attention_with_two_lengths():
    module = CrossAttention(C, H, kdim=5).eval()
    queries, keys = torch.export.Dim("Tq", min=2, max=64), torch.export.Dim("Tk", min=2, max=64)
    program = torch.export.export(
        module,
        (tokens(), tokens(11, size=5)),
        dynamic_shapes={"query_in": {1: queries}, "key_in": {1: keys}},
    )
    x, memory = tokens(3), tokens(17, size=5)
    torch.testing.assert_close(program.module()(x, memory), module(x, memory), **SAME)


@pytest.mark.parametrize("name", MODULES)
def test_on_the_meta_device(name):
    with torch.device("meta"):
        module = make(name)
        x = torch.ones(B, T, C)
    assert {parameter.device.type for parameter in module.parameters()} <= {"meta"}
    real = make(name)
    output = module(x)
    assert output.device.type == "meta"
    assert output.shape == real(tokens()).shape
    assert {k: v.shape for k, v in module.state_dict().items()} == {
        k: v.shape for k, v in real.state_dict().items()
    }
    module.to_empty(device="cpu").load_state_dict(real.state_dict())
    torch.testing.assert_close(module(tokens()), real(tokens()), rtol=0, atol=0)


def test_device_and_dtype_are_arguments_as_in_torch():
    options = {"sinks": True, "gate": True, "qk_norm": "layer"}
    module = MultiHeadAttention(C, H, device="meta", dtype=torch.float64, **options)
    head = AttentionHead(C, 5, device="meta", dtype=torch.float64, **options)
    for made in (module, head, LearnedPositions(9, C, device="meta", dtype=torch.float64)):
        for parameter in made.parameters():
            assert (parameter.device.type, parameter.dtype) == ("meta", torch.float64)
