"""Models that are compiled, exported, wrapped, trained or broken: exact, or refused in words."""

import numpy as np
import pytest
import torch
import transformers
from torch import nn
from torch.nn import functional

import atento
from atento import EngineError, InputError, KnockOut
from atento.reading import watching
from atento.reading.capturing import capture
from reading_models import (
    FAMILIES,
    Kernel,
    Written,
    gpt2,
    ids,
    llama,
    tensors_of,
)

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers")


def recorded(model, *args, **inputs):
    """The recording of one call, whose output has the bits that the model has alone."""
    with torch.no_grad():
        plain = tensors_of(model(*args, **inputs))
        with capture(model, statistics=()) as recording:
            seen = tensors_of(model(*args, **inputs))
    for one, other in zip(plain, seen, strict=True):
        assert torch.equal(one, other)
    return recording


def tokens():
    torch.manual_seed(5)
    return torch.randn(2, 11, 15)


def weights_of(layer):
    return np.array(
        [[layer.weights(h, batch=b) for h in range(layer.heads)] for b in range(layer.batch)]
    )


def same_weights(one, other):
    assert len(one) == len(other)
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_allclose(weights_of(mine), weights_of(theirs), rtol=0, atol=1e-6)


# Nothing to read


def mamba():
    config = transformers.MambaConfig(
        vocab_size=101, hidden_size=24, num_hidden_layers=2, state_size=4, time_step_rank=3
    )
    return transformers.MambaForCausalLM(config).eval()


def test_a_recurrent_model_is_refused_with_its_classes():
    with pytest.raises(InputError, match=r"no attention was seen in MambaForCausalLM.*MambaMixer"):
        recorded(mamba(), input_ids=ids())
    with torch.no_grad(), capture(mamba(), strict=False) as recording:
        pass
    assert len(recording) == 0


def test_a_model_that_does_not_run_within_is_refused():
    with (
        pytest.raises(InputError, match="Either it did not run within the with statement"),
        capture(llama().model),
    ):
        pass


def test_another_models_attention_is_not_taken_for_this_ones():
    with pytest.raises(InputError, match="no attention was seen"), capture(llama().model):
        Kernel()(tokens())


def test_a_model_without_numbers_is_refused_before_it_runs():
    with torch.device("meta"):
        model = nn.Sequential(Kernel(), nn.Linear(15, 7))
    model[1].to_empty(device="cpu")
    with pytest.raises(EngineError, match="Sequential is on the meta device"), capture(model):
        raise AssertionError("it ran")


class AskingAttention(nn.Module):
    """Named an attention, with one within, and one beside it that does not run."""

    def __init__(self, direct):
        super().__init__()
        self.within, self.direct = Kernel(), direct
        self.beside = nn.MultiheadAttention(15, 3)

    def forward(self, x):
        return functional.scaled_dot_product_attention(x, x, x) if self.direct else self.within(x)


@pytest.mark.parametrize("direct", [True, False])
def test_a_model_that_is_an_attention_itself_is_not_listed_as_unread(direct):
    recording = recorded(AskingAttention(direct), tokens())
    assert recording.names == ["(model)" if direct else "within"]
    assert [layer for layer, _ in recording.skipped] == ["beside"]


def test_a_model_that_is_an_attention_and_was_not_read_is_listed():
    with capture(nn.MultiheadAttention(15, 3), strict=False) as recording:
        pass
    assert [layer for layer, _ in recording.skipped] == ["(model)"]


# Compiled, traced, exported


def compiled_whole():
    return torch.compile(Kernel(), backend="eager"), "OptimizedModule"


def compiled_in_place():
    model = Kernel()
    model.compile(backend="eager")
    return model, "Kernel"


def compiled_within():
    model = nn.Sequential(Kernel(), Kernel())
    model[1].compile(backend="eager")
    return model, "1"


