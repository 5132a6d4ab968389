"""The Transformer: what it computes, how much it learns, and what it refuses."""

import numpy as np
import pytest
import torch

from atento import InputError, ShapeError
from atento._errors import DTypeError
from atento.lm import PRESETS, Transformer, TransformerConfig

SIZES = {"context": 19, "d_model": 12, "num_layers": 2, "num_heads": 3}
SHAPES = {
    "gpt2": {},
    "llama": {
        "position": "rotary",
        "norm": "rms",
        "feed_forward": "swiglu",
        "bias": False,
        "tied": False,
        "num_kv_heads": 1,
    },
    "window": {"window": 4, "position": "rotary"},
    "attention alone": {"feed_forward": None, "position": None},
}


def made(shape="gpt2", **changes):
    torch.manual_seed(1)
    model = Transformer(TransformerConfig(23, **(SIZES | SHAPES[shape] | changes)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model.eval()


def ids_of(batch=2, tokens=19):
    return torch.randint(23, (batch, tokens), generator=torch.Generator().manual_seed(2))


def by_hand(model, ids):
    """The same in float64, written from the definition, for the shape of GPT-2."""
    w = {name: t.double().numpy() for name, t in model.state_dict().items()}

    def norm(x, name):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return x * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    x = w["token_embedding.weight"][ids] + w["position_embedding.table"][: len(ids)]
    for block in ("blocks.0", "blocks.1"):
        h = norm(x, f"{block}.attention_norm")
        contexts = []
        for head in range(3):
            at = slice(4 * head, 4 * head + 4)
            q, k, v = (
                linear(h, f"{block}.attention.{r}")[:, at] for r in ("query", "key", "value")
            )
            scores = np.where(np.tri(len(ids), dtype=bool), q @ k.T / 2, -np.inf)
            exps = np.exp(scores - scores.max(-1, keepdims=True))
            contexts.append(exps / exps.sum(-1, keepdims=True) @ v)
        x = x + linear(np.concatenate(contexts, -1), f"{block}.attention.output")
        h = linear(norm(x, f"{block}.feed_forward_norm"), f"{block}.feed_forward.expand")
        h = h / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3)))
        x = x + linear(h, f"{block}.feed_forward.contract")
    return norm(x, "norm") @ w["token_embedding.weight"].T


def test_the_logits_are_those_of_the_definition():
    model, ids = made(), ids_of(1)
    with torch.no_grad():
        np.testing.assert_allclose(
            model(ids)[0], by_hand(model, ids[0].numpy()), rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("shape", SHAPES)
def test_a_cache_changes_nothing(shape):
    model, ids = made(shape), ids_of()
    with torch.no_grad():
        caches = model.new_caches()
        pieces = [model(ids[:, a:b], caches) for a, b in ((0, 7), (7, 8), (8, 13), (13, 19))]
        torch.testing.assert_close(torch.cat(pieces, 1), model(ids), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_no_token_sees_one_after_it(shape):
    model, ids = made(shape), ids_of(1)
    other = ids.clone()
    other[0, 11:] = (other[0, 11:] + 1) % 23
    with torch.no_grad():
        before, after = model(ids), model(other)
    assert torch.equal(before[:, :11], after[:, :11])
    assert not torch.allclose(before[:, 11:], after[:, 11:])


def test_a_window_ends_what_is_seen():
    model, ids = made("window", num_layers=1), ids_of(1)
    other = ids.clone()
    other[0, 5] = (other[0, 5] + 1) % 23
    with torch.no_grad():
        changed = (model(ids) - model(other)).abs().amax((0, 2)) > 0
    assert changed.nonzero().flatten().tolist() == [5, 6, 7, 8]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("tied", [True, False])
def test_the_formula_counts_what_is_learned(shape, bias, tied):
    model = made(shape, bias=bias, tied=tied)
    assert model.config.num_parameters == model.num_parameters


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("changes", [
    {"head_size": 6}, {"head_size": 2, "bias": True}, {"forward_bias": True, "bias": False},
    {"forward_bias": False, "bias": True},
])  # fmt: skip
def test_the_formula_counts_heads_and_biases_of_their_own(shape, changes):
    model = made(shape, **changes)
    assert model.config.num_parameters == model.num_parameters


def test_known_counts():
    assert TransformerConfig.preset("gpt2", 50257).num_parameters == 124_439_808
    toy = TransformerConfig.preset("toy", 100)
    assert (toy.context, toy.d_model, toy.num_heads, toy.head_dim) == (25, 16, 2, 8)


def test_every_preset_runs():
    for name in PRESETS:
        config = TransformerConfig.preset(name, 11, num_layers=1, context=8)
        assert Transformer(config)(torch.zeros(1, 8, dtype=torch.long)).shape == (1, 8, 11)


def test_a_new_model_is_as_unsure_as_its_vocabulary_is_large():
    torch.manual_seed(0)
    model = Transformer(TransformerConfig.preset("small", 211))
    ids = torch.randint(211, (4, 64))
    loss = torch.nn.functional.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
    assert loss.item() == pytest.approx(np.log(211), abs=0.1)


@pytest.mark.parametrize(
    ("ids", "error", "said"),
    [
        (torch.zeros(2, 3), DTypeError, "whole numbers; got torch.float32"),
        ([[1, 2]], DTypeError, "got list"),
        (torch.zeros(3, dtype=torch.long), ShapeError, r"ids\[None\]"),
        (torch.tensor([[1, 23]]), InputError, "from 0 to 22; got 23"),
        (torch.tensor([[-1, 2]]), InputError, "got -1"),
        (
            torch.zeros(1, 20, dtype=torch.long),
            ShapeError,
            "context is 19 tokens, and these are 20",
        ),
    ],
)
def test_wrong_ids_are_told(ids, error, said):
    with pytest.raises(error, match=said):
        made()(ids)


def test_a_cache_does_not_pass_the_context():
    model, caches = made(), made().new_caches()
    model(ids_of(), caches)
    with pytest.raises(ShapeError, match="these are 20"):
        model(ids_of(tokens=1), caches)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"d_model": 10, "num_heads": 4},
            "multiple of num_heads; got 4. Of 10, these are: 1, 2, 5, 10",
        ),
        ({"num_kv_heads": 2}, "multiple of num_kv_heads; got 2"),
        (
            {"d_model": 9, "position": "rotary"},
            "a head has 3: choose another number of heads, or head_size",
        ),
        ({"position": "sine"}, "one of 'learned', 'rotary', None; got 'sine'"),
        ({"dropout": 1.0}, "below 1; got 1.0"),
        ({"num_layers": 0}, "whole number ≥ 1; got 0"),
        ({"context": 2.5}, "got 2.5"),
        ({"window": True}, "got True"),
    ],
)
def test_sizes_that_do_not_fit_are_told(changes, said):
    with pytest.raises(InputError, match=said):
        TransformerConfig(23, **(SIZES | changes))


def test_presets_and_fields_that_are_not_there_are_told():
    with pytest.raises(InputError, match="there are 'toy', 'small'"):
        TransformerConfig.preset("huge", 10)
    with pytest.raises(InputError, match="has no width; it has vocabulary_size"):
        TransformerConfig.preset("toy", 10, width=5)
