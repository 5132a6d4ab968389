"""AdditiveAttention against loops in float64, the plain formula, and its own numerical gradient."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from atento import DTypeError, InputError, ShapeError
from atento.masks import Causal, KeyPadding
from atento.nn import additive_attention
from atento.nn.additive_attention import AdditiveAttention, additive_scores, blockwise

B, TQ, TK, CQ, CK, H, DV = 2, 5, 7, 3, 11, 13, 17
# what the compiler itself warns of: among others, it makes an instance of every autograd.Function
compiled = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def module(**options):
    torch.manual_seed(31)
    return AdditiveAttention(CQ, CK, H, **options).double()


def inputs(*, seed=41, value=True, dtype=torch.float64):
    """query (B, TQ, CQ), key (B, TK, CK), value (B, TK, DV) or None."""
    draw = torch.Generator().manual_seed(seed)
    sizes = [(B, TQ, CQ), (B, TK, CK), (B, TK, DV)]
    drawn = [torch.randn(size, generator=draw, dtype=dtype) for size in sizes]
    return drawn if value else [*drawn[:2], None]


def by_loops(attend, query, key, value, visible=None):
    """One sequence, from Bahdanau's definition, one number after the other: output, weights."""
    W, U, v = (
        p.detach().numpy()
        for p in (attend.query.weight, attend.key.weight, *attend.score.parameters())
    )
    b = np.zeros(H) if attend.key.bias is None else attend.key.bias.detach().numpy()
    query, key, value = (x.numpy() for x in (query, key, value))
    output, weights = np.zeros((len(query), value.shape[1])), np.zeros((len(query), len(key)))
    for i in range(len(query)):
        scores = {}
        for j in range(len(key)):
            if visible is not None and not visible[i, j]:
                continue
            score = 0.0
            for h in range(H):
                inner = b[h]
                inner += sum(W[h, c] * query[i, c] for c in range(CQ))
                inner += sum(U[h, c] * key[j, c] for c in range(CK))
                score += v[0, h] * math.tanh(inner)
            scores[j] = math.exp(score)
        for j, e in scores.items():
            weights[i, j] = e / sum(scores.values())
            output[i] += weights[i, j] * value[j]
    return output, weights


def plain(attend, query, key, value):
    """The formula as one writes it in PyTorch, the hidden layer whole."""
    hidden = torch.tanh(attend.query(query)[:, :, None] + attend.key(key)[:, None])
    weights = attend.score(hidden).squeeze(-1).softmax(-1)
    return weights @ value, weights


def test_a_hand_computed_score():
    attend = AdditiveAttention(1, 1, 2)
    with torch.no_grad():
        attend.query.weight.copy_(torch.tensor([[1.0], [0.0]]))
        attend.key.weight.copy_(torch.tensor([[0.0], [1.0]]))
        attend.score.weight.copy_(torch.tensor([[1.0, 2.0]]))
    # scores: tanh(q) + 2 tanh(k) with tanh(0.5) = 0.4621: the first key is ahead by 2 · 0.4621
    output, weights = attend(
        torch.tensor([[0.25]]), torch.tensor([[0.5], [0.0]]), return_weights=True
    )
    assert weights[0, 0].item() == pytest.approx(1 / (1 + math.exp(-2 * 0.46211716)), abs=1e-6)
    assert output[0, 0].item() == pytest.approx(0.5 * weights[0, 0].item(), abs=1e-6)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("with_value", [False, True])
def test_equals_the_definition_by_loops(bias, with_value):
    attend = module(bias=bias)
    query, key, value = inputs(value=with_value)
    output, weights = attend(query, key, value, return_weights=True)
    assert torch.equal(attend(query, key, value), output)
    for b in range(B):
        expected = by_loops(attend, query[b], key[b], (key if value is None else value)[b])
        for got, want in zip((output[b], weights[b]), expected, strict=True):
            np.testing.assert_allclose(got.detach(), want, rtol=1e-12, atol=1e-14)


