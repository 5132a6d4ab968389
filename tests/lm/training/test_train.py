"""A training: what it learns, what it writes, and that nothing that happens to it is lost."""

import json
import math
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from atento import InputError
from atento.lm import BPETokenizer, CharTokenizer, Transformer, generate, train
from atento.lm.training import loop as loop_module
from atento.lm.training.loop import TrainingError

pytestmark = pytest.mark.slow

TEXT = "to be or not to be, that is the question. " * 60


def weights(run):
    return torch.cat([p.flatten() for p in run.model().parameters()])


def losses(run):
    return [row["loss"] for row in run.log]


def test_it_learns_a_text_by_heart(small):
    run = small(steps=150, learning_rate=2e-2, shape={"d_model": 32}, evaluate_every=50)
    assert run.ended == "steps"
    assert run.log[0]["loss"] > 2.2
    assert run.log[-1]["loss"] < 0.5
    assert run.log[-1]["validation"] == pytest.approx(run.log[-1]["loss"], abs=0.3)
    text = generate(run.model(), "to be or ", max_tokens=20, temperature=0)
    assert "not to be" in text


def test_the_first_loss_is_that_of_a_guess(small):
    run = small(steps=1)
    assert run.log[0]["loss"] == pytest.approx(np.log(len(set(TEXT))), abs=0.1)


def first_loss(model, run):
    """The mean of −log p(next token) over the rows of the first step, drawn by hand."""
    tokens = np.load(run.folder / "training.npy")
    starts = np.random.default_rng([5, 0]).integers(0, len(tokens) - 16, 4)
    rows = torch.from_numpy(np.stack([tokens[s : s + 17] for s in starts]).astype(np.int64))
    logits = model(rows[:, :-1])
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())


