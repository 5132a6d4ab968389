"""What the model learns from: rows of text, repeated random rows, and words with their category."""

import math
import random
import re
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from atento.embedded.model import MEANING_TEMPERATURE
from atento.embedded.tokenizer import PATTERN, WordPiece
from atento.lm.corpus.corpus import sentences
from atento.lm.corpus.holdout import held_out_concepts
from atento.lm.corpus.words import LANGUAGES, load_lexicon
from atento.lm.mini.transformer import Transformer
from atento.lm.mini.wordpiece import END, MEANING, SPECIALS, split_randomly

WORDS = re.compile(PATTERN)


def tokenize(
    lines: list[str], tokenizer: WordPiece, split_share: float, seed: int
) -> list[list[int]]:
    """Return the ids of each line; a share of the words is written in pieces."""
    rng = random.Random(seed)  # noqa: S311
    whole: dict[str, list[int]] = {}

    def ids(word: str) -> list[int]:
        if rng.random() < split_share and len(word) > 2:
            return split_randomly(tokenizer, word, rng)
        if word not in whole:
            whole[word] = [token for _, token in tokenizer.pieces(word)]
        return whole[word]

    return [[token for word in WORDS.findall(line) for token in ids(word)] for line in lines]


class TextRows:
    """Rows of ids: short texts of random sentences of one language, each closed by [END]."""

    def __init__(
        self, tokenizer: WordPiece, lines: dict[str, list[str]], split_share: float, seed: int
    ) -> None:
        self.end = tokenizer.vocabulary[END]
        self.sentences = {
            language: tokenize(lines[language], tokenizer, split_share, seed)
            for language in LANGUAGES
        }

    def draw(self, rows: int, length: int, rng: random.Random) -> NDArray[np.int64]:
        """Draw rows (rows, length); each begins at the beginning of a sentence."""
        return np.array([self._row(length, rng) for _ in range(rows)])

    def _row(self, length: int, rng: random.Random) -> list[int]:
        ids: list[int] = []
        language = rng.choice(LANGUAGES)
        while len(ids) < length:
            ids += rng.choice(self.sentences[language])
            if rng.random() < 0.15:
                ids.append(self.end)
                language = rng.choice(LANGUAGES)
        return ids[:length]


