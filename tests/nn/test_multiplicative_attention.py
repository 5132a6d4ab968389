"""MultiplicativeAttention against loops in float64: Luong's dot, general and concat."""

import math

import numpy as np
import pytest
import torch

from atento import DTypeError, InputError, ShapeError
from atento.masks import Causal, KeyPadding
from atento.nn.additive_attention import AdditiveAttention
from atento.nn.multiplicative_attention import MultiplicativeAttention

B, TQ, TK, CQ, CK, H, DV = 2, 5, 7, 3, 11, 13, 17
# what the compiler itself warns of: among others, it makes an instance of every autograd.Function
compiled = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
FORMS = ("dot", "general", "concat")


def module(score, **options):
    torch.manual_seed(59)
    key_dim = CQ if score == "dot" else CK
    if score == "concat":
        options["hidden_dim"] = H
    return MultiplicativeAttention(CQ, key_dim, score=score, **options).double()


def inputs(score, dtype=torch.float64):
    """query (B, TQ, CQ), key (B, TK, CQ or CK), value (B, TK, DV)."""
    draw = torch.Generator().manual_seed(61)
    sizes = [(B, TQ, CQ), (B, TK, CQ if score == "dot" else CK), (B, TK, DV)]
    return [torch.randn(size, generator=draw, dtype=dtype) for size in sizes]


def score_by_loops(attend, q, k):
    """One query vector with one key vector, by equation 8 of the paper."""
    if attend.score_form == "dot":
        return math.fsum(a * b for a, b in zip(q, k, strict=True))
    if attend.score_form == "general":
        W = attend.key.weight.detach().numpy()
        return math.fsum(q[c] * W[c, e] * k[e] for c in range(CQ) for e in range(CK))
    both = np.concatenate([q, k])  # [h_t; h̄_s], and W_a is one matrix
    W = torch.cat([attend.query.weight, attend.key.weight], 1).detach().numpy()
    v = attend.score.weight[0].detach().numpy()
    return math.fsum(v[h] * math.tanh(math.fsum(W[h] * both)) for h in range(H))


def by_loops(attend, query, key, value, visible=None, scale=1.0):
    query, key, value = (x.numpy() for x in (query, key, value))
    output, weights = np.zeros((len(query), value.shape[1])), np.zeros((len(query), len(key)))
    for i, q in enumerate(query):
        seen = [j for j in range(len(key)) if visible is None or visible[i, j]]
        terms = {j: math.exp(scale * score_by_loops(attend, q, key[j])) for j in seen}
        for j in seen:
            weights[i, j] = terms[j] / math.fsum(terms.values())
            output[i] += weights[i, j] * value[j]
    return output, weights


@pytest.mark.parametrize("score", FORMS)
def test_equals_the_definition_by_loops(score):
    attend = module(score)
    query, key, value = inputs(score)
    output, weights = attend(query, key, value, return_weights=True)
    torch.testing.assert_close(attend(query, key, value), output, rtol=1e-12, atol=1e-14)
    default = attend(query, key)
    for b in range(B):
        expected = by_loops(attend, query[b], key[b], value[b])
        for got, want in zip((output[b], weights[b]), expected, strict=True):
            np.testing.assert_allclose(got.detach(), want, rtol=1e-12, atol=1e-14)
        # left out, the value is the key itself, not its projection
        want = weights[b] @ key[b]
        assert torch.allclose(default[b], want, rtol=0, atol=1e-13)


def test_a_hand_computed_dot():
    attend = MultiplicativeAttention(2)
    key = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    _, weights = attend(torch.tensor([[1.0, 0.0]]), key, return_weights=True)
    assert weights[0, 0].item() == pytest.approx(1 / (1 + math.exp(-2)), abs=1e-6)  # not 2/√2


@pytest.mark.parametrize("score", ["dot", "general"])
def test_scale_multiplies_the_scores(score):
    attend = module(score, scale=0.25)
    query, key, value = inputs(score)
    want, _ = by_loops(attend, query[0], key[0], value[0], scale=0.25)
    np.testing.assert_allclose(attend(query, key, value)[0].detach(), want, rtol=1e-12, atol=1e-14)


def test_concat_is_additive_attention():
    attend, additive = module("concat"), AdditiveAttention(CQ, CK, H).double()
    additive.load_state_dict(attend.state_dict())
    assert torch.equal(attend(*inputs("concat")), additive(*inputs("concat")))


@pytest.mark.parametrize("score", FORMS)
def test_masks_single_queries_and_no_batch(score):
    attend = module(score)
    query, key, value = inputs(score)
    keep = torch.tensor([[True] * 4 + [False] * 3, [True] * TK])
    mask = Causal(align="end") & KeyPadding(keep)
    output = attend(query, key, value, mask=mask)
    for b in range(B):
        want, _ = by_loops(attend, query[b], key[b], value[b], mask.dense(TQ, TK)[b, 0])
        np.testing.assert_allclose(output[b].detach(), want, rtol=1e-12, atol=1e-14)
    whole = attend(query, key, value)
    lone, weights = attend(query[:, 3], key, value, return_weights=True)
    assert lone.shape == (B, DV)
    assert weights.shape == (B, TK)
    assert torch.allclose(lone, whole[:, 3], rtol=0, atol=1e-14)
    assert torch.allclose(attend(query[1], key[1], value[1]), whole[1], rtol=0, atol=1e-14)
    with pytest.raises(ShapeError, match=r'align="start".*align="end"'):
        attend(query, key, value, mask=Causal())


