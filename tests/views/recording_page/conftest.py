"""Recordings of any length with their dense weights, made with the formula in float64."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from atento.masks import Causal
from atento.reading.layer import LayerRecord
from atento.reading.recording import Recording


def _recording(
    tokens: Any = 40,
    *,
    heads: int = 2,
    causal: bool = True,
    seed: int = 5,
    sharp: float = 1.5,
    names: tuple[str, ...] = ("first",),
    queries: int | None = None,
) -> tuple[Recording, Any]:
    texts = [f"t{i}" for i in range(tokens)] if isinstance(tokens, int) else list(tokens)
    Tk = len(texts)
    Tq = Tk if queries is None else queries
    layers, dense = [], []
    for k, name in enumerate(names):
        rng = np.random.default_rng(seed + k)
        query = (rng.standard_normal((1, heads, Tq, 6)) * sharp).astype(np.float32)
        key = (rng.standard_normal((1, heads, Tk, 6)) * sharp).astype(np.float32)
        scores = np.einsum("bhqf,bhkf->bhqk", query, key, dtype=np.float64) / np.sqrt(6)
        if causal:
            scores = np.where(np.tri(Tq, Tk, dtype=bool), scores, -np.inf)
        lse = np.log(np.exp(scores).sum(-1))
        weights = np.exp(scores - lse[..., None])
        safe = np.where(weights > 0, weights, 1)
        statistics = {
            "entropy": -(weights * np.log(safe)).sum(-1),
            "received": weights.sum(-2),
        }
        layer = LayerRecord(
            layer=name,
            kind="self" if queries is None else "cross",
            side=None,
            way="sdpa",
            query=query,
            key=key,
            lse=lse.astype(np.float32),
            mask=Causal() if causal else None,
            scale=6**-0.5,
            statistics=statistics,
            axes={"entropy": ("head", "query"), "received": ("head", "key")},
        )
        layer.check()
        layers.append(layer)
        dense.append(weights[0])
    recording = Recording(layers)
    if queries is None:
        recording.name_tokens(texts)
    return recording, dense


@pytest.fixture(scope="session")
def make() -> Callable[..., tuple[Recording, Any]]:
    return _recording
