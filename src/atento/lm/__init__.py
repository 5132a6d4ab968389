"""Language models: tokenizers, a Transformer, its checkpoints; `mini` is how ours was made."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atento.lm.checkpoints import load_model, save_model
    from atento.lm.config import PRESETS, TransformerConfig
    from atento.lm.tokenizers import BPETokenizer, CharTokenizer, load_tokenizer
    from atento.lm.transformer import Transformer

__all__ = [
    "PRESETS",
    "BPETokenizer",
    "CharTokenizer",
    "Transformer",
    "TransformerConfig",
    "load_model",
    "load_tokenizer",
    "save_model",
]

_HOME = {
    "PRESETS": "config",
    "TransformerConfig": "config",
    "Transformer": "transformer",
    "BPETokenizer": "tokenizers",
    "CharTokenizer": "tokenizers",
    "load_tokenizer": "tokenizers",
    "load_model": "checkpoints",
    "save_model": "checkpoints",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'atento.lm' has no attribute {name!r}")
    return getattr(import_module(f"atento.lm.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
