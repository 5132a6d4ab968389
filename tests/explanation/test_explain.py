"""explain(): published numbers, the head it chooses, and what it refuses."""

import numpy as np
import pytest

import atento
from atento import DTypeError, InputError, ShapeError
from atento.explanation import explain, how_telling
from atento.masks import Causal, KeyPadding
from six_tokens import CONTEXTS, SIX, WEIGHTS

WORDS = ["Your", "journey", "starts", "with", "one", "step"]


def arrays(*shape, seed=0, kv=None):
    rng = np.random.default_rng(seed)
    return {
        "query": rng.normal(size=shape),
        "key": rng.normal(size=kv or shape),
        "value": rng.normal(size=kv or shape),
    }


def test_the_six_tokens_give_the_published_numbers():
    got = explain(query=SIX, key=SIX, value=SIX, scale=1.0, names=WORDS)
    trace = got.layers[0].trace
    np.testing.assert_allclose(trace["weights"].value[0], WEIGHTS, atol=5.001e-5)
    np.testing.assert_allclose(trace.output[0], CONTEXTS, atol=5.001e-5)
    assert got.tokens == got.key_tokens == tuple(WORDS)
    assert (got.layer, got.head, got.reason.kind, got.model) == (0, 0, "only", None)
    assert got.layers[0].input is None
    assert got.layers[0].projections == {}


def test_lists_are_fine_and_positions_are_the_names():
    got = explain(query=SIX.tolist(), key=SIX.tolist(), value=SIX.tolist())
    assert got.tokens == ("1", "2", "3", "4", "5", "6")


def test_the_most_telling_head_is_chosen():
    given = arrays(5, 7, 3, seed=2)
    got = explain(**given, mask=Causal())
    weights = got.layers[0].trace["weights"].value
    told = [how_telling(one, np.tri(7, dtype=bool), same_tokens=True) for one in weights]
    best = max(range(5), key=lambda head: told[head].score)
    assert best != 0
    assert got.head == best
    assert got.reason.kind == "telling"
    assert got.reason.among == 5
    assert got.reason.score == told[best].score
    link = (got.reason.query, got.reason.key, got.reason.weight)
    assert link == (told[best].query, told[best].key, told[best].weight)


def test_equal_heads_give_the_first():
    one = arrays(7, 3)
    got = explain(**{name: np.stack([array] * 3) for name, array in one.items()})
    assert (got.head, got.reason.kind, got.reason.among) == (0, "telling", 3)


def test_a_head_that_was_asked_for_comes_with_its_own_link():
    got = explain(**arrays(5, 7, 3), mask=Causal(), head=3)
    assert (got.head, got.reason.kind) == (3, "asked")
    weights = got.layers[0].trace["weights"].value[3]
    assert got.reason.weight == weights[got.reason.query, got.reason.key]


def test_a_batch_of_one_and_grouped_heads():
    given = arrays(1, 4, 7, 3, kv=(1, 2, 7, 3))
    got = explain(**given)
    assert got.layers[0].heads == 4
    trace = got.layers[0].trace
    assert trace["keys"].value.shape == (2, 7, 3)
    third = given["query"][0, 2] @ given["key"][0, 1].T
    np.testing.assert_allclose(trace["scores"].value[2], third)


@pytest.mark.parametrize(
    "option",
    [
        {"mask": KeyPadding([[True, True, False, True, True]])},
        {"mask": np.tri(5, dtype=bool)[None, None]},
        {"mask": Causal() & KeyPadding([True, False, True, True, True]), "sinks": np.ones(2)},
        {"bias": np.arange(50.0).reshape(1, 2, 5, 5)},
        {"bias": np.arange(5.0), "scale": 0.5},
    ],
)
def test_a_batch_of_one_with_what_atento_trace_takes(option):
    given = arrays(1, 2, 5, 3)
    layer = explain(**given, **option).layers[0]
    wanted = atento.trace(**given, **option)
    assert [step.name for step in layer.trace] == [step.name for step in wanted]
    for step in layer.trace:
        np.testing.assert_array_equal(step.value, wanted[step.name].value[0])
        assert step.axes == wanted[step.name].axes[1:]
    for name in ("mask", "bias"):
        if name in option:
            assert np.ndim(layer.trace.parameters[name]) <= 3


def test_one_key_head_without_its_axis_serves_all():
    got = explain(**arrays(3, 7, 5, kv=(7, 5)))
    assert got.layers[0].trace["keys"].value.shape == (1, 7, 5)


def test_cross_attention_has_two_sets_of_names():
    got = explain(**arrays(5, 3, kv=(7, 3)), names=list("abcde"))
    assert got.tokens == ("a", "b", "c", "d", "e")
    assert got.key_tokens == ("1", "2", "3", "4", "5", "6", "7")
    weights = got.layers[0].trace["weights"].value[0]
    assert got.reason.weight == weights.max()


def test_other_key_names_mean_other_tokens():
    given = arrays(5, 3)
    same = explain(**given)
    other = explain(**given, key_names=list("abcde"))
    assert other.key_tokens == ("a", "b", "c", "d", "e")
    assert other.reason.score > same.reason.score  # no place is obvious any more


def test_a_bias_of_minus_infinity_closes_a_place_like_a_mask():
    given = arrays(7, 3)
    bias = np.where(np.tri(7, dtype=bool), 0.0, -np.inf)
    by_bias, by_mask = explain(**given, bias=bias), explain(**given, mask=Causal())
    assert by_bias.reason.score == pytest.approx(by_mask.reason.score)


def test_torch_tensors_with_gradients():
    torch = pytest.importorskip("torch")
    x = torch.tensor(SIX, requires_grad=True)
    got = explain(query=x, key=x, value=x, scale=1.0)
    np.testing.assert_allclose(got.layers[0].trace.output[0], CONTEXTS, atol=5.001e-5)


