"""Models that the server reads texts with: those that the start named, and no others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from atento.embedded.model import LayerRun, Mini
    from atento.reading.recording import Recording
    from atento.server.work import Stop

__all__ = ["MINI", "MiniReader", "Off", "Reader", "likeliest", "sampled"]

MINI = "mini"
SHOWN = 10
"""Predictions that are told."""

Off = tuple[tuple[int, int], ...]


class Reader(Protocol):
    """One model, as the server uses it."""

    name: str

    def read(self, text: str, off: Off, stop: Stop) -> tuple[Recording, tuple[dict[str, Any], ...]]:
        """The attention over a text, and what the model takes to come next.

        Args:
            text: what to read.
            off: (layer number, head) that are switched off.
            stop: asked on the way whether anybody still waits.
        """

    def generate(
        self, text: str, off: Off, options: dict[str, Any], stop: Stop
    ) -> Iterator[dict[str, Any]]:
        """One event for each new token: its text, id and probability, and the weights on the way.

        Those of the watched head, of the last query, which chose the token.

        Args:
            text: the prompt.
            off: as in `read`.
            options: tokens, temperature, top_k, seed, and watch: (layer number, head).
            stop: as in `read`.
        """


class MiniReader:
    """The model inside the package, in NumPy."""

    name = MINI

    def __init__(self) -> None:
        from atento.embedded import load_mini

        self.mini: Mini = load_mini()

    def read(self, text: str, off: Off, stop: Stop) -> tuple[Recording, tuple[dict[str, Any], ...]]:
        """As `Reader.read`."""
        from atento.embedded.recording import record_mini

        encoding = self.mini.encode(text)
        recording = record_mini(self.mini, encoding.ids, off=off)
        recording.name_tokens(list(encoding.tokens))
        stop.check()
        logits = self.mini.run(encoding.ids, off=off).logits[-1]
        return recording, tuple(likeliest(logits, self._text, SHOWN))

    def generate(
        self, text: str, off: Off, options: dict[str, Any], stop: Stop
    ) -> Iterator[dict[str, Any]]:
        """As `Reader.generate`; ends where the model's context is full."""
        ids = list(self.mini.encode(text).ids)
        layer, head = options["watch"]
        self.mini.checked_heads([(layer, head)])
        rng = np.random.default_rng(options["seed"])
        for _ in range(min(options["tokens"], self.mini.context - len(ids))):
            stop.check()
            run = self.mini.run(ids, off=off)
            token, chance = sampled(run.logits[-1], options, rng)
            looks = _looks(run.layers[layer], head)
            ids.append(token)
            yield {
                "id": token,
                "token": self._text(token),
                "probability": chance,
                "weights": looks,
            }

    def _text(self, token: int) -> str:
        return self.mini.tokenizer.text_of(token)


def _looks(layer: LayerRun, head: int) -> list[float]:
    """The weights of one head's last query."""
    scores = layer.key[head] @ layer.query[head, -1] / np.sqrt(layer.query.shape[-1])
    weights: list[float] = _softmax(scores.astype(np.float64)).tolist()
    return weights


def likeliest(logits: Any, text: Any, count: int) -> Iterator[dict[str, Any]]:
    """The tokens of the largest logits, with their probabilities."""
    chances = _softmax(np.asarray(logits, np.float64))
    for token in np.argsort(-chances, kind="stable")[:count]:
        yield {"id": int(token), "token": text(int(token)), "probability": float(chances[token])}


def sampled(logits: Any, options: dict[str, Any], rng: np.random.Generator) -> tuple[int, float]:
    """One token and its probability; temperature 0 takes the likeliest.

    Args:
        logits: (vocabulary,).
        options: temperature, and top_k (0: all).
        rng: where chance comes from.
    """
    scores = np.asarray(logits, np.float64)
    chances = _softmax(scores)
    if options["temperature"] == 0:
        token = int(scores.argmax())
        return token, float(chances[token])
    if options["top_k"]:
        least = np.sort(scores)[-min(options["top_k"], len(scores))]
        scores = np.where(scores >= least, scores, -np.inf)
    drawn = int(rng.choice(len(scores), p=_softmax(scores / options["temperature"])))
    return drawn, float(chances[drawn])


def _softmax(scores: Any) -> Any:
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()
