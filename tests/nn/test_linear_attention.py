"""Linear attention against loops in float64, its quadratic form, and itself in other chunks."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from atento import DTypeError, InputError, ShapeError
from atento.masks import Causal, KeyPadding
from atento.nn.linear_attention import LinearAttention
from atento.nn.linear_equation import linear_attention
from atento.nn.linear_state import LinearState

B, HQ, HKV, TQ, TK, D, DV = 2, 6, 3, 5, 7, 11, 13


def drawn(*shape, seed=17, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def inputs(queries=TQ, keys=TK, heads=HQ, kv_heads=HKV, dtype=torch.float64, grad=False):
    made = (
        drawn(B, heads, queries, D, seed=3, dtype=dtype),
        drawn(B, kv_heads, keys, D, seed=5, dtype=dtype),
        drawn(B, kv_heads, keys, DV, seed=7, dtype=dtype),
    )
    return tuple(x.requires_grad_(grad) for x in made)


def by_loops(query, key, value, visible=None, phi=None):
    """One head at a time, one number after the other: output and weights."""
    phi = phi or (lambda x: [c + 1 if c > 0 else math.exp(c) for c in x])
    query, key, value = (np.asarray(x.detach(), np.float64) for x in (query, key, value))
    *leading, Tq, _ = query.shape
    Tk, dv = value.shape[-2:]
    visible = np.broadcast_to(True if visible is None else visible, (*leading, Tq, Tk))
    output, weights = np.zeros((*leading, Tq, dv)), np.zeros((*leading, Tq, Tk))
    share = query.shape[-3] // key.shape[-3] if leading else 1
    for *batch, i in np.ndindex(*leading, Tq):
        kv = (*batch[:-1], batch[-1] // share) if batch else ()
        q = phi(query[(*batch, i)])
        seen = [j for j in range(Tk) if visible[(*batch, i, j)]]
        for j in seen:
            k = phi(key[(*kv, j)])
            weights[(*batch, i, j)] = math.fsum(a * b for a, b in zip(q, k, strict=True))
        total = math.fsum(weights[(*batch, i)])
        for j in seen if total else ():
            weights[(*batch, i, j)] /= total
            output[(*batch, i)] += weights[(*batch, i, j)] * value[(*kv, j)]
    return output, weights


def same(made, wanted, rtol=1e-12):
    np.testing.assert_allclose(made.detach().numpy(), np.asarray(wanted), rtol=rtol, atol=1e-13)


KEEP = np.array([[1, 1, 0, 1, 0, 1, 1], [0, 1, 1, 0, 1, 1, 0]], bool)


def test_every_query_sees_every_key():
    same(linear_attention(*inputs()), by_loops(*inputs())[0])


def test_it_is_the_quadratic_formula():
    query, key, value = inputs(kv_heads=HQ)
    q, k = functional.elu(query) + 1, functional.elu(key) + 1
    weights = q @ k.mT
    same(linear_attention(query, key, value), weights / weights.sum(-1, keepdim=True) @ value)


@pytest.mark.parametrize("chunk_size", [1, 2, 3, 5, 7, 64])
def test_causal_by_chunks_is_causal_by_loops(chunk_size):
    made = linear_attention(*inputs(queries=TK), causal=True, chunk_size=chunk_size)
    same(made, by_loops(*inputs(queries=TK), np.tri(TK, dtype=bool))[0])


@pytest.mark.parametrize("causal", [False, True])
def test_keys_that_are_no_tokens_are_hidden(causal):
    visible = KEEP[:, None, None] & (np.tri(TK, dtype=bool) if causal else True)
    made = linear_attention(*inputs(queries=TK), causal=causal, mask=KeyPadding(KEEP), chunk_size=3)
    same(made, by_loops(*inputs(queries=TK), visible)[0])


def test_without_a_head_axis_and_with_one_mask_for_all():
    query, key, value = (x[0, 0] for x in inputs())
    same(linear_attention(query, key, value), by_loops(query, key, value)[0])
    made = linear_attention(query, key, value, mask=KeyPadding(KEEP[0]))
    same(made, by_loops(query, key, value, KEEP[0])[0])
    causal = linear_attention(key, key, value, causal=True, chunk_size=2)
    same(causal, by_loops(key, key, value, np.tri(TK, dtype=bool))[0])
    batch = linear_attention(*inputs(), mask=KeyPadding(torch.tensor(KEEP[1])))
    same(batch, by_loops(*inputs(), KEEP[1])[0])


def test_chunks_never_change_the_result():
    q, k, v = (x.float() for x in inputs(queries=131, keys=131))
    whole = linear_attention(q, k, v, causal=True, chunk_size=131)
    for chunk_size in (1, 17, 64, 1000):
        made = linear_attention(q, k, v, causal=True, chunk_size=chunk_size)
        torch.testing.assert_close(made, whole, rtol=2e-6, atol=2e-6)


def test_far_below_zero_a_feature_is_small_and_not_nothing():
    x = torch.tensor([[-20.0, -30.0], [-25.0, -20.0]])  # elu(x) + 1 is 0 here in float32
    made = linear_attention(x, x, torch.eye(2))
    same(made, by_loops(x, x, torch.eye(2))[1], rtol=1e-6)
    assert not (functional.elu(x) + 1).any()


def test_far_from_zero_gradients_are_numbers():
    x = torch.tensor([[300.0, -1.0], [-2.0, 300.0]], requires_grad=True)
    linear_attention(x, x, torch.eye(2))[0, 0].backward()
    assert x.grad.isfinite().all()  # e^300 is ∞ in float32, and 0 · ∞ no number
    assert x.grad.any()


def test_another_feature_map():
    def phi(x):
        return torch.cat([x.relu(), (-x).relu(), x * x], -1)

    def phi_by_loops(x):
        return [max(c, 0) for c in x] + [max(-c, 0) for c in x] + [c * c for c in x]

    visible = np.tri(TK, dtype=bool)
    made = linear_attention(*inputs(queries=TK), causal=True, feature_map=phi, chunk_size=3)
    same(made, by_loops(*inputs(queries=TK), visible, phi_by_loops)[0])


def test_a_query_that_may_see_no_key_gives_nothing():
    q, k, v = inputs(queries=TK, grad=True)
    keep = KEEP.copy()
    keep[0] = False
    for causal in (False, True):
        made = linear_attention(q, k, v, causal=causal, mask=KeyPadding(keep))
        blind = [(0, i) for i in range(TK)] + ([(1, 0)] if causal else [])
        assert all((made[b, :, i] == 0).all() for b, i in blind)
        assert (made[1, :, 1] != 0).all()
        for grad in torch.autograd.grad(made.sum(), (q, k, v)):
            assert (grad[0] == 0).all()
            assert grad.isfinite().all()
            assert grad[1].any()


def test_weights_that_are_all_zero_give_nothing():
    x = torch.tensor([[-1.0, -2.0], [1.0, 2.0]])
    made = linear_attention(x, x, torch.ones(2, 3), feature_map=torch.relu)
    assert made.tolist() == [[0, 0, 0], [1, 1, 1]]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_hidden_key_adds_nothing_even_if_it_is_no_number(causal, bad):
    q, k, v = inputs(queries=TK, grad=True)
    hidden = ~torch.tensor(KEEP)[:, None, :, None]
    options = {"causal": causal, "mask": KeyPadding(KEEP), "chunk_size": 3}
    plain = linear_attention(q, k, v, **options)
    holed = [torch.where(hidden, bad, x).detach().requires_grad_() for x in (k, v)]
    made = linear_attention(q, *holed, **options)
    assert torch.equal(made, plain)
    wanted = torch.autograd.grad(plain.sum(), (q, k, v))
    for got, want in zip(torch.autograd.grad(made.sum(), (q, *holed)), wanted, strict=True):
        assert torch.equal(got, want)


@pytest.mark.parametrize("chunk_size", [1, 3, 64])
def test_a_key_that_comes_later_adds_nothing_even_if_it_is_no_number(chunk_size):
    q, k, v = inputs(queries=TK)
    plain = linear_attention(q, k, v, causal=True)
    for bad in (math.nan, math.inf):
        for at, array in (("key", k.clone()), ("value", v.clone())):
            array[:, :, 4] = bad
            pair = (array, v) if at == "key" else (k, array)
            made = linear_attention(q, *pair, causal=True, chunk_size=chunk_size)
            torch.testing.assert_close(made[:, :, :4], plain[:, :, :4], rtol=1e-12, atol=1e-13)
            wanted = "inf" if at == "value" and bad == math.inf else "nan"
            assert {str(x) for x in made[:, :, 4:].flatten().tolist()} == {wanted}


def small(keys=5):
    return tuple(
        x[:, : (2 if i == 0 else 1), :keys, :2].detach().clone().requires_grad_()
        for i, x in enumerate(inputs(queries=TK))
    )


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_gradients_are_those_of_the_numbers(causal, masked):
    def f(q, k, v):
        mask = KeyPadding(KEEP[:, :5]) if masked else None
        return linear_attention(q, k, v, causal=causal, mask=mask, chunk_size=2)

    assert torch.autograd.gradcheck(f, small())
    assert torch.autograd.gradgradcheck(f, small())


def test_gradients_pass_through_a_state():
    def f(q, k, v):
        state = LinearState()
        parts = [
            linear_attention(*(x[..., a:b, :] for x in (q, k, v)), causal=True, state=state)
            for a, b in ((0, 2), (2, 3), (3, 5))
        ]
        return torch.cat(parts, -2)

    assert torch.autograd.gradcheck(f, small())


@pytest.mark.parametrize("cuts", [range(8), (0, 3, 7), (0, 1, 2, 7), (0, 7)])
@pytest.mark.parametrize("masked", [False, True])
def test_a_state_never_changes_the_result(cuts, masked):
    q, k, v = inputs(queries=TK)
    mask = KeyPadding(KEEP) if masked else None
    whole = linear_attention(q, k, v, causal=True, mask=mask)
    state, parts = LinearState(), []
    for a, b in itertools.pairwise(cuts):
        part = KeyPadding(KEEP[:, a:b]) if masked else None
        now = (x[..., a:b, :] for x in (q, k, v))
        parts.append(linear_attention(*now, causal=True, mask=part, state=state, chunk_size=2))
    torch.testing.assert_close(torch.cat(parts, -2), whole, rtol=1e-12, atol=1e-13)
    assert state.num_tokens == TK
    assert state.sums.shape == (B, HKV, D, DV + 1)


def test_a_state_without_heads_and_of_grouped_heads():
    x = drawn(TK, D)
    state = LinearState()
    made = [linear_attention(*[x[i : i + 1]] * 3, causal=True, state=state) for i in range(TK)]
    same(torch.cat(made), by_loops(x, x, x, np.tri(TK, dtype=bool))[0])
    assert state.sums.shape == (D, D + 1)
    assert repr(state) == f"LinearState({TK} tokens, sums ({D}, {D + 1}))"


def test_beams_are_reordered():
    q, k, v = inputs(queries=TK)
    state = LinearState()
    linear_attention(*(x[:, :, :4] for x in (q, k, v)), causal=True, state=state)
    before = state.sums
    state.reorder([1, 1, 0])
    assert torch.equal(state.sums, before[[1, 1, 0]])
    later = [torch.stack([x[0], x[1], x[0]])[:, :, 4:] for x in (q, k, v)]
    made = linear_attention(*later, causal=True, state=state)
    for beam, (old, new) in enumerate([(1, 0), (1, 1), (0, 0)]):
        joined = (torch.cat([x[old, :, :4], x[new, :, 4:]], -2) for x in (q, k, v))
        wanted = linear_attention(*joined, causal=True)[:, 4:]
        torch.testing.assert_close(made[beam], wanted, rtol=1e-12, atol=1e-13)
    state.reset()
    assert (state.sums, state.num_tokens, repr(state)) == (None, 0, "LinearState(0 tokens)")


def test_an_error_leaves_the_state_as_it_was():
    state = LinearState()
    x = drawn(TK, D)
    linear_attention(x, x, x, causal=True, state=state)
    sums = state.sums
    with pytest.raises(ShapeError):
        linear_attention(x, x, x[:, :5], causal=True, state=state)
    assert state.sums is sums
    assert state.num_tokens == TK


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_single(dtype):
    x = drawn(3001, D, dtype=torch.float32).to(dtype)
    made = linear_attention(x, x, x, causal=True)
    assert made.dtype == dtype
    exact = linear_attention(x.double(), x.double(), x.double(), causal=True)
    torch.testing.assert_close(made, exact.to(dtype), rtol=torch.finfo(dtype).eps, atol=1e-6)
    with torch.autocast("cpu", dtype):  # products of float32 would be rounded to halves
        single = linear_attention(x.float(), x.float(), x.float(), causal=True)
    torch.testing.assert_close(single, exact.float(), rtol=1e-4, atol=1e-5)


class Largest(TorchDispatchMode):
    """The most elements of any tensor made within."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if isinstance(tensor, torch.Tensor) and not func.is_view:
                self.count = max(self.count, tensor.numel())
        return made


