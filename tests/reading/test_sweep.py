"""`recording.sweep`: each head in turn, one by one and several together."""

import importlib.util
import io
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from atento import KnockOut, Temperature, capture
from atento._errors import InputError, MissingLibraryError
from atento.reading import sweeping, watching
from atento.reading.sweep import Sweep
from reading_models import FAMILIES, Kernel, Written, bert, gpt2, llama, t5

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers")


def recorded(model, *args, heads=None, **inputs):
    with torch.no_grad(), capture(model, statistics=(), heads=heads) as recording:
        model(*args, **inputs)
    return recording


def counted(model):
    """A list that each run of the model adds its batch size to."""
    runs = []

    def note(_module, args, kwargs):
        tensor = args[0] if args else next(iter(kwargs.values()))
        runs.append(tensor.shape[0])

    model.register_forward_pre_hook(note, with_kwargs=True)
    return runs


@pytest.mark.parametrize("name", ["gpt2", "llama", "bert", "gemma2", "t5", "bloom", "vit"])
def test_every_head_has_the_change_of_its_own_effect(name):
    family = FAMILIES[name]()
    recording = recorded(family.model, **family.inputs)
    asked = {"batch": 1} if name in ("bert", "vit") else {"token": 9, "position": 4, "batch": 1}
    sweep = recording.sweep(**asked)
    heads = [(layer.layer, head) for layer in recording for head in range(layer.heads)]
    assert sorted((row["layer"], row["head"]) for row in sweep) == sorted(heads)
    for layer, head in heads:
        effect = recording.effect(KnockOut(layer, head), **asked)
        found = sweep.array[recording.names.index(layer), head]
        np.testing.assert_allclose(found, effect.number, rtol=1e-3, atol=1e-5)
    sizes = [abs(row["change"]) for row in sweep]
    assert sizes == sorted(sizes, reverse=True)
    assert [row["change"] for row in sweep] == [effect.number for effect in sweep.effects]


def test_heads_run_together_as_batch_items_of_one_run():
    family = gpt2()
    recording = recorded(family.model, **family.inputs)
    runs = counted(family.model)
    recording.sweep(token=9)
    # As it is; one head alone; two copies, with and without it; and a run for each layer.
    assert runs == [2, 2, 2, 2, 5, 5, 5]


def test_long_texts_run_fewer_heads_at_once(monkeypatch):
    family = gpt2()
    recording = recorded(family.model, **family.inputs)
    whole = recording.sweep(token=9)
    monkeypatch.setattr(sweeping, "MOST_TOKENS", 26)
    runs = counted(family.model)
    np.testing.assert_allclose(recording.sweep(token=9).array, whole.array, rtol=0, atol=1e-6)
    assert runs == [2, 2, 2, 2, *[2, 2, 1] * 3]
    monkeypatch.setattr(sweeping, "MOST_TOKENS", 13)
    runs.clear()
    np.testing.assert_allclose(recording.sweep(token=9).array, whole.array, rtol=0, atol=1e-6)
    assert runs == [2] * 16


class Shared(nn.Module):
    """Items of a batch are not computed each by itself."""

    def __init__(self):
        super().__init__()
        self.attend = Kernel()

    def forward(self, x):
        made = self.attend(x)
        return made + made.sum(0, keepdim=True)


class Fixed(Shared):
    """Takes one batch size alone."""

    def forward(self, x):
        return self.attend(x.reshape(1, 11, 15))


class TokensFirst(Shared):
    """(token, batch, feature)."""

    def forward(self, x):
        return self.attend(x.transpose(0, 1)).transpose(0, 1)


class Packed(Shared):
    """Its input is in a list."""

    def forward(self, several):
        return self.attend(several[0])


@pytest.mark.parametrize("model_class", [Shared, Fixed, TokensFirst, Packed])
def test_models_whose_items_hang_together_are_run_head_by_head(model_class):
    torch.manual_seed(3)
    model = model_class()
    x = torch.randn(11, 1, 15) if model_class is TokensFirst else torch.randn(1, 11, 15)
    recording = recorded(model, [x] if model_class is Packed else x)
    sweep = recording.sweep()
    for head in range(3):
        effect = recording.effect(KnockOut("attend", head))
        np.testing.assert_allclose(sweep.array[0, head], effect.number, rtol=1e-9)


def test_another_intervention_can_be_swept():
    family = llama()
    recording = recorded(family.model, **family.inputs)
    sweep = recording.sweep(
        token=9, with_=lambda layer, head: Temperature(layer, head, temperature=0.2)
    )
    effect = recording.effect(Temperature(1, 4, temperature=0.2), token=9)
    np.testing.assert_allclose(sweep.array[1, 4], effect.number, rtol=1e-9)
    assert sweep.array.shape == (2, 6)
    mean = recording.sweep(token=9, with_=lambda layer, head: KnockOut(layer, head, by="mean"))
    effect = recording.effect(KnockOut(0, 2, by="mean"), token=9)
    np.testing.assert_allclose(mean.array[0, 2], effect.number, rtol=1e-9)


