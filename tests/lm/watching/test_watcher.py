"""Looking at a model while it is trained: the right numbers, and the training stays the same."""

import json
import os
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import torch

from atento import InputError
from atento.lm import Transformer, TransformerConfig, load_watch, train
from atento.lm.training import loop as loop_module
from atento.lm.watching.look import STATISTICS
from atento.lm.watching.plan import Prompt, watched_steps
from atento.lm.watching.watcher import look_at
from lm_watching_oracle import loss_of, weights_of

PROMPTS = ["to be or not to be", "that is"]


def parameters(run):
    return torch.cat([p.flatten() for p in run.model().parameters()])


def some_model(**changes):
    torch.manual_seed(3)
    shape = {"context": 110, "d_model": 12, "num_layers": 2, "num_heads": 3, **changes}
    model = Transformer(TransformerConfig(11, **shape)).double()
    with torch.no_grad():
        for parameter in model.parameters():  # so that no head looks like another
            parameter.add_(0.6 * torch.randn_like(parameter))
    return model


def some_prompt(length, vocabulary=11):
    ids = np.random.default_rng(length).integers(0, vocabulary, length).tolist()
    return Prompt("", tuple(ids), tuple(map(str, ids)))


def by_hand(weights, ids):
    """The numbers of one prompt, (statistic, layer, head), from dense weights, query by query."""
    places = range(len(ids))
    late = [i for i in places if i >= 4]
    again = [i for i in places if ids[i] in ids[:i]]

    def asked(name):
        return again if name in ("induction", "duplicate") else late

    shares = {
        "induction": lambda p, i: sum(p[j] for j in range(1, i + 1) if ids[j - 1] == ids[i]),
        "duplicate": lambda p, i: sum(p[j] for j in range(i) if ids[j] == ids[i]),
        "previous": lambda p, i: p[i - 1],
        "self": lambda p, i: p[i],
        "first": lambda p, i: p[0],
        "uniform": lambda p, i: -(p[: i + 1] * np.log(p[: i + 1])).sum() / np.log(i + 1),
        "entropy": lambda p, i: -(p[: i + 1] * np.log(p[: i + 1])).sum(),
    }
    return np.array(
        [
            [[np.mean([share(head[i], i) for i in asked(name)]) for head in layer]
             for layer in weights]
            for name, share in shares.items()
        ]
    )  # fmt: skip


@pytest.mark.parametrize("position", ["learned", "rotary"])
def test_the_numbers_are_those_of_dense_weights(position):
    model = some_model(position=position, d_model=12)
    prompts = (some_prompt(13), some_prompt(29))
    seen = look_at(model, prompts, 7)
    dense = [weights_of(model, prompt.ids) for prompt in prompts]
    expected = [by_hand(own, prompt.ids) for own, prompt in zip(dense, prompts, strict=True)]
    np.testing.assert_allclose(seen.numbers, np.mean(expected, axis=0), rtol=1e-6, atol=1e-9)
    losses = [loss_of(model, prompt.ids) for prompt in prompts]
    np.testing.assert_allclose(seen.losses, losses, rtol=1e-9)
    for maps, weights in zip(seen.maps, dense, strict=True):
        np.testing.assert_allclose(maps[0], weights, rtol=1e-6, atol=1e-9)
    assert (seen.step, seen.heads) == (7, (0, 1, 2))
    assert seen.layers == ("blocks.0.attention", "blocks.1.attention")


def test_long_prompts_are_pooled_by_mean_and_maximum():
    model = some_model()
    prompt = some_prompt(101)  # bins of 3 × 3, the last ones smaller
    (maps,) = look_at(model, (prompt,), 0).maps
    weights = weights_of(model, prompt.ids)
    assert maps.shape == (2, 2, 3, 34, 34)
    for row, col in ((0, 0), (20, 3), (33, 33), (33, 5)):
        cells = weights[:, :, 3 * row : 3 * row + 3, 3 * col : 3 * col + 3]
        np.testing.assert_allclose(maps[0, :, :, row, col], cells.mean((2, 3)), rtol=1e-6)
        np.testing.assert_allclose(maps[1, :, :, row, col], cells.max((2, 3)), rtol=1e-6)


def test_a_prompt_that_repeats_nothing_has_no_such_numbers():
    model = some_model()
    alone = Prompt("", (1, 2, 3, 4, 5, 6), tuple("123456"))
    numbers = look_at(model, (alone,), 0).numbers
    assert np.isnan(numbers[:2]).all()
    assert np.isfinite(numbers[2:]).all()
    repeating = some_prompt(20)
    both, one = (look_at(model, p, 0).numbers for p in ((alone, repeating), (repeating,)))
    np.testing.assert_allclose(both[:2], one[:2])  # a mean over the prompts that have any
    assert not np.allclose(both[2:], one[2:])


def test_only_the_first_prompts_have_maps():
    seen = look_at(some_model(), tuple(some_prompt(n) for n in (5, 6, 7, 8)), 0)
    assert [maps.shape[-1] for maps in seen.maps] == [5, 6]
    assert seen.losses.shape == (4,)