def test_a_text_goes_through_every_layer(fake_mini):
    got = explain("Your journey starts with one step")
    assert got.tokens == got.key_tokens == tuple(WORDS)
    assert got.model == "atento-mini"
    assert len(got.layers) == 2
    assert (got.layer, got.head) == (1, 2)
    assert (got.reason.kind, got.reason.among) == ("telling", 6)
    assert got.reason.key == 1
    assert got.reason.weight > 0.99


def test_projections_make_the_queries(fake_mini):
    layer = explain("Your journey starts with one step").layers[1]
    for role, step in (("query", "queries"), ("key", "keys"), ("value", "values")):
        projection = layer.projections[role]
        assert projection.weight.shape == (6, 3, 2)  # (input feature, head, feature)
        made = np.einsum("ti,ihf->htf", layer.input, projection.weight)
        made += projection.bias[:, None]
        np.testing.assert_allclose(made, layer.trace[step].value, atol=1e-12)


def test_no_token_looks_ahead(fake_mini):
    weights = explain("Your journey starts with one step").layers[0].trace["weights"].value
    assert (weights[:, ~np.tri(6, dtype=bool)] == 0).all()


@pytest.mark.parametrize(
    ("asked", "shown"),
    [({"layer": 0}, (0, "telling", 3)), ({"layer": 1, "head": 0}, (1, "asked", 1))],
)
def test_layer_and_head_can_be_asked_for(fake_mini, asked, shown):
    got = explain("Your journey starts with one step", **asked)
    assert (got.layer, got.reason.kind, got.reason.among) == shown
    assert got.head == asked.get("head", got.head)


def test_a_head_without_a_layer_is_compared_over_the_layers(fake_mini):
    got = explain("Your journey starts with one step", head=2)
    assert (got.layer, got.head, got.reason.among) == (1, 2, 2)


def test_a_long_text_is_refused_or_cut(fake_mini):
    text = " ".join("abcdefghijklm")
    with pytest.raises(InputError, match=r"at most 11 tokens\. Got 13.*cut=True.*--cut"):
        explain(text)
    got = explain(text, cut=True)
    assert got.tokens == tuple("abcdefghijk")
    assert explain(" ".join("abcdefghijk")).tokens == got.tokens


def test_short_texts_have_no_link(fake_mini):
    got = explain("Your journey")
    assert (got.reason.score, got.reason.query) == (0.0, None)
    assert (got.layer, got.head) == (0, 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "at least one word. Got an empty text"),
        (" \n\t", "nothing but blanks"),
        (SIX, "the text must be a str. Got ndarray.*query=..., key=..., value=..."),
    ],
)
def test_texts_that_are_none(fake_mini, text, message):
    with pytest.raises(InputError, match=message):
        explain(text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "needs a text, or query, key and value. Got neither"),
        ({"query": SIX}, "together. Got query without key and value"),
        ({"key": SIX, "value": SIX}, "together. Got key and value without query"),
        ({"text": "a", "query": SIX}, "not both. Got a text and query"),
        ({"text": "a", "mask": Causal(), "scale": 2.0}, "Got a text and mask and scale"),
        ({"query": [[1.0, 2.0], [3.0]], "key": SIX, "value": SIX}, "query.*Got a ragged list"),
        ({"query": SIX[0], "key": SIX, "value": SIX}, r"query must have.*Got 1 axes, shape \(3,\)"),
        ({"query": SIX, "key": SIX[:0], "value": SIX}, r"key must hold.*Got shape \(1, 0, 3\)"),
        (arrays(2, 3, 7, 5), "query must hold one sequence. Got a batch of 2"),
        (arrays(5, 3) | {"head": 1}, "head must be 0, the only one. Got 1"),
        (arrays(4, 5, 3) | {"head": -1}, "head must be from 0 to 3. Got -1"),
        (arrays(4, 5, 3) | {"layer": 1}, "layer must be 0, the only one. Got 1"),
        (arrays(4, 5, 3) | {"head": True}, "head must be a whole number. Got True"),
        (arrays(4, 5, 3) | {"head": 1.0}, "head must be a whole number. Got 1.0"),
        (
            arrays(5, 3) | {"names": ["a"]},
            "names must hold one name for each of the 5 queries. Got 1",
        ),
        (arrays(5, 3) | {"key_names": ["a"]}, "key_names must hold .* 5 keys. Got 1"),
        (arrays(5, 3) | {"names": "a b"}, r"a list of names. Got one str, 'a b': say names=\['a'"),
        (arrays(1, 5000, 1), "at most 16,777,216 weights. Got 1 heads × 5000 queries × 5000 keys"),
    ],
)
def test_what_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        explain(**arguments)


def test_layers_and_heads_of_a_model_have_a_range(fake_mini):
    with pytest.raises(InputError, match="layer must be from 0 to 1"):
        explain("a b", layer=2)
    with pytest.raises(InputError, match="head must be from 0 to 2"):
        explain("a b", head=3)


def test_the_equation_checks_the_rest():
    with pytest.raises(DTypeError):
        explain(query=np.ones((3, 2), int), key=np.ones((3, 2), int), value=np.ones((3, 2), int))
    with pytest.raises(ShapeError):
        explain(query=np.ones((3, 2)), key=np.ones((3, 5)), value=np.ones((3, 2)))


def test_inputs_are_not_changed():
    given = arrays(5, 7, 3)
    before = {name: array.copy() for name, array in given.items()}
    explain(**given, mask=Causal())
    for name, array in given.items():
        np.testing.assert_array_equal(array, before[name])