def test_masks_are_the_equations_own():
    attend = module()
    query, key, value = inputs()
    keep = torch.tensor([[True] * 4 + [False] * 3, [True] * TK])
    mask = Causal(align="end") & KeyPadding(keep)
    output = attend(query, key, value, mask=mask)
    for b in range(B):
        visible = mask.dense(TQ, TK)[b, 0]
        want, _ = by_loops(attend, query[b], key[b], value[b], visible)
        np.testing.assert_allclose(output[b].detach(), want, rtol=1e-12, atol=1e-14)


def test_causality_between_different_lengths_must_be_aligned():
    with pytest.raises(ShapeError, match=r'align="start".*align="end"'):
        module()(*inputs(), mask=Causal())


def test_a_query_that_sees_no_key_gets_zero_and_gradient_zero():
    attend = module()
    query, key, value = inputs()
    query.requires_grad_()
    visible = torch.ones(TQ, TK, dtype=torch.bool)
    visible[3] = False
    output, weights = attend(query, key, value, mask=visible, return_weights=True)
    output.square().sum().backward()
    assert (output[:, 3] == 0).all()
    assert (weights[:, 3] == 0).all()
    assert (query.grad[:, 3] == 0).all()
    assert (query.grad[:, 2] != 0).all()
    for parameter in attend.parameters():
        assert parameter.grad.isfinite().all()


def test_one_sequence_without_a_batch():
    attend = module()
    query, key, value = inputs()
    output, weights = attend(query[1], key[1], value[1], return_weights=True)
    assert output.shape == (TQ, DV)
    assert weights.shape == (TQ, TK)
    assert torch.allclose(output, attend(query, key, value)[1], rtol=0, atol=1e-14)


def test_one_query_alone_as_in_a_decoders_step():
    attend = module()
    query, key, value = inputs()
    whole, whole_weights = attend(query, key, value, return_weights=True)
    output, weights = attend(query[:, 2], key, value, return_weights=True)
    assert output.shape == (B, DV)
    assert weights.shape == (B, TK)
    assert torch.allclose(output, whole[:, 2], rtol=0, atol=1e-14)
    assert torch.allclose(weights, whole_weights[:, 2], rtol=0, atol=1e-14)
    lone = attend(query[1, 2], key[1], value[1])
    assert torch.allclose(lone, whole[1, 2], rtol=0, atol=1e-14)
    hidden = ~KeyPadding(torch.ones(B, TK, dtype=torch.bool))
    assert (attend(query[:, 2], key, value, mask=hidden) == 0).all()


def test_keys_projected_once_serve_a_decoders_loop():
    attend = module(bias=True)
    query, key, value = inputs()
    projected = attend.key(key)
    attend.key = None  # so that nobody projects them again
    with_them = attend(query[:, 1], key, value, key_projection=projected)
    assert torch.equal(with_them, module(bias=True)(query[:, 1], key, value))
    with pytest.raises(ShapeError) as raised:
        attend(query, key, value, key_projection=projected[:, :3])
    assert "of shape (2, 7, 13); got (2, 3, 13)." in str(raised.value)


def test_trace_keeps_every_step():
    attend = module()
    query, key, value = inputs()
    trace = attend.trace(query, key, value, mask=Causal(align="end"))
    assert [step.name for step in trace] == [
        "query_projection",
        "key_projection",
        "hidden",
        "additive_scores",
        "queries",
        "keys",
        "values",
        "scores",
        "scaled",
        "biased",
        "masked",
        "weights",
        "output",
    ]
    for step in trace:
        assert len(step.axes) == step.value.ndim
    assert trace["hidden"].axes == ("batch", "query", "key", "feature")
    assert trace["hidden"].value.shape == (B, TQ, TK, H)
    assert trace["weights"].axes == ("batch", "query", "key")
    assert trace["weights"].value.shape == (B, TQ, TK)
    assert (trace["scores"].value == 0).all()
    hidden = torch.tanh(attend.query(query)[:, :, None] + attend.key(key)[:, None])
    want = attend.score(hidden).squeeze(-1)
    assert torch.allclose(trace["additive_scores"].value, want, rtol=0, atol=1e-13)
    assert torch.allclose(trace["biased"].value, want, rtol=0, atol=1e-13)
    output, weights = attend(query, key, value, mask=Causal(align="end"), return_weights=True)
    assert torch.allclose(trace.output, output, rtol=0, atol=1e-14)
    assert torch.allclose(trace["weights"].value, weights, rtol=0, atol=1e-14)
    single = attend.trace(query[:, 0], key, value)
    assert [step.name for step in single][-2:] == ["contexts", "output"]
    assert single["contexts"].axes == ("batch", "query", "feature")
    assert single["output"].axes == ("batch", "feature")
    assert torch.allclose(single.output, attend(query[:, 0], key, value), rtol=0, atol=1e-14)


