"""A checkpoint: the model, and everything that the next step depends on."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from atento._errors import InputError
from atento.lm.checkpoints import save_model
from atento.lm.setting import number
from atento.lm.training.shards import like, whole
from atento.lm.transformer import Transformer

__all__ = ["FORMAT", "kept_checkpoints", "moments_of", "read_checkpoint", "write_checkpoint"]

FORMAT = "atento.training/1"
OPTIMIZER = "optimizer.safetensors"
STATE = "training.json"
ASIDE = ".aside-"


def write_checkpoint(
    folder: Path,
    model: Transformer,
    moments: dict[str, Tensor],
    progress: dict[str, Any],
    keep: int,
) -> Path:
    """Write a checkpoint whole or not at all, then let the oldest go.

    Args:
        folder: of all checkpoints of a run.
        model: as it is.
        moments: of its optimizer; `moments_of`.
        progress: "step" (how many are done) and what else the run wants back; JSON.
        keep: how many stay.

    Returns:
        the new checkpoint's folder.

    Raises:
        OSError, InputError: the system refused, for want of room perhaps; the others stay as they
            were.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(f"{ASIDE}*"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    target = folder / f"step-{progress['step']:08d}"
    aside = folder / f"{ASIDE}{target.name}"
    try:
        aside.mkdir()
        save_model(model, aside)
        save_file(moments | {"random": torch.get_rng_state()}, aside / OPTIMIZER)
        state = {"format": FORMAT, **progress}
        (aside / STATE).write_text(json.dumps(state, indent=2) + "\n", "utf-8")
        _to_disk(aside)
        if target.exists():
            shutil.rmtree(target)
        aside.rename(target)
        _sync(folder)  # its name, before the oldest goes
    except BaseException as error:  # an interrupt, too
        shutil.rmtree(aside, ignore_errors=True)
        if isinstance(error, SafetensorError):  # what it makes of a full disk
            raise OSError(str(error).rpartition(": ")[2]) from None
        raise
    for old in kept_checkpoints(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def kept_checkpoints(folder: Path) -> list[Path]:
    """Those that are there, the oldest first."""
    return sorted(path for path in folder.glob("step-*") if (path / STATE).exists())


def read_checkpoint(
    folder: Path, model: Transformer, optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """Set a model's optimizer and torch's random numbers as they were.

    Args:
        folder: of the checkpoint.
        model: with the checkpoint's weights, on its device, whole or in parts.
        optimizer: of this model.

    Returns:
        the progress that was written.

    Raises:
        InputError: what is there is no checkpoint of this model.
    """
    try:
        progress = json.loads((folder / STATE).read_text("utf-8"))
        stored = load_file(folder / OPTIMIZER)
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        raise InputError(
            f"the checkpoint {folder} cannot be read: {error}. Remove it: the run goes on from the "
            "one before.",
            name="lm_checkpoint",
            path=folder,
            why=error,
        ) from None
    if not isinstance(progress, dict) or progress.get("format") != FORMAT:
        raise InputError(
            f"{folder / STATE} is of another version than {FORMAT}.",
            name="lm_version",
            path=folder / STATE,
            version=FORMAT,
        )
    _check_progress(folder, progress)
    try:
        random = stored.pop("random")
        _set_moments(model, optimizer, stored)
        torch.set_rng_state(random)
    except (KeyError, RuntimeError, TypeError) as error:
        raise InputError(
            f"the checkpoint {folder} does not fit this model: {error}. Remove it: the run goes on "
            "from the one before.",
            name="lm_checkpoint",
            path=folder,
            why=error,
        ) from None
    return progress


def _check_progress(folder: Path, progress: dict[str, Any]) -> None:
    """See that the loop can go on with what was written.

    Raises:
        InputError: it cannot.
    """
    step, worse, losses = (progress.get(name) for name in ("step", "worse", "losses"))
    best = progress.get("best", "")
    counted = all(type(count) is int and count >= 0 for count in (step, worse))
    listed = isinstance(losses, list) and all(map(number, losses))
    if not (counted and listed and (best is None or number(best))):
        raise InputError(
            f"the checkpoint {folder} cannot be read: {STATE} is damaged. Remove it: the run goes "
            "on from the one before.",
            name="lm_checkpoint",
            path=folder,
            why=STATE,
        )


def moments_of(
    model: nn.Module, optimizer: torch.optim.Optimizer, *, wanted: bool = True
) -> dict[str, Tensor]:
    """What the optimizer remembers of each parameter, by the parameter's name.

    Args:
        model: whole or in parts; of parts, all processes ask at the same time.
        optimizer: of this model.
        wanted: whether this process keeps what was put together.
    """
    made = {}
    for name, parameter in model.named_parameters():
        for kind, value in optimizer.state.get(parameter, {}).items():
            full = whole(value.detach()).cpu().contiguous()
            if wanted:
                made[f"{name}/{kind}"] = full
    return made


def _set_moments(
    model: nn.Module, optimizer: torch.optim.Optimizer, stored: dict[str, Tensor]
) -> None:
    for name, parameter in model.named_parameters() if stored else ():  # none before the first step
        moments = {
            kind: like(stored[f"{name}/{kind}"].clone().reshape(parameter.shape), parameter)
            for kind in ("exp_avg", "exp_avg_sq")
        }
        step = stored[f"{name}/step"].clone().reshape(()).to(parameter.device)
        optimizer.state[parameter] = {"step": step, **moments}


def _to_disk(folder: Path) -> None:
    """Whatever stands in the files is on the disk before the folder gets its name."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    _sync(folder)


def _sync(folder: Path) -> None:
    """The names in a folder are on the disk, where the system opens folders."""
    if os.name == "nt":
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