@pytest.mark.parametrize("training", [True, False])
def test_the_model_and_the_random_numbers_stay_as_they_were(training):
    model = some_model(dropout=0.4).train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    first, second = (look_at(model, (some_prompt(9),), 0) for _ in range(2))
    np.testing.assert_array_equal(first.numbers, second.numbers)  # no dropout
    assert torch.equal(torch.get_rng_state(), random)
    assert model.training is training
    assert all(module.training is training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_a_training_that_is_watched_is_the_same_to_the_last_bit(small, dropout):
    plain = small("plain", shape={"dropout": dropout})
    watched = small("watched", shape={"dropout": dropout}, watch=PROMPTS, watch_every=1)
    assert torch.equal(parameters(plain), parameters(watched))
    assert [row["loss"] for row in plain.log] == [row["loss"] for row in watched.log]
    for name in ("model.safetensors", "optimizer.safetensors"):
        one, other = (
            (run.folder / "checkpoints" / "step-00000012" / name).read_bytes()
            for run in (plain, watched)
        )
        assert one == other
    assert load_watch(watched.folder).steps.tolist() == list(range(13))


def test_the_last_look_is_at_the_model_that_is_kept(small):
    run = small(watch=PROMPTS, watch_every=5, evaluate_every=12)
    watched = load_watch(run.folder)
    assert watched.steps.tolist() == [0, 5, 10, 12]
    model = run.model().eval()
    prompts = watched.prompts
    assert [prompt.text for prompt in prompts] == PROMPTS
    assert prompts[1].tokens == tuple("that is")
    seen = look_at(model, prompts, 12)
    np.testing.assert_array_equal(watched.numbers[-1], seen.numbers.astype(np.float32))
    assert not np.array_equal(watched.numbers[0], watched.numbers[-1])
    assert watched.losses[0] == pytest.approx(np.log(model.config.vocabulary_size), abs=0.1)


def test_a_training_that_ends_early_is_looked_at_where_it_ends(small):
    run = small(
        watch=PROMPTS, watch_every=1000, steps=400, evaluate_every=2, patience=1, learning_rate=5.0
    )
    assert run.ended == "patience"
    assert load_watch(run.folder).steps.tolist() == [0, run.log[-1]["step"]]


def test_it_is_resumed_without_gaps_and_without_doubles(small, tmp_path, monkeypatch):
    whole = load_watch(small("whole", watch=PROMPTS, watch_every=1).folder)

    class Killed(BaseException):
        pass

    step = loop_module.Loop._step

    def until(self):
        if self.state["step"] == 7:
            raise Killed
        return step(self)

    monkeypatch.setattr(loop_module.Loop, "_step", until)
    with pytest.raises(Killed):
        small("cut", watch=PROMPTS, watch_every=1)
    monkeypatch.undo()
    folder = tmp_path / "cut"
    assert load_watch(folder).steps.tolist() == list(range(8))  # its checkpoint is of step 4
    damaged = folder / "watch" / "step-00000006.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-3])
    train(out=folder, resume=True, progress=False)
    again = load_watch(folder)
    assert again.steps.tolist() == whole.steps.tolist() == list(range(13))
    np.testing.assert_array_equal(again.numbers, whole.numbers)
    np.testing.assert_array_equal(again.losses, whole.losses)


def test_what_cannot_be_watched_is_said_before_anything_is_written(small, tmp_path):
    with pytest.raises(InputError, match="prompt 1 has 60 tokens, and the model takes 23"):
        small(watch="to be " * 10)
    assert not (tmp_path / "run" / "run.json").exists()
    with pytest.raises(InputError, match="watch_every must be a whole number ≥ 1; got 0"):
        small(watch=PROMPTS, watch_every=0)
    with pytest.raises(InputError, match="give watch=, too"):
        small(watch_every=3)
    small()
    with pytest.raises(InputError, match="was not watched"):
        load_watch(tmp_path / "run")


CHILD = """
    import sys
    from atento.lm import TransformerConfig, train
    text = "to be or not to be, that is the question. " * 60
    config = TransformerConfig(1, context=16, d_model=8, num_layers=1, num_heads=2)
    given = dict(config=config, watch=["to be or", "that is"], watch_every=1)
    new = sys.argv[2] == "new"
    run = train([text] if new else None, out=sys.argv[1], steps=60, batch=4, evaluate_every=6,
                warm_up=2, seed=5, progress=False, **(given if new else dict(resume=True)))
    print(run.ended)
"""


def child(folder, kind):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CHILD), str(folder), kind],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_killed_while_it_writes_it_goes_on_without_gaps_and_without_doubles(tmp_path):
    """A look after every step: most of a process's time goes into writing them."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert child(whole, "new").communicate()[0] == "steps\n"
    random = np.random.default_rng(4)
    kind, kills = "new", 0
    for _ in range(2):
        there = len(list(cut.glob("watch/step-*")))
        process = child(cut, kind)
        until = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < until:
            if (cut / "run.json").exists() and len(list(cut.glob("watch/step-*"))) != there:
                break
            time.sleep(0.005)
        time.sleep(float(random.uniform(0.0, 0.2)))
        kills += process.poll() is None
        process.kill()
        process.communicate()
        load_watch(cut)  # whatever is there is whole
        kind = "resume"
    said, errors = child(cut, kind).communicate()
    assert said == "steps\n", errors
    assert kills > 0
    one, other = load_watch(whole), load_watch(cut)
    assert one.steps.tolist() == other.steps.tolist() == list(watched_steps(60, 1))
    np.testing.assert_array_equal(one.numbers, other.numbers)
    np.testing.assert_array_equal(one.losses, other.losses)
    for mine, theirs in zip(one.maps, other.maps, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert json.loads((whole / "log.json").read_text())[-1]["step"] == 60


def test_statistics_are_named_in_one_place():
    assert set(STATISTICS) >= {"induction", "previous", "entropy", "first", "duplicate"}