def test_one_step_is_adamw_on_the_mean_of_the_rows(small):
    """Against torch's own."""
    run = small(steps=1, warm_up=1, weight_decay=0.3, clip=0.0)
    torch.manual_seed(5)
    model = Transformer(run.model().config)
    loss = first_loss(model, run)
    loss.backward()
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    groups = [{"params": matrices, "weight_decay": 0.3}, {"params": vectors, "weight_decay": 0.0}]
    torch.optim.AdamW(groups, lr=3e-3, betas=(0.9, 0.99)).step()
    after = torch.cat([p.flatten() for p in model.parameters()])
    # The first step is 3e-3 · g / (|g| + 1e-8): of a gradient near 0 rounding decides.
    gradients = torch.cat([p.grad.flatten() for p in model.parameters()])
    sure = gradients.abs() > 1e-6
    assert sure.float().mean() > 0.9
    assert run.log[0]["loss"] == pytest.approx(loss.item(), abs=1e-6)
    torch.testing.assert_close(weights(run)[sure], after[sure], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(weights(run), after, rtol=0, atol=6e-3)


@pytest.mark.parametrize("clip", [0, 0.01, 100.0])
def test_a_gradient_is_no_longer_than_clip(small, monkeypatch, clip):
    found = []

    def step(optimizer):
        gradients = [p.grad.flatten() for group in optimizer.param_groups for p in group["params"]]
        found.append(float(torch.cat(gradients).norm()))

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    run = small(steps=2, evaluate_every=1, clip=clip)
    lengths = [row["gradient"] for row in run.log]
    assert all(0.05 < length < 50 for length in lengths)
    expected = [min(length, clip) if clip else length for length in lengths]
    assert found == pytest.approx(expected, rel=1e-4)


def test_the_same_seed_gives_the_same_bits_and_another_does_not(small):
    first, second, other = small("a"), small("b"), small("c", seed=6)
    assert torch.equal(weights(first), weights(second))
    assert losses(first) == losses(second) != losses(other)


def test_parts_of_a_batch_add_up(small):
    whole, parts = small("a", clip=0.01), small("b", clip=0.01, accumulate=4)
    np.testing.assert_allclose(losses(whole), losses(parts), rtol=1e-5)
    torch.testing.assert_close(weights(whole), weights(parts), rtol=1e-3, atol=1e-5)


def test_the_folder_is_a_model_that_transformers_loads(small):
    run = small()
    model = run.model().eval()
    peer = AutoModelForCausalLM.from_pretrained(run.folder).eval()
    ids = torch.tensor([model.tokenizer.encode("to be or not")])
    with torch.no_grad():
        torch.testing.assert_close(peer(ids).logits, model(ids), rtol=1e-4, atol=1e-4)


def test_the_log_says_what_happened(small):
    run = small(steps=12, evaluate_every=5)
    rows = run.log
    assert [row["step"] for row in rows] == list(range(1, 13))
    assert [row["step"] for row in rows if row["validation"] is not None] == [5, 10, 12]
    assert rows[3]["tokens"] == 4 * 4 * 16
    assert rows[0]["learning_rate"] == pytest.approx(3e-3 / 2)
    assert rows[1]["learning_rate"] == pytest.approx(3e-3)
    assert rows[-1]["learning_rate"] < 6e-4
    assert all(row["gradient"] > 0 and row["tokens_per_second"] > 0 for row in rows)
    header, *lines = (run.folder / "log.csv").read_text().splitlines()
    assert header.startswith("step,tokens,loss,validation")
    assert len(lines) == 12
    assert (run.folder / "samples.txt").read_text().count("── step") == 3


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_resumed_it_goes_on_bit_for_bit(small, dropout, monkeypatch):
    whole = small("whole", shape={"dropout": dropout}, keep=9)

    class Killed(BaseException):
        pass

    step = loop_module.Loop._step

    def until(self):
        if self.state["step"] == 7:
            raise Killed
        return step(self)

    monkeypatch.setattr(loop_module.Loop, "_step", until)
    with pytest.raises(Killed):
        small("cut", shape={"dropout": dropout}, keep=9)
    monkeypatch.undo()
    torch.manual_seed(99)  # whatever happened in between
    again = train(out=whole.folder.parent / "cut", resume=True, progress=False)
    assert again.ended == "steps"
    assert losses(again) == losses(whole)
    assert torch.equal(weights(again), weights(whole))


CHILD = """
    import sys
    from atento.lm import TransformerConfig, train
    text = "to be or not to be, that is the question. " * 60
    config = TransformerConfig(1, context=16, d_model=8, num_layers=1, num_heads=2)
    given = dict(config=config) if sys.argv[2] == "new" else dict(resume=True)
    corpus = [text] if sys.argv[2] == "new" else None
    run = train(corpus, out=sys.argv[1], steps=60, batch=4, evaluate_every=6, warm_up=2, seed=5,
                progress=False, **given)
    print(run.ended)
"""


def child(folder, kind):
    code = textwrap.dedent(CHILD)
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder), kind],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def checkpoints(folder):
    return sorted(path.name for path in (folder / "checkpoints").glob("step-*"))


def wait_for(process, check):
    until = time.monotonic() + 120
    while process.poll() is None and not check() and time.monotonic() < until:
        time.sleep(0.01)