@pytest.mark.parametrize("score", FORMS)
def test_fully_masked_rows(score):
    attend = module(score)
    query, key, value = inputs(score)
    query.requires_grad_()
    visible = torch.ones(TQ, TK, dtype=torch.bool)
    visible[1] = False
    output = attend(query, key, value, mask=visible)
    output.square().sum().backward()
    assert (output[:, 1] == 0).all()
    assert (query.grad[:, 1] == 0).all()
    assert (query.grad[:, 0] != 0).all()
    assert all(parameter.grad.isfinite().all() for parameter in attend.parameters())


@pytest.mark.parametrize("score", FORMS)
def test_gradcheck(score):
    attend = module(score)
    leaves = [x[:, :3].clone().requires_grad_() for x in inputs(score)]
    parameters = dict(attend.named_parameters())

    def call(query, key, value, *weights):
        named = dict(zip(parameters, weights, strict=True))
        return torch.func.functional_call(attend, named, (query, key, value))

    assert torch.autograd.gradcheck(call, (*leaves, *parameters.values()))


FIRST = {
    "dot": [],
    "general": ["key_projection"],
    "concat": ["query_projection", "key_projection", "hidden", "additive_scores"],
}


@pytest.mark.parametrize("score", FORMS)
def test_trace_keeps_every_step(score):
    attend = module(score)
    query, key, value = inputs(score)
    trace = attend.trace(query, key, value)
    names = [step.name for step in trace]
    own = ["queries", "keys", "values", "scores", "scaled"] + ["biased"] * (score == "concat")
    assert names == [*FIRST[score], *own, "weights", "output"]
    for step in trace:
        assert len(step.axes) == step.value.ndim
    assert torch.allclose(trace.output, attend(query, key, value), rtol=0, atol=1e-14)
    before = trace["biased" if score == "concat" else "scaled"].value[1, 2, 4].item()
    want = score_by_loops(attend, query[1, 2].numpy(), key[1, 4].numpy())
    assert before == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize("score", FORMS)
def test_state_dict_is_as_documented(score):
    documented = {
        "dot": {},
        "general": {"key.weight": (CQ, CK)},
        "concat": {"query.weight": (H, CQ), "key.weight": (H, CK), "score.weight": (1, H)},
    }
    shapes = {name: tuple(x.shape) for name, x in module(score).state_dict().items()}
    assert shapes == documented[score]


@pytest.mark.parametrize("score", FORMS)
def test_dropout_follows_torchs_seed(score):
    attend = module(score, dropout=0.5)
    arrays = inputs(score)
    torch.manual_seed(67)
    first, second = attend(*arrays), attend(*arrays)
    torch.manual_seed(67)
    assert torch.equal(first, attend(*arrays))
    assert not torch.equal(first, second)
    assert torch.equal(attend.eval()(*arrays), module(score)(*arrays))


@compiled
@pytest.mark.parametrize("score", FORMS)
def test_compiles_exports_and_runs_in_half_precision(score):
    attend = module(score).eval()
    query, key, value = inputs(score)
    want = attend(query, key, value)
    torch._dynamo.reset()
    compiled = torch.compile(attend, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(query, key, value), want, rtol=0, atol=1e-13)
    Tq, Tk = torch.export.Dim("Tq", min=2), torch.export.Dim("Tk", min=2)
    dynamic = ({1: Tq}, {1: Tk}, {1: Tk})
    program = torch.export.export(attend, (query, key, value), dynamic_shapes=dynamic)
    shorter = query[:, :3], key[:, :4], value[:, :4]
    got = program.module()(*shorter)
    assert torch.allclose(got, attend(*shorter), rtol=0, atol=1e-13)
    half = attend.to(torch.bfloat16)(*(x.to(torch.bfloat16) for x in inputs(score)))
    assert half.dtype == torch.bfloat16
    assert torch.allclose(half.double(), want, rtol=0, atol=0.1)


@pytest.mark.parametrize("score", FORMS)
def test_autocast(score):
    attend = module(score).float()
    arrays = [x.requires_grad_() for x in inputs(score, torch.float32)]
    want = attend(*arrays)
    with torch.autocast("cpu", torch.bfloat16):
        output = attend(*arrays)
        output.sum().backward()
        mixed = attend(arrays[0], arrays[1].bfloat16(), arrays[2])
    for got in (output, mixed):
        assert torch.allclose(got.float(), want, rtol=0, atol=0.05)
    for leaf in (*arrays, *attend.parameters()):
        assert leaf.grad.isfinite().all()


def test_refuses_to_be_made():
    for options, error, message in (
        ({"score": "additive"}, InputError, "score must be one of dot, general, concat"),
        ({"key_dim": CK}, ShapeError, 'score="general" puts a matrix in between'),
        ({"hidden_dim": H}, InputError, 'score="dot" has no hidden layer'),
        ({"score": "concat", "scale": 2.0}, InputError, "leave scale out; got 2.0"),
        ({"key_dim": -1}, InputError, "key_dim must be a whole number from 1 on"),
        ({"dropout": -0.1}, InputError, "dropout must be a probability"),
    ):
        with pytest.raises(error) as raised:
            MultiplicativeAttention(CQ, **options)
        assert message in str(raised.value)


def test_refuses_inputs_that_do_not_fit():
    query, key, value = inputs("general")
    for score, arrays, error, message in (
        ("general", (query, value, value), ShapeError, "the key projection takes 11 features"),
        ("general", (query.float(), key, value), DTypeError, "must have one dtype"),
        ("dot", (query, key, value), ShapeError, "key's last axis has 11"),
    ):
        with pytest.raises(error) as raised:
            module(score)(*arrays)
        assert message in str(raised.value)
