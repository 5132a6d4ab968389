"""Runs of random tokens, each written four times: all that can be learnt is to copy.

A model of attention alone learns it with two heads in two layers (Elhage et al. 2021, "A
Mathematical Framework for Transformer Circuits"): one looks at the token before, the other, the
induction head, at what followed the last time. They form together, and suddenly (Olsson et al.
2022, "In-context Learning and Induction Heads", arXiv 2209.11895, from which the four repeats are).
"""

import string
from typing import Any

import numpy as np

__all__ = ["ALPHABET", "RECIPE", "repeated_corpus", "repeated_prompts"]

ALPHABET = string.ascii_letters + string.digits + "+/"

REPEATS = 4

SHORTEST, LONGEST = 6, 14
"""Characters of a run. Runs are of all these lengths, so that a head that always looks back equally
far does not serve."""

RUN = 12
"""Characters of a prompt's run."""


CHARACTERS = 1_000_000
"""Of the corpus: more random bits than the model could learn by heart."""

PROMPTS = 2

RECIPE: dict[str, Any] = {
    "steps": 600,
    "batch": 32,
    "learning_rate": 3e-3,
    "weight_decay": 0.0,
    "evaluate_every": 100,
}
"""Settings of a training on it, where others are not said."""


def repeated_corpus(seed: int, characters: int = CHARACTERS) -> str:
    """Runs of random characters, each written four times, until there are so many.

    >>> text = repeated_corpus(0, 1000)
    >>> len(text) >= 1000, set(text) <= set(ALPHABET)
    (True, True)
    """
    random = np.random.default_rng([seed, 0])
    parts: list[str] = []
    length = 0
    while length < characters:
        run = _run(random, int(random.integers(SHORTEST, LONGEST + 1)))
        parts.append(REPEATS * run)
        length += len(parts[-1])
    return "".join(parts)


def repeated_prompts(seed: int, count: int = PROMPTS) -> list[str]:
    """Prompts of one random run, written four times; none of them is cut out of the corpus.

    >>> [len(prompt) for prompt in repeated_prompts(0)]
    [48, 48]
    """
    random = np.random.default_rng([seed, 1])
    return [REPEATS * _run(random, RUN) for _ in range(count)]


def _run(random: np.random.Generator, length: int) -> str:
    return "".join(ALPHABET[at] for at in random.integers(0, len(ALPHABET), length))
