"""The model inside the package: `mini`, a small bilingual language model, in NumPy alone."""

from atento.embedded.load import load_mini, read_model
from atento.embedded.model import LayerRun, Mini, Run
from atento.embedded.tokenizer import Encoding, WordPiece

__all__ = ["Encoding", "LayerRun", "Mini", "Run", "WordPiece", "load_mini", "read_model"]