def test_killed_at_any_moment_it_goes_on_as_if_nothing_had_happened(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert child(whole, "new").communicate()[0] == "steps\n"
    random = np.random.default_rng(3)
    kind, kills = "new", 0
    for _ in range(4):
        before = checkpoints(cut)
        process = child(cut, kind)
        wait_for(process, lambda: (cut / "run.json").exists() and checkpoints(cut) != before)  # noqa: B023
        time.sleep(float(random.uniform(0.0, 0.1)))
        kills += process.poll() is None
        process.kill()
        process.communicate()
        kind = "resume"
    said, errors = child(cut, kind).communicate()
    assert said == "steps\n", errors
    assert kills > 1
    one, other = (json.loads((folder / "log.json").read_text()) for folder in (whole, cut))
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert (a["step"], a["loss"], a["validation"]) == (b["step"], b["loss"], b["validation"])


@pytest.mark.parametrize("written", [False, True])
def test_killed_while_it_keeps_it_loses_nothing(small, monkeypatch, written):
    """Right before a checkpoint is there, and right after."""
    whole = small("whole", steps=8, evaluate_every=2)
    write = loop_module.write_checkpoint

    def killed(folder, model, moments, state, keep):
        if state["step"] < 6:
            return write(folder, model, moments, state, keep)
        if written:
            write(folder, model, moments, state, keep)
        raise SystemExit

    monkeypatch.setattr(loop_module, "write_checkpoint", killed)
    with pytest.raises(SystemExit):
        small("cut", steps=8, evaluate_every=2)
    monkeypatch.undo()
    folder = whole.folder.parent / "cut"
    last = checkpoints(folder)[-1]
    assert last == ("step-00000006" if written else "step-00000004")
    if written:  # the best so far
        kept = folder / "checkpoints" / last / "model.safetensors"
        assert (folder / "model.safetensors").read_bytes() == kept.read_bytes()
    cut = train(out=folder, resume=True, progress=False)
    rows = [[(row["step"], row["loss"]) for row in run.log] for run in (whole, cut)]
    assert len(rows[0]) == 8
    assert rows[0] == rows[1]
    assert torch.equal(weights(cut), weights(whole))


def test_ctrl_c_keeps_the_last_step(tmp_path):
    process = child(tmp_path / "run", "new")
    wait_for(process, (tmp_path / "run" / "log.json").exists)
    process.send_signal(signal.SIGINT)
    said, errors = process.communicate(timeout=60)
    assert said == "interrupted\n", errors
    kept = sorted((tmp_path / "run" / "checkpoints").glob("step-*"))
    done = json.loads((kept[-1] / "training.json").read_text())["step"]
    assert 6 <= done < 60
    again = child(tmp_path / "run", "resume")
    assert again.communicate()[0] == "steps\n"


def test_a_loss_that_is_no_number_ends_it_and_keeps_what_was_good(small, monkeypatch):
    step = loop_module.Loop._loss

    def broken(self, ids):
        return step(self, ids) * (float("nan") if self.state["step"] == 9 else 1)

    monkeypatch.setattr(loop_module.Loop, "_loss", broken)
    with pytest.raises(TrainingError, match=r"loss of step 10 is nan.*step-00000008"):
        small()
    monkeypatch.undo()


def test_so_many_checkpoints_stay(small):
    run = small(steps=16, keep=3)
    names = sorted(path.name for path in (run.folder / "checkpoints").iterdir())
    assert names == ["step-00000008", "step-00000012", "step-00000016"]


def test_a_gradient_that_is_no_number_ends_it_before_the_step(small, monkeypatch):
    monkeypatch.setattr(loop_module.nn.utils, "get_total_norm", lambda g: torch.tensor(math.nan))
    stepped = []
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda optimizer: stepped.append(1))
    with pytest.raises(TrainingError, match=r"gradient of step 1 is nan.* \(step-00000000\)"):
        small()
    assert not stepped


def test_an_interrupt_between_validations_leaves_the_best_model(small, monkeypatch):
    seen = {4: 1.0, 8: 2.0, 12: 3.0}
    monkeypatch.setattr(loop_module.Loop, "_validated", lambda self: seen[self.state["step"]])
    whole = small("whole")
    step = loop_module.Loop._step

    def pressed(self):
        made = step(self)
        if self.state["step"] == 6:
            signal.raise_signal(signal.SIGINT)
        return made

    monkeypatch.setattr(loop_module.Loop, "_step", pressed)
    cut = small("cut")
    assert cut.ended == "interrupted"
    assert torch.equal(weights(cut), weights(whole))
    monkeypatch.setattr(loop_module.Loop, "_step", step)
    again = train(out=cut.folder, resume=True, progress=False)
    assert losses(again) == losses(whole)
    assert torch.equal(weights(again), weights(whole))


