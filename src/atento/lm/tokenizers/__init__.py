"""Text to numbers and back: characters, and byte pairs."""

from atento.lm.tokenizers.byte_pairs import BPETokenizer
from atento.lm.tokenizers.characters import CharTokenizer
from atento.lm.tokenizers.stored import load_tokenizer

__all__ = ["BPETokenizer", "CharTokenizer", "load_tokenizer"]