@pytest.mark.parametrize("make", [compiled_whole, compiled_in_place, compiled_within])
def test_compiled_models_are_refused_before_they_run(make):
    model, name = make()
    expected = rf"{name} is compiled by torch\.compile.*capture the model as it was before"
    with pytest.raises(EngineError, match=expected), capture(model):
        raise AssertionError("it ran")


def test_the_model_that_was_compiled_can_be_read():
    model, x = Kernel(), tokens()
    same_weights(recorded(torch.compile(model, backend="eager")._orig_mod, x), recorded(model, x))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("wrap", [lambda model: model, nn.Sequential])
def test_traced_models_are_refused_before_they_run(wrap):
    model = wrap(torch.jit.trace(Kernel(), tokens()))
    with pytest.raises(EngineError, match="is a TorchScript module"), capture(model):
        raise AssertionError("it ran")


@pytest.mark.parametrize("kind", [Kernel, Written])
def test_exported_programs_are_refused(kind):
    """They call operators, below the functions that are seen."""
    x = tokens()
    model = torch.export.export(kind(), (x,)).module()
    with pytest.raises(InputError, match="no attention was seen in GraphModule"):
        recorded(model, x)


class Products(nn.Module):
    """Attention without shapes in Python, which torch.fx can follow."""

    def forward(self, x):
        return ((x @ x.transpose(-1, -2)) * 0.4).softmax(-1) @ x


def test_graphs_of_torch_fx_are_read_as_the_module_is():
    x = tokens()
    same_weights(recorded(torch.fx.symbolic_trace(Products()), x), recorded(Products(), x))


# Wrapped and changed


class Adapted(nn.Module):
    """A Linear with a low-rank update beside it, as adapters have it."""

    def __init__(self, base, rank=2):
        super().__init__()
        self.base = base
        self.down = nn.Linear(base.in_features, rank, bias=False)
        self.up = nn.Linear(rank, base.out_features, bias=False)

    def forward(self, x):
        return self.base(x) + self.up(self.down(x))


def test_adapters_are_part_of_what_is_read():
    torch.manual_seed(3)
    family = llama()
    before = recorded(family.model, **family.inputs)
    for layer in family.model.model.layers:
        layer.self_attn.q_proj = Adapted(layer.self_attn.q_proj)
    adapted = recorded(family.model, **family.inputs)
    assert adapted.names == family.layers
    assert np.abs(weights_of(adapted[0]) - weights_of(before[0])).max() > 0.01
    with torch.no_grad():  # merged, it is a plain model of the same weights
        for layer in family.model.model.layers:
            own = layer.self_attn.q_proj
            own.base.weight += own.up.weight @ own.down.weight
            layer.self_attn.q_proj = own.base
    same = recorded(family.model, **family.inputs)
    for one, other in zip(adapted, same, strict=True):
        np.testing.assert_allclose(weights_of(one), weights_of(other), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("wrap", "prefix"), [(nn.DataParallel, "module."), (nn.Sequential, "0.")])
def test_wrapped_models_have_the_wrappers_names(wrap, prefix):
    model, x = nn.ModuleDict({"attend": Kernel()}), tokens()
    model.forward = lambda x: model["attend"](x)
    recording = recorded(wrap(model), x)
    assert recording.names == [f"{prefix}attend"]
    same_weights(recording, recorded(model, x))


def test_parametrized_weights_are_read():
    torch.manual_seed(3)
    model, x = Kernel(), tokens()
    plain = recorded(model, x)
    nn.utils.parametrizations.weight_norm(model.qkv)
    normed = recorded(model, x)
    for one, other in zip(plain, normed, strict=True):
        np.testing.assert_allclose(weights_of(one), weights_of(other), rtol=0, atol=1e-6)


def test_the_users_hooks_run_and_are_seen():
    model, x = Kernel(), tokens()
    plain = recorded(model, x)
    handle = model.qkv.register_forward_hook(lambda module, args, made: made * 2)
    seen = recorded(model, x)
    handle.remove()
    np.testing.assert_allclose(seen[0].query, 2 * plain[0].query, rtol=1e-6)


