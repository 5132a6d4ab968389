"""AdamW in two groups, and the learning rate of each step."""

import math
from typing import Any

import torch
from torch import nn

from atento.lm.training.settings import TrainingSettings

__all__ = ["adamw", "learning_rate"]


def learning_rate(step: int, settings: TrainingSettings) -> float:
    """The rate of a step (from 0 on): a straight climb, then half a cosine down."""
    if step < settings.warm_up:
        return settings.learning_rate * (step + 1) / settings.warm_up
    done = (step - settings.warm_up) / max(1, settings.steps - settings.warm_up)
    drop = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return settings.lowest_rate + (settings.learning_rate - settings.lowest_rate) * drop


def adamw(model: nn.Module, settings: TrainingSettings) -> torch.optim.AdamW:
    """AdamW in which only matrices decay: norms and biases are left alone."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=settings.betas, fused=True)
