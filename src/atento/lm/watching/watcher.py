"""Watcher: looks at all heads of a model between two steps of its training."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from atento.lm.watching.look import STATISTICS, Look, forget_after, is_there, write_look
from atento.lm.watching.plan import Plan, Prompt, read_plan
from atento.reading.capturing import capture
from atento.statistics.overview import Overview

if TYPE_CHECKING:
    from atento.lm.transformer import Transformer
    from atento.reading.recording import Recording

__all__ = ["PICTURED", "SIDE", "Watcher", "look_at", "watcher_of"]

Array = npt.NDArray[Any]

SIDE = 48
"""Cells a side of a map at most; up to so many tokens, each weight has its own."""

PICTURED = 2
"""Prompts whose maps are kept."""

OF_REPEATED = ("induction", "duplicate")
"""Means over the queries whose token stood earlier: no other query could have any such weight."""

FOLDED = (*OF_REPEATED, "previous", "self", "first", "entropy")


class Watcher:
    """What looks at one run's model.

    Args:
        folder: of the run.
        model: as it is trained; a look leaves it as it was.
        plan: what to look at, and when.
        step: how many are done: what was seen later is forgotten.
    """

    def __init__(self, folder: Path, model: "Transformer", plan: Plan, step: int) -> None:
        self.folder, self.model, self.plan = folder, model, plan
        self.steps = frozenset(plan.steps)
        forget_after(folder, step)

    def look(self, step: int, *, last: bool = False) -> None:
        """Look now, where it is time and this step has not been looked at.

        Args:
            step: how many are done.
            last: whether the training ends here, planned or not.
        """
        if (last or step in self.steps) and not is_there(self.folder, step):
            write_look(self.folder, look_at(self.model, self.plan.prompts, step))


def watcher_of(folder: Path, model: "Transformer", step: int) -> Watcher | None:
    """What looks at a run that is to be watched; None for others."""
    plan = read_plan(folder)
    return None if plan is None else Watcher(folder, model, plan, step)


@torch.no_grad()
def look_at(model: "Transformer", prompts: tuple[Prompt, ...], step: int) -> Look:
    """What all heads do on the prompts. The model and the random numbers stay as they were."""
    trained = model.training
    model.eval()
    try:
        seen = [_seen(model, prompt) for prompt in prompts]
    finally:
        model.train(trained)
    recording = seen[0][0]
    return Look(
        step=step,
        layers=tuple(recording.names),
        heads=recording[0].head_numbers,
        numbers=_mean(
            [_numbers(own, prompt) for (own, _), prompt in zip(seen, prompts, strict=True)]
        ),
        losses=np.array([loss for _, loss in seen]),
        maps=tuple(_map(own) for own, _ in seen[:PICTURED]),
    )


def _seen(model: "Transformer", prompt: Prompt) -> tuple["Recording", float]:
    """What was recorded of a prompt, and its loss."""
    ids = torch.tensor([prompt.ids], device=next(model.parameters()).device)
    wanted = [*FOLDED, Overview(SIDE)]
    with capture(model, keep="statistics", statistics=wanted) as recording:
        logits = model(ids)
    loss = functional.cross_entropy(logits[0, :-1].double(), ids[0, 1:])
    return recording, float(loss)


def _numbers(recording: "Recording", prompt: Prompt) -> Array:
    """(statistic, layer, head) of one prompt; NaN where there is no such query."""
    rows = list(recording.summary())
    ids = np.array(prompt.ids)
    repeated = np.array([token in ids[:at] for at, token in enumerate(ids)])
    found = np.full((len(STATISTICS), len(rows)), np.nan)
    for at, name in enumerate(STATISTICS):
        if name in OF_REPEATED:
            if repeated.any():
                of_layers = [layer.statistics[name][0][:, repeated].mean(-1) for layer in recording]
                found[at] = np.concatenate(of_layers)
        else:
            found[at] = [np.nan if row[name] is None else row[name] for row in rows]
    return found.reshape(len(STATISTICS), len(recording), -1)


def _mean(numbers: list[Array]) -> Array:
    """Over the prompts that have a number; NaN where none has."""
    stacked = np.stack(numbers)
    there = ~np.isnan(stacked)
    count = there.sum(0)
    total = np.where(there, stacked, 0.0).sum(0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _map(recording: "Recording") -> Array:
    """(pool, layer, head, row, column); one pool where a cell is one weight."""
    pools = ("mean", "max") if recording[0].queries > SIDE else ("mean",)
    return np.stack(
        [
            np.stack([layer.statistics[f"overview_{pool}"][0] for layer in recording])
            for pool in pools
        ]
    )