def test_modules_that_are_shared_have_one_name_and_several_passes():
    shared = Kernel()
    recording = recorded(nn.Sequential(shared, nn.Linear(15, 15), shared), tokens())
    assert recording.names == ["0"]
    assert len(recording.passes) == 2


# Training


class Checkpointed(nn.Module):
    """A block whose inside is computed again in the backward pass."""

    def __init__(self, kind, use_reentrant):
        super().__init__()
        self.block, self.options = kind(), {"use_reentrant": use_reentrant}

    def forward(self, x):
        return torch.utils.checkpoint.checkpoint(self.block, x, **self.options)


def of_llama(implementation, reentrant):
    family = llama(attn_implementation=implementation)
    model = family.model.train()
    options = {"use_reentrant": reentrant}
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)
    given = {**family.inputs, "labels": family.inputs["input_ids"], "use_cache": False}
    return model, lambda: model(**given).loss, family.layers


def of_hand(kind, reentrant):
    torch.manual_seed(3)
    model, x = Checkpointed(kind, reentrant), tokens().requires_grad_()
    return model, lambda: model(x).square().sum(), ["block"]


CHECKPOINTED = [(of_llama, "sdpa"), (of_llama, "eager"), (of_hand, Kernel), (of_hand, Written)]


def by_tensor(loss):
    loss.backward()


def by_autograd(loss):
    torch.autograd.backward(loss)


@pytest.mark.parametrize("backward", [by_tensor, by_autograd])
@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize(("make", "kind"), CHECKPOINTED)
def test_checkpointed_layers_are_recorded_once_and_give_the_same_gradients(
    make, kind, reentrant, backward
):
    model, loss, layers = make(kind, reentrant)
    loss().backward()
    expected = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    with capture(model, statistics=()) as recording:
        backward(loss())
    assert [layer.layer for layer in recording.records] == layers
    for parameter, own in zip(model.parameters(), expected, strict=True):
        assert torch.equal(parameter.grad, own)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize(("make", "kind"), CHECKPOINTED)
def test_interventions_in_checkpointed_layers_are_refused(make, kind, reentrant):
    """Their second run would be another one than the first, and the gradients of neither."""
    model, loss, layers = make(kind, reentrant)
    with pytest.raises(EngineError, match=rf"{layers[0]}: it is checkpointed: the backward pass"):  # noqa: SIM117
        with capture(model, statistics=(), interventions=KnockOut(0)):
            loss()


def test_interventions_beside_checkpointed_layers_are_made():
    torch.manual_seed(3)
    model = nn.Sequential(Checkpointed(Kernel, False), Kernel())
    x = tokens().requires_grad_()
    with capture(model, statistics=(), interventions=KnockOut(1, 0)) as recording:
        model(x).square().sum().backward()
    assert recording.names == ["0.block", "1"]
    changed = x.grad.clone()
    x.grad = None
    plain = nn.Sequential(model[0].block, model[1])
    with capture(plain, statistics=(), interventions=KnockOut(1, 0)):
        plain(x).square().sum().backward()
    np.testing.assert_allclose(changed, x.grad, rtol=0, atol=1e-5)


def test_dropout_in_training_draws_the_same_numbers():
    family = gpt2(attn_pdrop=0.3)
    model = family.model.train()
    torch.manual_seed(11)
    plain = model(**family.inputs).logits
    torch.manual_seed(11)
    with capture(model, statistics=()) as recording:
        seen = model(**family.inputs).logits
    assert torch.equal(plain, seen)
    for layer in recording:  # weights are those before dropout
        np.testing.assert_allclose(weights_of(layer).sum(-1), 1, rtol=0, atol=1e-5)


# Errors of the model


def test_a_text_longer_than_the_positions_is_the_models_own_error():
    family = gpt2()  # 67 positions
    whole = capture(family.model, statistics=())
    with torch.no_grad(), pytest.raises(IndexError, match="index out of range"), whole as recording:
        family.model(input_ids=ids(length=68))
    assert watching.current() is None
    assert len(recording) == 0
    assert repr(recording) == "Recording(0 layers)"
    with pytest.raises(InputError, match="Nothing was recorded yet"):
        recording[0]
    assert len(recorded(family.model, input_ids=ids(length=67))) == 3


