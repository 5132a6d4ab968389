"""What is decided for a machine, and kept by the run: bfloat16, the compiler, TensorBoard."""

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from atento import InputError
from atento.lm.training import board as board_module
from atento.lm.training import loop as loop_module
from atento.lm.training import speed
from atento.lm.training.speed import compiled, is_worth_compiling, precision_for
from atento.lm.training.train import _device

CPU = torch.device("cpu")

pytestmark = pytest.mark.slow


def losses(run):
    return [row["loss"] for row in run.log]


@pytest.mark.parametrize(("tiles", "wide", "chosen"), [
    (True, 256, "bfloat16"), (True, 255, "float32"), (False, 4096, "float32"),
])  # fmt: skip
def test_precision_is_decided_by_processor_and_width(monkeypatch, tiles, wide, chosen):
    monkeypatch.setattr(speed, "_multiplies_bfloat16", lambda: tiles)
    assert precision_for("auto", CPU, wide) == chosen
    assert precision_for("float32", CPU, wide) == "float32"
    assert precision_for("bfloat16", CPU, wide) == "bfloat16"
    assert precision_for("auto", torch.device("mps"), 4096) == "float32"


def test_compiling_is_decided_by_the_length_of_the_training(monkeypatch):
    monkeypatch.setattr(speed, "_has_compiler", lambda: True)
    long = 10**14 // (6 * 1000) + 1
    assert is_worth_compiling("auto", CPU, 1000, long)
    assert not is_worth_compiling("auto", CPU, 1000, long - 2)
    assert is_worth_compiling(True, CPU, 1, 1)
    assert not is_worth_compiling(False, CPU, 1000, long)
    monkeypatch.setattr(speed, "_has_compiler", lambda: False)
    assert not is_worth_compiling("auto", CPU, 1000, long)
    with pytest.raises(InputError, match=r"needs a C\+\+ compiler"):
        compiled(torch.nn.Linear(1, 1), CPU)


def test_a_run_keeps_what_auto_has_become(small, monkeypatch):
    monkeypatch.setattr(speed, "WIDE", 8)
    monkeypatch.setattr(speed, "_multiplies_bfloat16", lambda: True)
    run = small(steps=3)
    assert (run.settings.precision, run.settings.compile) == ("bfloat16", False)
    monkeypatch.undo()
    again = small(corpus=None, config=None, steps=3, resume=True, precision="auto")
    assert again.settings.precision == "bfloat16"
    with pytest.raises(InputError, match="started with precision = 'bfloat16'"):
        small(corpus=None, config=None, steps=3, resume=True, precision="float32")


def test_bfloat16_changes_the_steps_a_little(small):
    exact, half = small("a", precision="float32"), small("b", precision="bfloat16")
    assert losses(exact) != losses(half)
    assert losses(half) == pytest.approx(losses(exact), abs=0.02)


def test_compiled_steps_are_the_same(small, monkeypatch):
    """By a backend that compiles nothing: what torch traces is what runs."""
    made = []

    def traced(model, device):
        made.append(torch.compile(model, backend="eager"))
        return made[0]

    plain = small("a", compile=False)
    monkeypatch.setattr(loop_module, "compiled", traced)
    run = small("b", compile=True)
    assert len(made) == 1
    assert losses(run) == pytest.approx(losses(plain), abs=1e-5)


def shown(folder):
    """What TensorBoard itself reads: (step, number) by name."""
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    return {
        name: [(one.step, one.value) for one in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def logged(run):
    """The same by our own log, in TensorBoard's float32."""
    return {
        name: [
            (row["step"], pytest.approx(row[name], rel=1e-6))
            for row in run.log
            if row[name] is not None
        ]
        for name in board_module.SHOWN
    }


def test_tensorboard_reads_the_log(small):
    run = small(steps=20, evaluate_every=10)
    assert shown(run.folder) == logged(run)
    assert [step for step, _ in shown(run.folder)["loss"]] == list(range(1, 21))


def test_tensorboard_forgets_the_steps_that_are_made_anew(small, monkeypatch):
    step = loop_module.Loop._step

    def until(self):
        if self.state["step"] == 7:
            self.board.close()  # as if its rows had come to the disk before it was killed
            raise KeyboardInterrupt
        return step(self)

    monkeypatch.setattr(loop_module.Loop, "_step", until)
    with pytest.raises(KeyboardInterrupt):
        small()
    monkeypatch.undo()
    run = small(corpus=None, config=None, resume=True)
    assert [step for step, _ in shown(run.folder)["loss"]] == list(range(1, 13))
    assert shown(run.folder) == logged(run)


def test_without_tensorboard_there_is_no_board(tmp_path, monkeypatch):
    monkeypatch.setattr(board_module, "find_spec", lambda _: None)
    assert board_module.board_of(tmp_path, 0) is None


def test_each_process_of_torchrun_has_a_gpu_of_its_own(monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "zeros", lambda *_, device: asked.append(device) or torch.ones(()))
    monkeypatch.setenv("LOCAL_RANK", "3")
    _device("cuda")
    _device("cuda:1")
    _device("cpu")
    assert asked == ["cuda:3", "cuda:1", "cpu"]


@pytest.mark.parametrize(("options", "said"), [
    ({"precision": "half"}, "precision must be auto, float32 or bfloat16; got 'half'"),
    ({"compile": "yes"}, 'compile must be True, False or "auto"; got \'yes\''),
    ({"shard": True}, "this is one: start it by torchrun"),
])  # fmt: skip
def test_wrong_use_is_told(small, options, said, tmp_path):
    with pytest.raises(InputError, match=said):
        small(**options)
    assert not (tmp_path / "run").exists() or not (tmp_path / "run" / "run.json").exists()
