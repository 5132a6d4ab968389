"""Language models: tokenizers, a Transformer, its checkpoints, new text.

`atento.lm.mini` is how the embedded model was made.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atento.lm.checkpoints import load_model, save_model
    from atento.lm.config import PRESETS, TransformerConfig
    from atento.lm.generating import Sampling, generate
    from atento.lm.tokenizers import BPETokenizer, CharTokenizer, load_tokenizer
    from atento.lm.training import Run, TrainingSettings, train
    from atento.lm.transformer import Transformer
    from atento.lm.watching import Watched, load_watch

__all__ = [
    "PRESETS",
    "BPETokenizer",
    "CharTokenizer",
    "Run",
    "Sampling",
    "TrainingSettings",
    "Transformer",
    "TransformerConfig",
    "Watched",
    "generate",
    "load_model",
    "load_tokenizer",
    "load_watch",
    "save_model",
    "train",
]

_HOME = {
    "PRESETS": "config",
    "TransformerConfig": "config",
    "Transformer": "transformer",
    "BPETokenizer": "tokenizers",
    "CharTokenizer": "tokenizers",
    "load_tokenizer": "tokenizers",
    "Sampling": "generating",
    "generate": "generating",
    "load_model": "checkpoints",
    "save_model": "checkpoints",
    "Run": "training",
    "TrainingSettings": "training",
    "train": "training",
    "Watched": "watching",
    "load_watch": "watching",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'atento.lm' has no attribute {name!r}")
    return getattr(import_module(f"atento.lm.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
