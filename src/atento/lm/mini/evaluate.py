"""What the card states, measured on a model directory through the NumPy forward pass."""

import random
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atento.embedded.load import read_model
from atento.embedded.model import Mini
from atento.equation import attention
from atento.lm.corpus.corpus import sentences
from atento.lm.corpus.holdout import Probe, load_probes
from atento.lm.corpus.words import LANGUAGES
from atento.lm.mini.objective import TextRows, draw_lines, token_counts
from atento.lm.mini.wordpiece import SPECIALS
from atento.masks import Causal

EVALUATION_SEED = 2026
ROWS = 40  # of `context` tokens each
SENTENCES = 500  # of each language, that the rows are drawn from
UNIGRAM_SENTENCES = 10_000  # of each language
PERIOD = 50  # the random sequence that is read twice


def held_out_rows(mini: Mini) -> NDArray[np.int64]:
    """Draw rows (ROWS, context) of sentences that no training ever draws."""
    lines = {
        language: list(islice(sentences(language, EVALUATION_SEED, evaluation=True), SENTENCES))
        for language in LANGUAGES
    }
    text = TextRows(mini.tokenizer, lines, 0.0, EVALUATION_SEED)
    return text.draw(ROWS, mini.context, random.Random(EVALUATION_SEED))  # noqa: S311


def head_weights(mini: Mini, ids: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return every head's weights on a sequence: (layer, head, query, key)."""
    one_hot = np.eye(len(ids), dtype=np.float32)  # weights @ identity = weights
    return np.stack(
        [
            attention(
                layer.query,
                layer.key,
                np.broadcast_to(one_hot, (mini.num_heads, *one_hot.shape)),
                mask=Causal(),
            )
            for layer in mini.run(ids.tolist()).layers
        ]
    )


def losses(mini: Mini, rows: NDArray[np.int64], counts: NDArray[np.int64]) -> tuple[float, float]:
    """Return nats per token of the model and of the unigram baseline, on the same targets."""
    total = 0.0
    for row in rows:
        logits = mini(row.tolist())[:-1].astype(np.float64)
        logits -= logits.max(axis=-1, keepdims=True)
        log_sum = np.log(np.exp(logits).sum(axis=-1))
        total += float((log_sum - logits[np.arange(len(row) - 1), row[1:]]).mean())
    smoothed = (counts + 1) / (counts.sum() + len(counts))
    return total / len(rows), float(-np.log(smoothed[rows[:, 1:]]).mean())


def previous_token_scores(mini: Mini, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return (layer, head): the mean weight on the token before, over text."""
    scores = [
        np.diagonal(head_weights(mini, row), offset=-1, axis1=-2, axis2=-1).mean(axis=-1)
        for row in rows
    ]
    mean: NDArray[np.float64] = np.mean(scores, axis=0, dtype=np.float64)
    return mean


def induction_scores(mini: Mini, sequences: int = 20) -> NDArray[np.float64]:
    """Return (layer, head): at a token's second coming, the mean weight on what followed its first.

    Each sequence is PERIOD different random tokens, read twice.
    """
    rng = np.random.default_rng(EVALUATION_SEED)
    size = len(mini.tokenizer.vocabulary)
    scores = []
    for _ in range(sequences):
        once = rng.choice(np.arange(len(SPECIALS), size), PERIOD, replace=False)
        weights = head_weights(mini, np.concatenate([once, once]))
        second = np.arange(PERIOD, 2 * PERIOD)
        scores.append(weights[:, :, second, second - PERIOD + 1].mean(axis=-1))
    mean: NDArray[np.float64] = np.mean(scores, axis=0, dtype=np.float64)
    return mean


def probe_passes(mini: Mini, probe: Probe) -> bool:
    """Tell whether the odd one out gets the least weight of the four."""
    query = mini.vectors([probe.query])
    key = mini.vectors(probe.words)
    weights = attention(query, key, np.eye(len(key), dtype=np.float32), scale=1.0)[0]
    return probe.words[int(weights.argmin())] == probe.odd


def evaluate(directory: Path, seed: int) -> dict[str, Any]:
    """Measure a model directory; training sentences of `seed` give the unigram baseline."""
    mini = read_model(directory)
    rows = held_out_rows(mini)
    text = TextRows(mini.tokenizer, draw_lines(UNIGRAM_SENTENCES, seed), 0.0, seed)
    counts = token_counts(text, len(mini.tokenizer.vocabulary))
    loss, unigram = losses(mini, rows, counts)
    previous, induction = previous_token_scores(mini, rows), induction_scores(mini)
    failed = [probe for probe in load_probes() if not probe_passes(mini, probe)]
    per_language = len(load_probes()) // len(LANGUAGES)
    return {
        "held_out_loss": round(loss, 4),
        "unigram_loss": round(unigram, 4),
        "previous_token": np.round(previous, 3).tolist(),
        "induction": np.round(induction, 3).tolist(),
        "probes": {
            language: per_language - sum(probe.language == language for probe in failed)
            for language in LANGUAGES
        },
        "probes_failed": [f"{p.query}: {', '.join(p.words)} (odd: {p.odd})" for p in failed],
    }
