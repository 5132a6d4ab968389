"""What is decided for a machine, and kept by the run: bfloat16, the compiler, TensorBoard."""

import sys
from types import ModuleType

import pytest
import torch

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


def test_tensorboard_gets_the_log(small, monkeypatch):
    """By a module that stands in for it: TensorBoard is not installed with the tests."""
    written = []

    class SummaryWriter:
        def __init__(self, folder, purge_step):
            written.append(("begin", folder, purge_step))

        def add_scalar(self, name, value, step):
            written.append((name, value, step))

        def close(self):
            written.append(("end",))

    stand_in = ModuleType("torch.utils.tensorboard")
    stand_in.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", stand_in)
    monkeypatch.setattr(board_module, "find_spec", lambda name: name == "tensorboard")
    run = small(steps=8, evaluate_every=4)
    assert written[0] == ("begin", str(run.folder / "tensorboard"), None)
    assert written[-1] == ("end",)
    for name in ("loss", "validation", "learning_rate"):
        expected = [(name, row[name], row["step"]) for row in run.log if row[name] is not None]
        assert [one for one in written if one[0] == name] == expected
    written.clear()
    small(corpus=None, config=None, steps=8, evaluate_every=4, resume=True)
    assert written == [("begin", str(run.folder / "tensorboard"), 9), ("end",)]


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
