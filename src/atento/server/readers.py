"""Models that the server reads texts with: those that the start named, and no others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from atento._errors import InputError
from atento.server.mistakes import wrong

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from atento.embedded.model import LayerRun, Mini
    from atento.embedded.tokenizer import Encoding
    from atento.reading.recording import Recording
    from atento.server.work import Stop

__all__ = ["MINI", "MiniReader", "Off", "Reader", "predictions", "sampled"]

MINI = "mini"
SHOWN = 10
"""Predictions that are told."""

Off = tuple[tuple[int, int], ...]


class Reader(Protocol):
    """One model, as the server uses it."""

    name: str

    def read(self, text: str, off: Off, stop: Stop) -> tuple[Recording, Any]:
        """The attention over a text, and the logits of the token that comes next, (vocabulary,).

        None instead of logits where the model says nothing of a next token.

        Args:
            text: what to read.
            off: (layer number, head) that are switched off.
            stop: asked on the way whether anybody still waits.
        """

    def text_of(self, token: int) -> str:
        """What a token id stands for."""

    def generate(
        self, text: str, off: Off, options: dict[str, Any], stop: Stop
    ) -> Iterator[dict[str, Any]]:
        """One event for each new token: its text, id and probability, and the weights on the way.

        Those of the watched head, of the last query, which chose the token. The first event has
        the ``tokens`` of the prompt, the last one the whole ``text``.

        Args:
            text: the prompt.
            off: as in `read`.
            options: tokens, temperature, top_k, seed, and watch: (layer number, head).
            stop: as in `read`.
        """


class MiniReader:
    """The model inside the package, in NumPy."""

    def __init__(self) -> None:
        self.name = MINI
        from atento.embedded import load_mini

        self.mini: Mini = load_mini()

    def read(self, text: str, off: Off, stop: Stop) -> tuple[Recording, Any]:
        """As `Reader.read`."""
        from atento.embedded.recording import record_mini

        encoding = self._encoded(text)
        self._check_heads(off)
        run = self.mini.run(encoding.ids, off=off)
        stop.check()
        recording = record_mini(self.mini, encoding.ids, run=run)
        recording.name_tokens(list(encoding.tokens))
        return recording, run.logits[-1]

    def generate(
        self, text: str, off: Off, options: dict[str, Any], stop: Stop
    ) -> Iterator[dict[str, Any]]:
        """As `Reader.generate`; ends where the model's context is full."""
        encoding = self._encoded(text)
        ids = list(encoding.ids)
        layer, head = options["watch"]
        self._check_heads([*off, (layer, head)])
        rng = np.random.default_rng(options["seed"])
        first: dict[str, Any] = {"tokens": list(encoding.tokens)}
        for _ in range(min(options["tokens"], self.mini.context - len(ids))):
            stop.check()
            run = self.mini.run(ids, off=off)
            token, chance = sampled(run.logits[-1], options, rng)
            looks = _looks(run.layers[layer], head)
            ids.append(token)
            shown = self.text_of(token)
            text += shown
            yield first | {"id": token, "token": shown, "probability": chance, "weights": looks}
            first = {}
        yield first | {"text": text}

    def text_of(self, token: int) -> str:
        """As `Reader.text_of`."""
        return self.mini.tokenizer.text_of(token)

    def _check_heads(self, pairs: Iterable[tuple[int, int]]) -> None:
        layers, heads = self.mini.num_layers, self.mini.num_heads
        for layer, head in pairs:
            if layer >= layers or head >= heads:
                last = {"last_layer": layers - 1, "last_head": heads - 1}
                raise wrong("no_head_of_mini", layer=layer, head=head, **last)

    def _encoded(self, text: str) -> Encoding:
        encoding = self.mini.tokenizer.encode(text)
        if len(encoding) > self.mini.context:
            raise InputError(
                f"The model reads at most {self.mini.context} tokens and the text has "
                f"{len(encoding)}. Shorten it.",
                name="live_too_long",
                limit=self.mini.context,
                came=len(encoding),
            )
        if not encoding.ids:
            raise InputError(
                "The text has no visible character. Write at least one word.", name="live_no_token"
            )
        return encoding


def _looks(layer: LayerRun, head: int) -> list[float]:
    """The weights of one head's last query."""
    scores = layer.key[head] @ layer.query[head, -1] / np.sqrt(layer.query.shape[-1])
    weights: list[float] = _softmax(scores.astype(np.float64)).tolist()
    return weights


def predictions(
    logits: Any, before: Any, text_of: Callable[[int], str], count: int = SHOWN
) -> Iterator[dict[str, Any]]:
    """The likeliest next tokens, with their probabilities.

    Args:
        logits: (vocabulary,).
        before: those of the same text with all heads on, or None. With them come the tokens that
            were likeliest then, and each token has its probability ``before`` as well.
        text_of: what an id stands for.
        count: of how many tokens.
    """
    chances = _softmax(np.asarray(logits, np.float64))
    former = None if before is None else _softmax(np.asarray(before, np.float64))
    chosen = set(_largest(chances, count)) | set(_largest(former, count))
    for token in sorted(chosen, key=lambda token: (-chances[token], token)):
        told = {"id": token, "token": text_of(token), "probability": float(chances[token])}
        yield told if former is None else told | {"before": float(former[token])}


def _largest(chances: Any, count: int) -> list[int]:
    if chances is None:
        return []
    found: list[int] = np.argsort(-chances, kind="stable")[:count].tolist()
    return found


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
