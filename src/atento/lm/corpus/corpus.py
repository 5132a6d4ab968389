"""The corpus: sentences without end, split into what is trained and what is not."""

import random
import zlib
from collections.abc import Iterator

from atento.lm.corpus.grammar import Grammar
from atento.lm.corpus.holdout import states_held_out_membership
from atento.lm.corpus.words import load_lexicon

EVALUATION_SHARE = 20  # one sentence in twenty, by its checksum, is never trained on


def is_for_evaluation(sentence: str) -> bool:
    """Tell whether a sentence belongs to the held-out part, whatever the seed that drew it."""
    return zlib.crc32(sentence.encode()) % EVALUATION_SHARE == 0


def sentences(language: str, seed: int, *, evaluation: bool = False) -> Iterator[str]:
    """Yield sentences of a language without end; held-out memberships never appear."""
    grammar = Grammar(load_lexicon(), language, random.Random(f"{language} {seed}"))  # noqa: S311
    while True:
        sentence = grammar.sentence()
        if is_for_evaluation(sentence) == evaluation and not states_held_out_membership(sentence):
            yield sentence
