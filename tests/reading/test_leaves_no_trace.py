"""A capture leaves the model, torch, transformers and other threads as they were."""

import threading

import numpy as np
import pytest
import torch
import transformers
from torch import nn
from torch.overrides import _get_current_function_mode_stack
from transformers.masking_utils import AttentionMaskInterface

from atento import Boost, KnockOut
from atento._errors import InputError
from atento.equation import front
from atento.reading import watching
from atento.reading.capturing import capture
from reading_models import FAMILIES, Kernel, gpt2, ids, llama


def state(model):
    """Everything about a model and its libraries that a capture might touch."""
    modules = {
        name: (
            type(module),
            {
                key: id(value)
                for key, value in vars(module).items()
                if not key.startswith("_") or "hook" in key
            },
            {key: len(value) for key, value in vars(module).items() if "hooks" in key},
            module.training,
        )
        for name, module in model.named_modules()
    }
    config = getattr(model, "config", None)
    everywhere = torch.nn.modules.module
    return (
        modules,
        None if config is None else (config.to_dict(), config._attn_implementation),
        {name: p.detach().clone().numpy().tobytes() for name, p in model.named_parameters()},
        dict(transformers.AttentionInterface._global_mapping),
        dict(AttentionMaskInterface._global_mapping),
        dict(vars(transformers.AttentionInterface)),
        dict(vars(AttentionMaskInterface)),
        len(everywhere._global_forward_hooks) + len(everywhere._global_forward_pre_hooks),
        _get_current_function_mode_stack(),
        torch.is_grad_enabled(),
        front.watcher,
        watching.current(),
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_nothing_is_left_behind(name):
    family = FAMILIES[name]()
    before = state(family.model)
    with torch.no_grad(), capture(family.model, statistics=()):
        family.model(**family.inputs)
    assert state(family.model) == before


def test_the_model_itself_is_untouched_while_it_is_captured():
    family = llama()
    before = state(family.model)
    with torch.no_grad(), capture(family.model, statistics=()):
        family.model(**family.inputs)
        during = state(family.model)
        assert during[:5] == before[:5]
        assert family.model.config._attn_implementation == "sdpa"


def _run_and_fail(family):
    family.model(**family.inputs)
    raise ZeroDivisionError


def test_nothing_is_left_behind_after_an_exception():
    family = llama()
    before = state(family.model)
    whole = capture(family.model, statistics=())
    with pytest.raises(ZeroDivisionError), whole as recording:
        _run_and_fail(family)
    assert len(recording) == 2
    assert state(family.model) == before


@pytest.mark.parametrize("name", ["gpt2", "llama", "t5", "bloom"])
def test_nothing_is_left_behind_by_interventions_effects_and_sweeps(name):
    family = FAMILIES[name]()
    before = state(family.model)
    changes = [KnockOut(0, 1), Boost(1, keys=0, factor=2.0)]
    with torch.no_grad(), capture(family.model, statistics=(), interventions=changes) as changed:
        family.model(**family.inputs)
        assert state(family.model)[:5] == before[:5]
    assert state(family.model) == before
    changed.effect(changes, token=3)
    assert state(family.model) == before
    changed.sweep(token=3)
    assert state(family.model) == before
    with pytest.raises(InputError):
        changed.effect(KnockOut(9))
    refused = capture(family.model, statistics=(), interventions=KnockOut(0, 9))
    with pytest.raises(InputError), torch.no_grad(), refused:
        family.model(**family.inputs)
    assert state(family.model) == before


class Broken(nn.Module):
    """Fails in the middle of a forward pass."""

    def __init__(self):
        super().__init__()
        self.first, self.second = Kernel(), Kernel()

    def forward(self, x):
        x = self.first(x)
        raise RuntimeError("broken")


def test_nothing_is_left_behind_when_the_model_fails():
    model = Broken()
    before = state(model)
    with pytest.raises(RuntimeError, match="broken"), capture(model, statistics=()):
        model(torch.randn(2, 5, 15))
    assert state(model) == before


def test_nothing_is_left_behind_when_a_capture_is_refused():
    family = llama()
    before = state(family.model)
    with pytest.raises(InputError), capture(family.model, heads=[11], statistics=()):
        family.model(**family.inputs)
    assert state(family.model) == before


def test_nested_captures_both_record():
    family = llama()
    before = state(family.model)
    with torch.no_grad():
        plain = family.model(**family.inputs).logits
        with capture(family.model, statistics=()) as outer:
            with capture(family.model.model, layers=0, statistics=()) as inner:
                made = family.model(**family.inputs).logits
            family.model(input_ids=ids(length=7))
    assert torch.equal(plain, made)
    assert inner.names == ["layers.0.self_attn"]
    assert outer.names == family.layers
    assert [run[0].queries for run in outer.passes] == [13, 7]
    np.testing.assert_array_equal(inner[0].lse, outer[0].lse)
    assert state(family.model) == before


def test_other_models_in_the_same_thread_are_not_recorded():
    one, other = llama(), gpt2()
    with torch.no_grad():
        plain = other.model(**other.inputs).logits
        with capture(one.model, statistics=()) as recording:
            assert torch.equal(other.model(**other.inputs).logits, plain)
            one.model(**one.inputs)
            torch.nn.functional.scaled_dot_product_attention(*torch.randn(3, 2, 3, 5, 7))
    assert recording.names == one.layers


def test_models_can_be_captured_after_one_another():
    family = llama()
    with torch.no_grad():
        for _ in range(2):
            with capture(family.model, statistics=()) as recording:
                family.model(**family.inputs)
            assert len(recording.records) == 2


def run_in_thread(work):
    """What the work returns in a thread of its own; its exception is raised here."""
    found = []

    def run():
        try:
            found.append(work())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if isinstance(found[0], BaseException):
        raise found[0]
    return found[0]


def test_another_thread_is_neither_recorded_nor_disturbed():
    family = llama()
    kernel = Kernel()
    x = torch.randn(2, 5, 15)
    with torch.no_grad():
        plain, plain_kernel = family.model(**family.inputs).logits, kernel(x)

    def work():
        with torch.no_grad():
            assert watching.current() is None
            return family.model(**family.inputs).logits, kernel(x)

    with torch.no_grad(), capture(nn.ModuleList([family.model, kernel]), statistics=()) as seen:
        made, made_kernel = run_in_thread(work)
        assert not seen.records
        kernel(x)
    assert seen.names == ["1"]
    assert torch.equal(made, plain)
    assert torch.equal(made_kernel, plain_kernel)


def test_threads_capture_the_same_model_at_once_each_its_own():
    family = llama()
    before = state(family.model)
    lengths = (5, 7, 11, 13)
    barrier = threading.Barrier(len(lengths))
    found, errors = {}, []

    def work(length):
        try:
            with torch.no_grad(), capture(family.model, statistics=()) as recording:
                barrier.wait(timeout=60)
                for _ in range(3):
                    family.model(input_ids=ids(length=length))
                barrier.wait(timeout=60)
            found[length] = recording
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(length,)) for length in lengths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    for length in lengths:
        passes = found[length].passes
        assert [[layer.queries for layer in run] for run in passes] == [[length] * 2] * 3
    assert state(family.model) == before