class FailsLate(nn.Module):
    """Two layers, and an error between them."""

    def __init__(self):
        super().__init__()
        self.first, self.second = Kernel(), Kernel()
        self.fails = True

    def forward(self, x):
        x = self.first(x)
        if self.fails:
            raise RuntimeError("out of memory")
        return self.second(x)


def test_what_was_read_before_an_error_can_be_used():
    model, x = FailsLate(), tokens()
    with pytest.raises(RuntimeError, match="out of memory"), capture(model) as recording:
        model(x)
    assert recording.names == ["first"]
    model.fails = False
    np.testing.assert_array_equal(weights_of(recorded(model, x)[0]), weights_of(recording[0]))


def test_a_statistic_that_fails_is_an_error_and_leaves_nothing_behind():
    class Broken(atento.statistics.Entropy):
        def update(self, *args, **kwargs):
            raise ZeroDivisionError("no")

    family = llama()
    whole = capture(family.model, statistics=[Broken()])
    with torch.no_grad(), pytest.raises(ZeroDivisionError), whole:
        family.model(**family.inputs)
    assert watching.current() is None
    same_weights(recorded(family.model, **family.inputs), recorded(family.model, **family.inputs))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", [Kernel, Written])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_passed_on_and_not_hidden(kind, bad):
    torch.manual_seed(3)
    model, x = kind(), tokens()
    x[1, 7, 2] = bad
    with torch.no_grad():
        plain = model(x)
        with capture(model, statistics=(), strict=False) as recording:
            seen = model(x)
    assert torch.equal(plain.isnan(), seen.isnan())
    assert torch.equal(plain.nan_to_num(), seen.nan_to_num())
    (layer,) = recording
    assert np.isfinite(weights_of(layer)[0]).all()  # the other batch item
    assert np.isnan(weights_of(layer)[1, :, 7:]).any()  # those who see it


class Asks(nn.Module):
    """Only the kernel, which broadcasts batch items and heads."""

    def forward(self, query, key):
        return functional.scaled_dot_product_attention(query, key, key)


@pytest.mark.parametrize(
    ("batch", "queries", "keys"), [(0, 7, 11), (2, 0, 11), (2, 7, 0), (2, 0, 0), (1, 1, 1)]
)
def test_no_items_no_queries_no_keys_and_one_of_each(batch, queries, keys):
    torch.manual_seed(3)
    query, key = torch.randn(batch, 3, queries, 5), torch.randn(batch, 3, keys, 5)
    recording = recorded(Asks(), query, key)
    assert recording[0].shape == (batch, 3, queries, keys)
    if batch:
        np.testing.assert_array_equal(recording[0].weights(2), np.ones((queries, keys)))


@pytest.mark.parametrize(
    ("query", "key"),
    [((1, 6, 7, 5), (3, 6, 11, 5)), ((3, 6, 7, 5), (1, 6, 11, 5)), ((3, 6, 7, 5), (3, 1, 11, 5))],
)
def test_arguments_that_broadcast_are_read(query, key):
    torch.manual_seed(3)
    query, key = torch.randn(query), torch.randn(key)
    recording = recorded(Asks(), query, key)
    expected = (query @ key.mT / 5**0.5).softmax(-1)
    np.testing.assert_allclose(weights_of(recording[0]), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["gpt2", "bert", "t5"])
def test_embeddings_instead_of_tokens(name):
    family = FAMILIES[name]()
    inputs = dict(family.inputs)
    tokens = inputs.pop("input_ids")
    inputs["inputs_embeds"] = family.model.get_input_embeddings()(tokens).detach()
    recording = recorded(family.model, **inputs)
    plain = recorded(family.model, **family.inputs)
    for one, other in zip(recording, plain, strict=True):
        np.testing.assert_allclose(weights_of(one), weights_of(other), rtol=0, atol=1e-5)