def test_a_function_of_the_output_can_be_swept():
    family = bert()
    recording = recorded(family.model, **family.inputs)
    sweep = recording.sweep(of=lambda out: out.pooler_output[1, 3])
    effect = recording.effect(KnockOut(1, 2), of=lambda out: out.pooler_output[1, 3])
    np.testing.assert_allclose(sweep.array[1, 2], effect.change, rtol=1e-9)


def test_formulas_written_out_are_swept_too():
    torch.manual_seed(3)
    written, kernel = Written(), Kernel()
    kernel.load_state_dict(written.state_dict())
    x = torch.randn(2, 11, 15)
    one, other = (recorded(model, x).sweep(batch=1) for model in (written, kernel))
    np.testing.assert_allclose(one.array, other.array, rtol=0, atol=1e-5)
    assert one.layers == ("(model)",)


def test_heads_keep_their_numbers_in_the_model():
    family = llama()
    recording = recorded(family.model, heads=[4, 1], **family.inputs)
    sweep = recording.sweep(token=9)
    whole = recorded(family.model, **family.inputs).sweep(token=9)
    assert sorted({row["head"] for row in sweep}) == [1, 4]
    np.testing.assert_allclose(sweep.array[:, [1, 4]], whole.array[:, [1, 4]], rtol=0, atol=1e-6)
    assert np.isnan(sweep.array[:, 0]).all()


def test_tables():
    family = gpt2()
    sweep = recorded(family.model, **family.inputs).sweep(token=9)
    assert isinstance(sweep, Sweep)
    assert len(sweep) == 15
    assert list(sweep[0]) == ["layer", "head", "change", "logit"]
    said = sweep.to_dict()
    assert said["rows"] == list(sweep)
    assert (said["token"], said["position"]) == (9, -1)
    lines = str(sweep).splitlines()
    assert len(lines) == 16
    assert lines[0].split() == ["layer", "head", "change", "logit"]
    assert lines[1].split()[:2] == [sweep[0]["layer"], str(sweep[0]["head"])]
    assert repr(sweep) == "Sweep(15 heads)"


def test_pandas_gets_the_rows_and_is_asked_for_in_words_when_missing(monkeypatch):
    family = gpt2()
    sweep = recorded(family.model, **family.inputs).sweep(token=9)
    found = importlib.util.find_spec("json")
    pandas = SimpleNamespace(DataFrame=lambda rows: {"rows": rows}, __spec__=found)
    monkeypatch.setitem(sys.modules, "pandas", pandas)
    assert sweep.to_pandas()["rows"] == list(sweep)
    monkeypatch.setattr("atento._optional.find_spec", lambda library: None)
    with pytest.raises(MissingLibraryError, match=r"pandas is needed for sweep\(\)\.to_pandas"):
        sweep.to_pandas()


def test_a_function_is_told_of_the_progress():
    family = gpt2()
    told = []
    recorded(family.model, **family.inputs).sweep(progress=lambda *done: told.append(done))
    assert told == [(5, 15), (10, 15), (15, 15)]


@pytest.mark.parametrize(
    ("progress", "terminal", "shown"),
    [(None, False, False), (None, True, True), (False, True, False), (True, False, True)],
)
def test_the_bar_is_for_terminals(monkeypatch, progress, terminal, shown):
    family = gpt2()
    recording = recorded(family.model, **family.inputs)
    stream = io.StringIO()
    stream.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stderr", stream)
    recording.sweep(progress=progress)
    assert bool(stream.getvalue().strip()) == shown


def test_an_interrupt_leaves_everything_as_it_was():
    family = gpt2()
    recording = recorded(family.model, **family.inputs)
    with torch.no_grad():
        plain = family.model(**family.inputs).logits

    def stop(done, _total):
        if done >= 10:
            raise KeyboardInterrupt

    torch.manual_seed(4)
    before = torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        recording.sweep(progress=stop)
    assert watching.current() is None
    assert watching._watchers == 0
    assert torch.equal(torch.get_rng_state(), before)
    with torch.no_grad():
        assert torch.equal(family.model(**family.inputs).logits, plain)


def test_decoders_and_encoders_are_swept_together():
    family = t5()
    sweep = recorded(family.model, **family.inputs).sweep(token=9)
    assert sweep.array.shape == (6, 3)
    assert np.abs(sweep.array).min() > 0


def test_what_cannot_be_swept_is_refused():
    family = bert()
    recording = recorded(family.model, **family.inputs)
    with pytest.raises(InputError, match="has no logits"):
        recording.sweep(token=3)
    with pytest.raises(InputError, match="got batch 2"):
        recording.sweep(batch=2)