@pytest.mark.parametrize("block", [1, 4, H, 50])
def test_blocks_change_neither_scores_nor_gradients(block):
    draw = torch.Generator().manual_seed(43)
    leaves = [
        torch.randn(size, generator=draw, dtype=torch.float64, requires_grad=True)
        for size in ((B, TQ, H), (B, TK, H), (H,))
    ]
    q, k, v = leaves
    away = torch.randn(B, TQ, TK, generator=draw, dtype=torch.float64)
    want = torch.tanh(q[:, :, None] + k[:, None]) @ v
    got = blockwise(q, k, v, block)
    assert torch.allclose(got, want, rtol=0, atol=1e-13)
    wanted = torch.autograd.grad(want, leaves, away)
    for g, w in zip(torch.autograd.grad(got, leaves, away), wanted, strict=True):
        assert torch.allclose(g, w, rtol=0, atol=1e-12)


def test_gradcheck_and_double_backward_of_the_blocks():
    draw = torch.Generator().manual_seed(47)
    leaves = [
        torch.randn(size, generator=draw, dtype=torch.float64, requires_grad=True)
        for size in ((2, 3, 5), (2, 4, 5), (5,))
    ]
    assert torch.autograd.gradcheck(lambda q, k, v: blockwise(q, k, v, 2), leaves)
    assert torch.autograd.gradgradcheck(lambda q, k, v: blockwise(q, k, v, 2), leaves)


@pytest.mark.parametrize("mask", [None, Causal(align="end")])
def test_gradcheck_of_the_module(mask):
    attend = module(bias=True)
    leaves = [x[:, :3].clone().requires_grad_() for x in inputs()]
    parameters = dict(attend.named_parameters())

    def call(query, key, value, *weights):
        named = dict(zip(parameters, weights, strict=True))
        return torch.func.functional_call(attend, named, (query, key, value), {"mask": mask})

    assert torch.autograd.gradcheck(call, (*leaves, *parameters.values()))