def repeated_rows(
    rows: int, length: int, vocabulary_size: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Draw rows of uniformly random tokens, repeated with a random period.

    Returns:
        ids (rows, length), and a mask (rows, length), True where the token repeats one before it:
        only there can anything be learnt.
    """
    ids = np.empty((rows, length), np.int64)
    repeats = np.zeros((rows, length), np.bool_)
    for row in range(rows):
        # Every scale of period alike: short ones repeat often and teach first.
        period = int(math.exp(rng.uniform(math.log(4), math.log(length // 2 + 1))))
        once = rng.integers(len(SPECIALS), vocabulary_size, period)
        ids[row] = np.resize(once, length)
        repeats[row, period:] = True
    return ids, repeats


class Meanings:
    """Words with the name of their category, the held-out ones left out."""

    def __init__(self, tokenizer: WordPiece) -> None:
        self.meaning = tokenizer.vocabulary[MEANING]
        categories = list(load_lexicon().categories.values())
        held_out = held_out_concepts()
        self.pairs: list[tuple[str, int]] = []  # a word, and the number of its category
        self.names: dict[str, list[list[str]]] = {
            language: [[c.labels[language].singular, c.labels[language].plural] for c in categories]
            for language in LANGUAGES
        }
        for language in LANGUAGES:
            for names, category in zip(self.names[language], categories, strict=True):
                names += [a for a in [category.aliases[language]] if a]
        seen: dict[str, set[int]] = {}
        for number, category in enumerate(categories):
            for concept in category.concepts:
                if concept in held_out:
                    continue
                for word in concept.en + concept.es:
                    for form in {word.singular, word.singular if category.mass else word.plural}:
                        seen.setdefault(form, set()).add(number)
        # A word of two categories ("orange") would pull both ways.
        self.pairs = sorted((form, min(of)) for form, of in seen.items() if len(of) == 1)
        self._ids = {
            text: [token for word in WORDS.findall(text) for _, token in tokenizer.pieces(word)]
            for text in [form for form, _ in self.pairs]
            + [n for names in self.names.values() for group in names for n in group]
        }

    @staticmethod
    def all_words() -> set[str]:
        """Return every form of every word of the lists, so that each has a token of its own."""
        forms: set[str] = set()
        for category in load_lexicon().categories.values():
            forms |= category.label_forms()
            for concept in category.concepts:
                forms |= {
                    form
                    for word in concept.en + concept.es
                    for form in ([word.singular] if category.mass else [word.singular, word.plural])
                }
        return {word for form in forms for word in WORDS.findall(form)}

    def draw(self, number: int, rng: random.Random) -> tuple[list[str], list[int], list[str]]:
        """Draw words, the numbers of their categories, and one name for every category."""
        drawn = rng.sample(self.pairs, number)
        language = rng.choice(LANGUAGES)
        names = [rng.choice(group) for group in self.names[language]]
        return [word for word, _ in drawn], [category for _, category in drawn], names

    def rows(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Return ids (text, T) with [MEANING] before each text, and a mask of the text's tokens."""
        ids = [self._ids[text] for text in texts]
        longest = max(map(len, ids))
        padded = [[self.meaning, *row] + [self.meaning] * (longest - len(row)) for row in ids]
        batch = torch.tensor(padded)
        return batch, batch != self.meaning


def meaning_vectors(
    model: Transformer, ids: Tensor, of_text: Tensor, meaning: int, noise: float
) -> Tensor:
    """Return unit vectors (text, d_model): the mean state of the tokens behind [MEANING].

    The token vectors are read, not moved: they are learnt from use in sentences alone, so that a
    word that was never paired with its category stands where words used like it stand.
    """
    embedded = model.token_embedding(ids)
    still = embedded.detach()
    if noise:
        still = still + noise * still.std() * torch.randn_like(still)
    embedded = torch.where((ids == meaning)[..., None], embedded, still)
    states = model.states_of(embedded) * of_text[..., None]
    return functional.normalize(states.sum(dim=1), dim=-1)


def meaning_loss(
    model: Transformer, meanings: Meanings, number: int, noise: float, rng: random.Random
) -> Tensor:
    """Cross-entropy of a word's category among all categories, by cosine over a temperature."""
    words, categories, names = meanings.draw(number, rng)
    ids, of_text = meanings.rows(words + names)
    vectors = meaning_vectors(model, ids, of_text, meanings.meaning, noise)
    scores = vectors[: len(words)] @ vectors[len(words) :].T / MEANING_TEMPERATURE
    return functional.cross_entropy(scores, torch.tensor(categories))


def language_loss(
    model: Transformer,
    ids: NDArray[np.int64],
    counted: NDArray[np.bool_],
    others: int | None = None,
) -> Tensor:
    """Mean next-token cross-entropy over the counted targets.

    Args:
        model: the Transformer.
        ids: (B, T + 1).
        counted: (B, T + 1), True where the token is a target.
        others: how many tokens, beside those of the rows, stand for all the rest of the
            vocabulary in the softmax; None takes the whole vocabulary, and 0 asks only which token
            of the rows comes next. The products with the vocabulary are two thirds of a step, and
            most of its tokens are far from any row.
    """
    batch = torch.from_numpy(ids)
    states = model.states(batch[:, :-1]).flatten(0, 1)
    at = torch.from_numpy(np.flatnonzero(counted[:, 1:]))
    states, targets = states.index_select(0, at), batch[:, 1:].flatten()[at]
    if others is None:
        return functional.cross_entropy(model.logits_of(states), targets)
    size = model.config.vocabulary_size
    here, targets = torch.unique(targets, return_inverse=True)  # targets become rows of `here`
    rest = torch.ones(size, dtype=torch.bool)
    rest[here] = False
    absent = rest.nonzero().flatten()
    sample = absent[torch.randperm(len(absent))[:others]]
    weight = model.token_embedding.weight.index_select(0, torch.cat([here, sample]))
    # Each sampled token stands for len(absent) / others of its like in the sum of exponentials.
    shift = torch.zeros(len(weight))
    shift[len(here) :] = math.log(len(absent) / max(1, len(sample)))
    return functional.cross_entropy(functional.linear(states, weight, shift), targets)


def token_counts(text: TextRows, vocabulary_size: int) -> NDArray[np.int64]:
    """Count each token of some sentences."""
    ids = [t for lines in text.sentences.values() for line in lines for t in line]
    return np.bincount(np.array(ids), minlength=vocabulary_size)


def draw_lines(number: int, seed: int) -> dict[str, list[str]]:
    """Draw that many training sentences of each language."""
    return {language: list(islice(sentences(language, seed), number)) for language in LANGUAGES}
