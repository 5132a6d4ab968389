"""A Transformer as a Hugging Face directory, and back."""

from atento.lm.checkpoints.directory import load_model, save_model

__all__ = ["load_model", "save_model"]