def test_it_ends_when_patience_is_over_and_gives_the_best(small, monkeypatch):
    found = iter([3.0, 2.0, 2.5, 2.4, 1.0])
    monkeypatch.setattr(loop_module.Loop, "_validated", lambda _: next(found))
    run = small(steps=40, patience=2, keep=9)
    assert run.ended == "patience"
    assert run.log[-1]["step"] == 16
    best = torch.cat(
        [
            p.flatten()
            for p in loop_module.load_model(run.folder / "checkpoints/step-00000008").parameters()
        ]
    )
    assert torch.equal(weights(run), best)


def test_a_model_is_trained_on(small):
    first = small("first")
    run = small("second", model=first.model(), config=None, learning_rate=1e-4)
    with torch.no_grad():
        assert losses(run)[0] == pytest.approx(first_loss(first.model(), run).item(), abs=1e-6)
    assert run.model().tokenizer == first.model().tokenizer


@pytest.mark.parametrize("tokenizer", ["bpe", "own"])
def test_tokenizers(small, tokenizer):
    given = CharTokenizer() if tokenizer == "own" else "bpe"
    run = small(tokenizer=given, vocabulary_size=270)
    model = run.model()
    kind = CharTokenizer if tokenizer == "own" else BPETokenizer
    assert isinstance(model.tokenizer, kind)
    assert model.config.vocabulary_size == model.tokenizer.vocabulary_size


def test_texts_end_with_the_end_of_a_text(small):
    run = small(corpus=[TEXT, TEXT], tokenizer="bpe", vocabulary_size=270)
    ids = np.concatenate([np.load(run.folder / f"{n}.npy") for n in ("training", "validation")])
    assert (ids == run.model().tokenizer.id_of("<|endoftext|>")).sum() == 2
    assert ids.dtype == np.uint16


def test_a_short_corpus_has_no_validation(small):
    run = small(corpus=["abcdefgh " * 9])
    assert all(row["validation"] is None for row in run.log)
    assert run.ended == "steps"


def test_two_trainings_in_one_folder_are_one_too_many(small, monkeypatch):
    """The second is refused while the first is at work."""
    refused = []
    step = loop_module.Loop._step

    def second(self):
        if self.state["step"] == 2:
            with pytest.raises(InputError, match="being written by another process"):
                train(out=self.folder, resume=True)
            refused.append(True)
        return step(self)

    monkeypatch.setattr(loop_module.Loop, "_step", second)
    assert small(steps=4).ended == "steps"
    assert refused
    monkeypatch.undo()


TEAM = """
    import sys
    from atento.lm import TransformerConfig, train
    text = "to be or not to be, that is the question. " * 60
    config = TransformerConfig(1, context=16, d_model=8, num_layers=1, num_heads=2)
    train([text], out=sys.argv[1], config=config, steps=8, batch=4, accumulate=2, evaluate_every=4,
          warm_up=2, seed=5, progress=False, learning_rate=3e-3)
"""


def test_two_processes_give_the_curve_of_one(small, tmp_path):
    alone = small(steps=8, accumulate=2)
    script = tmp_path / "team.py"
    script.write_text(textwrap.dedent(TEAM))
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
         str(script), str(tmp_path / "both")],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    both = json.loads((tmp_path / "both" / "log.json").read_text())
    np.testing.assert_allclose([r["loss"] for r in both], losses(alone), atol=1e-4)
    np.testing.assert_allclose(
        [r["validation"] for r in both if r["validation"]],
        [r["validation"] for r in alone.log if r["validation"]],
        atol=1e-4,
    )
    # What two began, one goes on with.
    assert train(out=tmp_path / "both", resume=True, progress=False).ended == "steps"
