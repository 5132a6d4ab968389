"""Tiny models with a tokenizer, saved as transformers saves them."""

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

SPECIAL = {"bos_token": "<s>", "unk_token": "<unk>"}
WORDS = [*SPECIAL.values(), "the", "a", "cat", "dog", "sat", "ran", "on", "and", "then", "."]


def tokenizer():
    """A word is a token; one that is not known is <unk>."""
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, WORDS[1]))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=words, **SPECIAL)


def saved(model, folder, *, with_tokenizer=True):
    """The folder, with the model and its tokenizer in it."""
    transformers.utils.logging.disable_progress_bar()
    try:
        model.save_pretrained(folder)
    finally:
        transformers.utils.logging.enable_progress_bar()
    if with_tokenizer:
        tokenizer().save_pretrained(folder)
    return folder


def llama(**more):
    """Two layers of four heads, up to 90 tokens."""
    torch.manual_seed(3)
    settings = {
        "vocab_size": len(WORDS),
        "hidden_size": 24,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "num_hidden_layers": 2,
        "intermediate_size": 31,
        "max_position_embeddings": 90,
    }
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**settings | more)).eval()
