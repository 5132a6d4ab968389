"""Recordings whose weights are known in float64, and the pictures of their page as numbers."""

import base64
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from atento.masks import Causal
from atento.reading.recording import Recording
from reading_records import made_of, record_of

WORDS = "Your journey starts with one step , and then the next one follows ."
SENTENCE = WORDS.split(" ")

# A copy, because reading a canvas back again and again makes Chromium complain.
PIXELS = """(selector) => {
  const canvas = document.querySelector(selector);
  const often = { willReadFrequently: true };
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", often);
  copy.drawImage(canvas, 0, 0);
  const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
  let text = ""; // as numbers in JSON, a picture would take seconds
  for (let p = 0; p < data.length; p += 8192)
    text += String.fromCharCode(...data.slice(p, p + 8192));
  return [canvas.height, canvas.width, btoa(text)];
}"""


# What was asked for is drawn in the next frame, however busy the machine is.
FRAMES = """new Promise((done) => {
  let left = 4;
  const next = () => (left-- ? requestAnimationFrame(next) : setTimeout(done, 30));
  next();
})"""

LARGE = 20_000  # the oracle's loops are slow


def made_by_numpy(query: Any, key: Any, visible: Any, rule: Any, **changes: Any) -> Any:
    """What `record_of` makes, by the formula for all pairs at once."""
    scores = query @ key.swapaxes(-1, -2) * query.shape[-1] ** -0.5
    exps = np.exp(scores) if visible is None else np.exp(scores) * visible
    total = exps.sum(-1)
    weights = exps / total[..., None]
    made = made_of(query, key, weights, np.log(total), rule, np.float64, **changes)
    return made, weights


def recorded(
    heads: int = 3,
    queries: int = 14,
    keys: int | None = None,
    *,
    layers: int = 1,
    features: int = 5,
    visible: Any = None,
    rule: Any = None,
    tokens: Any = None,
    spread: float = 1.5,
    seed: int = 11,
    query: Any = None,
    key: Any = None,
    **changes: Any,
) -> SimpleNamespace:
    """A recording, and its weights (layer, head, query, key) by the definition."""
    rng = np.random.default_rng(seed)
    keys = queries if keys is None else keys
    made = []
    for number in range(layers):
        q = rng.normal(size=(1, heads, queries, features)) * spread if query is None else query
        k = rng.normal(size=(1, heads, keys, features)) if key is None else key
        name = {"layer": f"layers.{number}.attn", **changes}
        if queries * keys > LARGE:
            made.append(made_by_numpy(q, k, visible, rule, **name))
        else:
            made.append(record_of(q, k, visible, rule, **name))
    recording = Recording([layer for layer, _ in made])
    if tokens is not None:
        recording = Recording([layer for layer, _ in made], token_ids=[range(len(tokens))])
        recording.name_tokens(list(tokens))
    return SimpleNamespace(recording=recording, weights=np.stack([w[0] for _, w in made]))


def causal(length: int = 14, **changes: Any) -> SimpleNamespace:
    """A sentence that looks back."""
    seen = np.tril(np.ones((length, length), bool))[None, None]
    words = [SENTENCE[i % len(SENTENCE)] for i in range(length)]
    return recorded(
        queries=length, visible=seen, rule=Causal("start"), **{"tokens": words, **changes}
    )


@pytest.fixture
def samples() -> SimpleNamespace:
    """What makes recordings."""
    return SimpleNamespace(recorded=recorded, causal=causal, SENTENCE=SENTENCE)


@pytest.fixture
def settle() -> Callable[[Any], None]:
    """Wait until a page has drawn what it was asked for."""
    return lambda page: page.evaluate(FRAMES)


@pytest.fixture
def pixels() -> Callable[[Any, str], Any]:
    """(row, column, channel) of a canvas as it stands on the page."""

    def read(page: Any, selector: str) -> Any:
        page.evaluate(FRAMES)
        height, width, data = page.evaluate(PIXELS, selector)
        flat = np.frombuffer(base64.b64decode(data), np.uint8)
        return flat.astype(float).reshape(height, width, 4)

    return read


@pytest.fixture
def read_table() -> Callable[[Any, str], list[list[str]]]:
    """The rows of a table as texts."""

    def read(page: Any, selector: str) -> list[list[str]]:
        rows: list[list[str]] = page.evaluate(
            """(selector) => [...document.querySelectorAll(`${selector} tbody tr`)].map(
              (row) => [...row.children].map((cell) => cell.textContent))""",
            selector,
        )
        return rows

    return read
