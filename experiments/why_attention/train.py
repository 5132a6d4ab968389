"""Training and measuring: the same lists, the same number of steps and the same rule for all three.

Every random number comes from the seed: what is drawn depends on nothing else, so each model sees
the same lists in the same order, whichever models are trained beside it.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from experiments.why_attention.models import Recurrent, RecurrentWithAttention, Transformer
from experiments.why_attention.task import PER_DATE, Batch

__all__ = ["MODELS", "QUICK", "Measured", "Settings", "fit", "measure"]

MODELS: dict[str, type[Recurrent] | type[Transformer]] = {
    "recurrent": Recurrent,
    "recurrent_with_attention": RecurrentWithAttention,
    "transformer": Transformer,
}


@dataclass(frozen=True)
class Settings:
    """Everything that decides the figures (with the machine's arithmetic and its threads)."""

    seed: int = 1
    threads: int = 2
    longest: int = 6  # dates in a list of the training, at most
    tested: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12)
    lists: int = 200  # of each length that is tested
    batch: int = 64
    steps: int = 800
    learning_rate: float = 2e-3
    warm_up: float = 0.1  # of the steps
    weight_decay: float = 0.01
    clip: float = 1.0


QUICK = Settings(longest=2, tested=(1, 2, 3), lists=8, batch=8, steps=4)
"""Whether everything runs, not what comes out."""


@dataclass(frozen=True)
class Measured:
    """How a model writes lists of one length, each number after its own, not the right, ones.

    Attributes:
        dates: how many dates the lists have.
        words: how many words they have on average.
        date_accuracy: the share of dates whose four numbers are all right.
        number_accuracy: the share of right numbers.
        by_place: date_accuracy of the first, second, … date of the lists.
    """

    dates: int
    words: float
    date_accuracy: float
    number_accuracy: float
    by_place: tuple[float, ...]


def fit(
    model: nn.Module, settings: Settings, report: Callable[[int, float], None] | None = None
) -> float:
    """Train a model in place: AdamW, a straight climb of the rate, half a cosine down.

    Args:
        model: one of `MODELS`.
        settings: how.
        report: called after every step with its number, from 1 on, and its loss.

    Returns:
        the seconds it took.
    """
    draw = random.Random(f"{settings.seed} training")  # noqa: S311
    optimiser = torch.optim.AdamW(
        model.parameters(), betas=(0.9, 0.98), weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        settings.learning_rate,
        total_steps=settings.steps,
        pct_start=settings.warm_up,
        cycle_momentum=False,
    )
    model.train()
    began = time.perf_counter()
    for step in range(1, settings.steps + 1):
        batch = Batch.draw(settings.batch, draw.randint(1, settings.longest), draw)
        scores: Tensor = model(batch.source, batch.keep, batch.target)  # (B, T, numbers)
        loss = nn.functional.cross_entropy(scores.flatten(0, 1), batch.target.flatten())
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        optimiser.step()
        schedule.step()
        if report is not None:
            report(step, loss.item())
    model.eval()
    return time.perf_counter() - began


def measure(model: Recurrent | Transformer, settings: Settings) -> list[Measured]:
    """Let the model write lists of days that training never holds, of each length tested."""
    measured = []
    for dates in settings.tested:
        draw = random.Random(f"{settings.seed} test of {dates}")  # noqa: S311
        batch = Batch.draw(settings.lists, dates, draw, held_out=True)
        written = model.write(batch.source, batch.keep, PER_DATE * dates)
        right = (written == batch.target).unflatten(1, (dates, PER_DATE))  # (B, dates, 4)
        whole = right.all(-1).double()  # (B, dates)
        measured.append(
            Measured(
                dates=dates,
                words=batch.keep.sum(1).double().mean().item(),
                date_accuracy=whole.mean().item(),
                number_accuracy=right.double().mean().item(),
                by_place=tuple(whole.mean(0).tolist()),
            )
        )
    return measured
