"""Training: a text in, a model out, and a run that can be interrupted at any moment."""

from atento.lm.training.run import Run
from atento.lm.training.settings import TrainingSettings
from atento.lm.training.train import train

__all__ = ["Run", "TrainingSettings", "train"]
