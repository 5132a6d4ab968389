"""Heads watched while they form: what each does on fixed prompts, at some steps of a training."""

from atento.lm.watching.load import load_watch
from atento.lm.watching.watched import Watched

__all__ = ["Watched", "load_watch"]
