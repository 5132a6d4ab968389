"""A WordPiece vocabulary from a corpus, written as a `tokenizer.json` of Hugging Face."""

import json
import random
from collections import Counter
from collections.abc import Iterable
from typing import Any

from atento.embedded.tokenizer import (
    CONTINUATION,
    DOTTED_I,
    LONGEST_WORD,
    PATTERN,
    UNKNOWN,
    WordPiece,
)

END = "[END]"  # stands between texts
MEANING = "[MEANING]"  # before a word whose vector is asked for
SPECIALS = (UNKNOWN, END, MEANING)
ALPHABET = "abcdefghijklmnopqrstuvwxyz" + "".join(
    chr(code) for code in range(0xDF, 0x100) if code != 0xF7
)
SYMBOLS = "0123456789.,;:¿?¡!'\"()[]{}<>-–—_/\\|@#$%&*+=~^`´¨«»“”‘’…·°ºª€£¥§©®™•→×÷"
START_PIECES = 300
CONTINUATION_PIECES = 600


def build_vocabulary(words: Iterable[str]) -> dict[str, int]:
    """Number the specials, every letter and symbol, common pieces, and all the words.

    Args:
        words: the words of the corpus, in lower case; repeats are ignored.

    Returns:
        piece to id; any Latin word can be written with it.
    """
    whole = sorted(set(words))
    starts: Counter[str] = Counter()
    continuations: Counter[str] = Counter()
    for word in whole:
        for length in (2, 3, 4):
            starts[word[:length]] += length - 1
            for at in range(1, len(word) - length + 1):
                continuations[word[at : at + length]] += length - 1
    pieces = [*SPECIALS, *SYMBOLS, *ALPHABET]
    pieces += [CONTINUATION + letter for letter in ALPHABET]
    pieces += [piece for piece, _ in _most(starts, START_PIECES)]
    pieces += [CONTINUATION + piece for piece, _ in _most(continuations, CONTINUATION_PIECES)]
    pieces += whole
    return {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}


def _most(counts: Counter[str], number: int) -> list[tuple[str, int]]:
    """Return the most counted; ties fall by the alphabet, so that the order never varies."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:number]


def split_randomly(tokenizer: WordPiece, word: str, rng: random.Random) -> list[int]:
    """Return the ids of a word written in pieces, although the vocabulary has it whole."""
    cuts = [at for at in range(1, len(word)) if word[:at] in tokenizer.vocabulary]
    if not cuts:
        return [token for _, token in tokenizer.pieces(word)]
    cut = rng.choice(cuts[-3:])
    ids = [tokenizer.vocabulary[word[:cut]]]
    while cut < len(word):
        for end in range(len(word), cut, -1):
            token = tokenizer.vocabulary.get(CONTINUATION + word[cut:end])
            if token is not None:
                ids.append(token)
                cut = end
                break
    return ids


def tokenizer_json(vocabulary: dict[str, int]) -> str:
    """Return the text of the `tokenizer.json` that `tokenizers` and `WordPiece` both read."""
    record: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Replace", "pattern": {"String": DOTTED_I}, "content": "i"},
                {"type": "Lowercase"},
            ],
        },
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"Regex": PATTERN},
            "behavior": "Removed",
            "invert": True,
        },
        "post_processor": None,
        "decoder": {"type": "WordPiece", "prefix": CONTINUATION, "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": UNKNOWN,
            "continuing_subword_prefix": CONTINUATION,
            "max_input_chars_per_word": LONGEST_WORD,
            "vocab": vocabulary,
        },
    }
    return json.dumps(record, ensure_ascii=False, indent=0) + "\n"
