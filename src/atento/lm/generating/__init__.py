"""New text, token by token."""

from atento.lm.generating.generate import generate
from atento.lm.generating.sampling import Sampling

__all__ = ["Sampling", "generate"]
