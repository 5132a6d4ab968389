"""The training loop: AdamW, warm-up then cosine, clipped gradients, one seed."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn


@dataclass(frozen=True)
class TrainingSettings:
    """How long and how fast to train."""

    steps: int
    learning_rate: float = 2e-3
    final_learning_rate: float = 1e-4
    warm_up: int = 100
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = 1.0
    report_every: int = 100


def learning_rate(step: int, settings: TrainingSettings) -> float:
    """Return the rate at a step: a straight climb, then half a cosine down."""
    if step < settings.warm_up:
        return settings.learning_rate * (step + 1) / settings.warm_up
    done = (step - settings.warm_up) / max(1, settings.steps - settings.warm_up)
    drop = 0.5 * (1 + math.cos(math.pi * done))
    low = settings.final_learning_rate
    return low + (settings.learning_rate - low) * drop


def adamw(model: nn.Module, settings: TrainingSettings) -> torch.optim.AdamW:
    """Return AdamW in which only matrices decay: norms and biases are left alone."""
    parameters = list(model.parameters())
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.dim() > 1]},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups,
        lr=settings.learning_rate,
        betas=settings.betas,
        weight_decay=settings.weight_decay,
        fused=True,
    )


def train(
    model: nn.Module,
    losses: Callable[[int], dict[str, Tensor]],
    settings: TrainingSettings,
    *,
    report: Callable[[int, dict[str, float]], None] | None = None,
) -> float:
    """Train a model in place.

    Args:
        model: what is trained.
        losses: from a step's number to its losses by name; their sum is minimised.
        settings: steps, rates, clipping.
        report: called every `report_every` steps with the mean of each loss since the last call.

    Returns:
        the seconds it took.
    """
    optimiser = adamw(model, settings)
    model.train()
    began = time.perf_counter()
    sums: dict[str, float] = {}
    bar = Progress(
        TextColumn("step {task.completed}/{task.total}"),
        BarColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with bar:
        task = bar.add_task("", total=settings.steps)
        for step in range(settings.steps):
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(step, settings)
            parts = losses(step)
            torch.autograd.backward(torch.stack(list(parts.values())).sum())
            nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            for name, part in parts.items():
                sums[name] = sums.get(name, 0.0) + part.item()
            bar.advance(task)
            if (step + 1) % settings.report_every == 0:
                means = {name: total / settings.report_every for name, total in sums.items()}
                sums = {}
                said = "  ".join(f"{name} {mean:.2f}" for name, mean in means.items())
                bar.update(task, description=said)
                if not bar.console.is_terminal:  # a log keeps every line, a terminal the last
                    bar.console.print(f"step {step + 1}/{settings.steps}  {said}")
                if report is not None:
                    report(step + 1, means)
    model.eval()
    return time.perf_counter() - began