class LargestTensor(TorchDispatchMode):
    """Notes how many elements the largest tensor made within it has."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for x in made if isinstance(made, tuple | list) else (made,):
            if isinstance(x, torch.Tensor):
                self.numel = max(self.numel, x.numel())
        return made


def test_the_hidden_layer_is_never_whole(monkeypatch):
    monkeypatch.setattr(additive_attention, "WHOLE", 2**12)
    attend = AdditiveAttention(CQ, CK, 64)
    query, key = torch.randn(1, 61, CQ, requires_grad=True), torch.randn(1, 67, CK)
    with LargestTensor() as forward:
        output = attend(query, key)
    with LargestTensor() as backward:
        output.sum().backward()
    assert query.grad.shape == query.shape
    cells = 61 * 67
    assert cells <= forward.numel <= 2 * cells
    assert cells <= backward.numel <= 2 * cells  # and the hidden layer would be 64 · cells


def test_blocks_are_taken_where_the_hidden_layer_is_large(monkeypatch):
    attend = module()
    query, key, value = inputs()
    want = attend(query, key, value)
    taken = []
    real = additive_attention.blockwise
    monkeypatch.setattr(additive_attention, "blockwise", lambda *a: taken.append(a[-1]) or real(*a))
    monkeypatch.setattr(additive_attention, "WHOLE", B * TQ * TK * 3)
    assert torch.allclose(attend(query, key, value), want, rtol=0, atol=1e-14)
    assert taken == [3]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    attend = module().to(dtype)
    query, key, value = inputs(dtype=dtype)
    output, weights = attend(query, key, value, return_weights=True)
    assert output.dtype == dtype
    q, k = attend.query(query).float(), attend.key(key).float()
    scores = additive_scores(attend.query(query), attend.key(key), attend.score.weight[0])
    assert scores.dtype == torch.float32
    want = torch.tanh(q[:, :, None] + k[:, None]) @ attend.score.weight[0].float()
    assert torch.allclose(scores, want, rtol=0, atol=1e-5)
    close = {torch.float16: 2e-3, torch.bfloat16: 2e-2}[dtype]
    assert torch.allclose(output.float(), want.softmax(-1) @ value.float(), rtol=0, atol=close)
    assert torch.allclose(weights.float(), want.softmax(-1), rtol=0, atol=close)


def test_autocast():
    attend = module().float()
    query, key, value = inputs(dtype=torch.float32)
    want = attend(query, key, value)
    with torch.autocast("cpu", torch.bfloat16):
        output = attend(query, key, value)
        output.sum().backward()
    assert torch.allclose(output.float(), want, rtol=0, atol=0.05)
    assert attend.query.weight.grad.isfinite().all()


def test_dropout_follows_torchs_seed_and_leaves_evaluation_alone():
    attend = module(dropout=0.5)
    query, key, value = inputs()
    torch.manual_seed(53)
    first, second = attend(query, key, value), attend(query, key, value)
    torch.manual_seed(53)
    again = attend(query, key, value)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    want, weights = plain(attend, query, key, value)
    # every weight is 0 or twice what it was: the output is a sum over some of the keys
    trace = attend.trace(query, key, value)
    factor = trace["dropped"].value / weights
    assert ((factor.abs() < 1e-12) | ((factor - 2).abs() < 1e-9)).all()
    assert torch.allclose(trace.output, trace["dropped"].value @ value, rtol=0, atol=1e-12)
    attend.eval()
    assert torch.allclose(attend(query, key, value), want, rtol=0, atol=1e-13)


def test_meta_device():
    attend = module().to("meta")
    output = attend(*(x.to("meta") for x in inputs()))
    assert output.shape == (B, TQ, DV)
    assert output.device.type == "meta"


def test_state_dict_is_as_documented():
    shapes = {name: tuple(x.shape) for name, x in module(bias=True).state_dict().items()}
    assert shapes == {
        "query.weight": (H, CQ),
        "key.weight": (H, CK),
        "key.bias": (H,),
        "score.weight": (1, H),
    }
    assert "key.bias" not in module().state_dict()


@compiled
def test_compiles_whole_forward_and_backward():
    attend = module()
    query, key, value = inputs()
    torch._dynamo.reset()
    compiled = torch.compile(attend, fullgraph=True, backend="aot_eager")
    for tokens in (TQ, TQ - 2):  # the second time with a length that is no constant
        attend.zero_grad()
        want = attend(query[:, :tokens], key, value, mask=Causal(align="end"))
        want.sum().backward()
        wanted = attend.query.weight.grad.clone()
        attend.zero_grad()
        got = compiled(query[:, :tokens], key, value, mask=Causal(align="end"))
        got.sum().backward()
        assert torch.allclose(got, want, rtol=0, atol=1e-13)
        assert torch.allclose(attend.query.weight.grad, wanted, rtol=0, atol=1e-12)


@compiled
def test_compiled_dropout_is_not_frozen():
    attend = module(dropout=0.5)
    query, key, value = inputs()
    torch._dynamo.reset()
    compiled = torch.compile(attend, fullgraph=True, backend="aot_eager")
    assert not torch.equal(compiled(query, key, value), compiled(query, key, value))


def test_exports_with_any_number_of_tokens():
    attend = module().eval()
    query, key, value = inputs()
    Tq, Tk = torch.export.Dim("Tq", min=2), torch.export.Dim("Tk", min=2)
    program = torch.export.export(
        attend, (query, key, value), dynamic_shapes=({1: Tq}, {1: Tk}, {1: Tk})
    )
    for i, j in ((TQ, TK), (19, 23)):
        draw = torch.Generator().manual_seed(i)
        longer = [
            torch.randn(size, generator=draw, dtype=torch.float64)
            for size in ((B, i, CQ), (B, j, CK), (B, j, DV))
        ]
        got = program.module()(*longer)
        assert torch.allclose(got, attend(*longer), rtol=0, atol=1e-13)


REFUSED = {
    "query features": (
        lambda q, k, v: (q[..., :2], k, v),
        ShapeError,
        "the query projection takes 3 features; query's last axis has 2 (shape (2, 5, 2)).",
    ),
    "key features": (
        lambda q, k, v: (q, v, v),
        ShapeError,
        "the key projection takes 11 features; key's last axis has 17",
    ),
    "swapped": (
        lambda q, k, v: (k, q, q),
        ShapeError,
        "Did you swap query and key?",
    ),
    "value tokens": (
        lambda q, k, v: (q, k, v[:, :4]),
        ShapeError,
        "key and value must have the same number of tokens; got 7 and 4",
    ),
    "batches": (
        lambda q, k, v: (q[:1], k, v),
        ShapeError,
        "the same batch axis; got query (1, 5, 3), key (2, 7, 11), value (2, 7, 17). With such a "
        "key, queries are (batch, query, feature), and one query alone is (2, feature).",
    ),
    "a batch of single queries of another size": (
        lambda q, k, v: (q[0], k, v),
        ShapeError,
        "one query alone is (2, feature)",
    ),
    "axes": (
        lambda q, k, v: (q, k[None], v[None]),
        ShapeError,
        "key must have the axes (batch, key, feature) or (key, feature); got shape (1, 2, 7, 11)",
    ),
    "dtypes": (
        lambda q, k, v: (q, k.float(), v),
        DTypeError,
        "query, key and value must have one dtype; got float64, float32 and float64.",
    ),
    "the weights' dtype": (
        lambda q, k, v: (q.float(), k.float(), v.float()),
        DTypeError,
        "this module's weights are float64 and its inputs float32",
    ),
    "NumPy": (
        lambda q, k, v: (q.numpy(), k, v),
        DTypeError,
        "query must be a torch tensor; got ndarray",
    ),
    "torch's causal mask, the other way round": (
        lambda q, k, v: (k[..., :3], k, v, torch.ones(TK, TK, dtype=torch.bool).triu(1)),
        InputError,
        "pass mask=~attn_mask, or mask=Causal().",
    ),
    "devices": (
        lambda q, k, v: (q, k.to("meta"), v),
        DTypeError,
        "must be on one device; got cpu, meta.",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refuses(case):
    change, error, message = REFUSED[case]
    query, key, value, *mask = change(*inputs())
    with pytest.raises(error) as raised:
        module()(query, key, value, mask=mask[0] if mask else None)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"query_dim": 0}, "query_dim must be a whole number from 1 on; got 0."),
        ({"hidden_dim": 2.0}, "hidden_dim must be a whole number from 1 on; got 2.0."),
        ({"dropout": 1.0}, "dropout must be a probability from 0 up to but not including 1"),
    ],
)
def test_refuses_to_be_made(options, message):
    with pytest.raises(InputError) as raised:
        AdditiveAttention(**({"query_dim": CQ, "key_dim": CK, "hidden_dim": H} | options))
    assert message in str(raised.value)


def test_the_equation_is_not_written_again():
    folder = Path(additive_attention.__file__).parent
    for name in ("additive_attention.py", "multiplicative_attention.py"):
        code = (folder / name).read_text("utf-8")
        assert "scaled_dot_product" not in code
        assert ".softmax(" not in code