def test_a_functional_mode_of_the_user_still_sees_the_calls():
    seen = []

    class Mine(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            seen.append(getattr(func, "__name__", ""))
            return func(*args, **(kwargs or {}))

    model = Kernel()
    with torch.no_grad(), capture(model, statistics=()) as recording, Mine():
        model(torch.randn(2, 5, 15))
    assert "scaled_dot_product_attention" in seen
    assert len(recording) == 1


def test_recorded_arrays_do_not_change_with_the_model():
    class Overwrites(nn.Module):
        def forward(self, x):
            query = x.clone()
            bias = torch.zeros(5, 5)
            bias[:, 4] = 2.0
            made = torch.nn.functional.scaled_dot_product_attention(query, query, query, bias)
            query.zero_()
            bias.zero_()
            return made

    model = Overwrites()
    x = torch.randn(2, 3, 5, 7)
    with capture(model, statistics=()) as recording:
        model(x)
    np.testing.assert_array_equal(recording[0].query, x.numpy())
    np.testing.assert_array_equal(recording[0].key, x.numpy())
    assert (recording[0].bias[..., 4] == 2).all()


def test_inputs_and_caches_are_not_modified():
    family = gpt2()
    tokens = family.inputs["input_ids"].clone()
    with torch.no_grad():
        plain = family.model(**family.inputs).past_key_values
        with capture(family.model, statistics=()):
            seen = family.model(**family.inputs).past_key_values
    assert torch.equal(tokens, family.inputs["input_ids"])
    for one, other in zip(plain.layers, seen.layers, strict=True):
        assert torch.equal(one.keys, other.keys)
        assert torch.equal(one.values, other.values)
