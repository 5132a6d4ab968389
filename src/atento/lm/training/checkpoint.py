"""A checkpoint: the model, and everything that the next step depends on."""

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from atento._errors import InputError
from atento.lm.checkpoints import save_model
from atento.lm.training.shards import like, whole
from atento.lm.transformer import Transformer

__all__ = ["FORMAT", "kept_checkpoints", "moments_of", "read_checkpoint", "write_checkpoint"]

FORMAT = "atento.training/1"
OPTIMIZER = "optimizer.safetensors"
STATE = "training.json"


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
        OSError: the system refused, for want of room perhaps; the others stay as they were.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"step-{progress['step']:08d}"
    aside = Path(tempfile.mkdtemp(prefix=".aside-", dir=folder))
    try:
        save_model(model, aside)
        save_file(moments | {"random": torch.get_rng_state()}, aside / OPTIMIZER)
        state = {"format": FORMAT, **progress}
        (aside / STATE).write_text(json.dumps(state, indent=2) + "\n", "utf-8")
        _to_disk(aside)
        if target.exists():
            shutil.rmtree(target)
        aside.rename(target)
    except BaseException:  # an interrupt, too
        shutil.rmtree(aside, ignore_errors=True)
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
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(
            f"the checkpoint {folder} cannot be read: {error}.",
            name="lm_checkpoint",
            path=folder,
            why=error,
        ) from None
    if not isinstance(progress, dict) or progress.get("format") != FORMAT:
        raise InputError(f"{folder} is no checkpoint of this version ({FORMAT}).")
    try:
        random = stored.pop("random")
        _set_moments(model, optimizer, stored)
        torch.set_rng_state(random)
    except (KeyError, RuntimeError, TypeError) as error:
        raise InputError(f"the checkpoint {folder} does not fit this model: {error}.") from None
    return progress


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