def test_nothing_grows_with_the_square_of_the_length():
    counts = []
    for T in (1024, 2048):
        x = drawn(T, D).requires_grad_()
        with Largest() as largest:
            linear_attention(x, x, x, causal=True).sum().backward()
        counts.append(largest.count)
    assert counts[0] <= 1024 * 64
    assert counts[1] == 2 * counts[0]


REFUSED = {
    "numpy": (lambda x: (x.numpy(),) * 3, {}, DTypeError, "linear_attention computes torch tenso"),
    "features": (
        lambda x: (x, x[:, :3], x),
        {},
        ShapeError,
        "query and key must have the same number of features on their last axis; got 11 and 3",
    ),
    "integers": (lambda x: (x.long(),) * 3, {}, DTypeError, "attention is not defined on integers"),
    "causal without align": (
        lambda x: (x[:3], x, x),
        {"causal": True},
        ShapeError,
        "causal linear attention needs as many queries as keys; got 3 and 7. To go on from earlier "
        "keys pass them first, with state=LinearState().",
    ),
    "causal as a mask": (
        lambda x: (x, x, x),
        {"mask": Causal()},
        InputError,
        "its mask can only hide keys from all queries: KeyPadding(keep), or causal=True; got "
        "Causal(). For other masks use atento.attention.",
    ),
    "mask of another length": (
        lambda x: (x, x, x),
        {"mask": KeyPadding([True] * 5)},
        ShapeError,
        "for 5 keys, and there are 7 keys",
    ),
    "unknown feature map": (
        lambda x: (x, x, x),
        {"feature_map": "elu"},
        InputError,
        "feature_map must be \"elu+1\" or a function; got 'elu'.",
    ),
    "feature map that mixes tokens": (
        lambda x: (x, x, x),
        {"feature_map": lambda x: x.sum(-2)},
        ShapeError,
        "feature_map must return a tensor (..., T, features) for (..., T, d): for (1, 1, 7, 11) it "
        "returned (1, 1, 11).",
    ),
    "feature map that returns nothing": (
        lambda x: (x, x, x),
        {"feature_map": lambda x: None},
        ShapeError,
        "it returned NoneType.",
    ),
    "state that is none": (
        lambda x: (x, x, x),
        {"state": {}, "causal": True},
        DTypeError,
        "state must be a LinearState; got dict.",
    ),
    "state without order": (
        lambda x: (x, x, x),
        {"state": LinearState()},
        InputError,
        "state needs causal=True: without it every query also sees later keys.",
    ),
    "no chunk": (
        lambda x: (x, x, x),
        {"chunk_size": 0},
        InputError,
        "chunk_size must be a whole number from 1 on; got 0.",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_in_words(name):
    make, options, kind, words = REFUSED[name]
    with pytest.raises(kind) as caught:
        linear_attention(*make(drawn(TK, D)), **options)
    assert words in str(caught.value)


def test_a_state_of_other_sequences_is_refused():
    state = LinearState()
    with pytest.raises(InputError, match="no token has passed yet"):
        state.reorder([0])
    x = drawn(TK, D)
    linear_attention(x, x, x, causal=True, state=state)
    with pytest.raises(InputError, match="this state has no batch"):
        state.reorder([0])
    with pytest.raises(ShapeError) as caught:
        linear_attention(*[x.float()] * 3, causal=True, state=state)
    assert str(caught.value) == (
        "LinearState: it holds sums (..., head, features, dv + 1) of (11, 12), float64 on cpu; "
        "these tokens make (11, 12), float32 on cpu. One state belongs to one layer and one batch "
        "of sequences: reset() it for new ones."
    )
    batch = LinearState()
    linear_attention(*inputs(queries=TK), causal=True, state=batch)
    with pytest.raises(ShapeError, match=r"numbers from 0 to 1, for the 2 sequences .* got \[2\]"):
        batch.reorder([2])


C, HEADS = 10, 5


def module(**options):
    torch.manual_seed(29)
    return LinearAttention(C, HEADS, **options).double()


X = drawn(3, TK, C, seed=11)
OTHER = drawn(3, 4, 17, seed=13)
FORMS = {
    "plain": ({}, (X,), {}),
    "causal": ({"causal": True}, (X,), {}),
    "one sequence": ({"causal": True}, (X[0],), {}),
    "shared keys": ({"causal": True, "num_kv_heads": 1}, (X,), {}),
    "cross": ({"kdim": 17, "head_dim": 3, "bias": False}, (X, OTHER), {}),
    "own values": ({"kdim": 17, "vdim": 10}, (X[:, :4], OTHER, X[:, 3:]), {}),
    "padding": ({"causal": True}, (X,), {"mask": KeyPadding(np.vstack([KEEP, KEEP[:1]]))}),
}


@pytest.mark.parametrize("name", FORMS)
def test_the_module_is_the_function_between_projections(name):
    options, arguments, more = FORMS[name]
    layer = module(**options)
    query_in = arguments[0]
    key_in = arguments[1] if len(arguments) > 1 else query_in
    value_in = arguments[2] if len(arguments) > 2 else key_in
    visible = np.tri(TK, dtype=bool) if layer.causal else True
    if more:
        visible = more["mask"].keep[:, None, None] & visible
    heads = [
        np.stack(np.split(linear(x).detach().numpy(), count, -1), -3)
        for linear, x, count in (
            (layer.query, query_in, HEADS),
            (layer.key, key_in, layer.num_kv_heads),
            (layer.value, value_in, layer.num_kv_heads),
        )
    ]
    contexts, weights = by_loops(*map(torch.from_numpy, heads), visible)
    joined = np.concatenate(np.moveaxis(contexts, -3, 0), -1)
    made = layer(*arguments, **more)
    same(made, layer.output(torch.from_numpy(joined)).detach())

    trace = layer.trace(*arguments, **more)
    assert torch.equal(trace.output, made)
    same(trace["weights"].value, weights)
    same(trace["contexts"].value, contexts)
    steps = ["query_projection", "key_projection", "value_projection", "queries", "keys", "values"]
    steps += ["query_features", "key_features", "scores"]
    steps += ["masked"] if layer.causal or more else []
    steps += ["weights", "contexts", "concatenated", "output"]
    assert [step.name for step in trace] == steps
    for step in trace:
        assert len(step.axes) == step.value.ndim
        assert ("batch" in step.axes) == (query_in.ndim == 3)


def test_the_trace_of_a_later_token_counts_the_earlier_ones():
    layer = module(causal=True, num_kv_heads=1)
    wanted = layer.trace(X)["weights"].value
    state = LinearState()
    layer(X[:, :4], cache=state)
    trace = layer.trace(X[:, 4:], cache=state)
    same(trace["weights"].value, wanted[..., 4:, 4:].detach())
    same(trace.output, layer(X)[:, 4:].detach())
    assert trace["weights"].formula == "masked / Σ masked with earlier keys"


def test_a_cache_never_changes_the_module():
    layer, state = module(causal=True), LinearState()
    parts = [layer(X[:, a:b], cache=state) for a, b in ((0, 3), (3, 4), (4, TK))]
    torch.testing.assert_close(torch.cat(parts, 1), layer(X), rtol=1e-12, atol=1e-13)


class Learned(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.map = torch.nn.Linear(C // HEADS, 3)

    def forward(self, x):
        return self.map(x).exp()


def test_its_state_dict():
    assert list(module().state_dict()) == [
        f"{name}.{kind}"
        for name in ("query", "key", "value", "output")
        for kind in ("weight", "bias")
    ]
    assert list(module(bias=False, output_bias=True).state_dict()) == [
        "query.weight",
        "key.weight",
        "value.weight",
        "output.weight",
        "output.bias",
    ]
    learned = module(feature_map=Learned(), causal=True)
    assert {"feature_map.map.weight", "feature_map.map.bias"} < set(learned.state_dict())
    other = module(feature_map=Learned(), causal=True)
    other.load_state_dict(learned.state_dict())
    assert torch.equal(other(X), learned(X))
    learned(X).sum().backward()
    assert learned.feature_map.map.weight.grad.any()
    assert learned.bfloat16()(X.bfloat16()).dtype == torch.bfloat16


def test_it_is_printed_with_its_options():
    said = repr(LinearAttention(C, HEADS, num_kv_heads=1, causal=True))
    assert "num_heads=5, num_kv_heads=1, causal=True, feature_map='elu+1'" in said


@pytest.mark.parametrize("causal", [False, True])
def test_it_compiles_whole_and_exports_with_any_length(causal):
    layer, x = module(causal=causal).eval(), X
    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager", dynamic=True)
    torch.testing.assert_close(compiled(x), layer(x), rtol=1e-12, atol=1e-13)
    length = torch.export.Dim("length", min=2, max=4096)
    exported = torch.export.export(layer, (x,), dynamic_shapes={"query_in": {1: length}}).module()
    for T in (2, 64, 65, 131):
        y = drawn(3, T, C, seed=T)
        torch.testing.assert_close(exported(y), layer(y), rtol=1e-12, atol=1e-13)


def test_it_works_in_halves_under_autocast_and_on_no_device():
    layer = module(causal=True).float()
    x = X.float()
    with torch.autocast("cpu", torch.bfloat16):
        made = layer(x)
    assert made.dtype == torch.bfloat16
    torch.testing.assert_close(made.float(), layer(x), rtol=0.05, atol=0.02)
    for dtype in (torch.bfloat16, torch.float16):
        half = copy.deepcopy(layer).to(dtype)(x.to(dtype))
        torch.testing.assert_close(half.float(), layer(x), rtol=0.05, atol=0.02)
    meta = LinearAttention(C, HEADS, causal=True, device="meta")
    assert meta(torch.empty(3, TK, C, device="meta")).shape == (3, TK, C)


REFUSED_BY_THE_MODULE = {
    "heads": (lambda: LinearAttention(10, 4), "cannot be shared equally among 4 heads"),
    "kv heads": (lambda: LinearAttention(10, 5, num_kv_heads=2), "num_kv_heads can be 1 or 5"),
    "feature map": (lambda: LinearAttention(10, 5, feature_map="exp"), 'must be "elu+1"'),
    "last size": (lambda: module()(X[..., :9]), "the query projection takes 10 features"),
    "key size": (lambda: module(kdim=17)(X, X), "the key projection takes 17 features"),
    "other tokens": (lambda: module()(X, X, X[:, 1:]), "must be of the same tokens; got 7 and 6"),
    "causal cross": (lambda: module(causal=True)(X, X[:, 1:]), "as many queries as keys"),
    "dtype": (lambda: module()(X.float()), "query_in is torch.float32 and the query projection"),
}


@pytest.mark.parametrize("name", REFUSED_BY_THE_MODULE)
def test_the_module_refuses_what_does_not_fit(name):
    call, words = REFUSED_BY_THE_MODULE[name]
    with pytest.raises((ShapeError, InputError, DTypeError)) as caught:
        call()
    assert words in str(caught.value)
