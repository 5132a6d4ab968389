"""A stand-in for the embedded model, so that these tests need no trained weights."""

import re
from types import SimpleNamespace

import numpy as np
import pytest

D_MODEL, HEADS, LAYERS, CONTEXT = 6, 3, 2, 11


class FakeMini:
    """Two layers of three heads; in layer 1, head 2 looks from every token to token 1."""

    context = CONTEXT
    num_layers = LAYERS
    num_heads = HEADS

    def __init__(self):
        self.tokenizer = SimpleNamespace(encode=self.encode)

    def encode(self, text):
        tokens = tuple(re.findall(r"\w+|[^\w\s]", text))
        return SimpleNamespace(ids=tuple(range(len(tokens))), tokens=tokens)

    def run(self, ids):
        return SimpleNamespace(layers=tuple(self._layer(at, len(ids)) for at in range(LAYERS)))

    def _layer(self, at, count):
        rng = np.random.default_rng(at)
        size = D_MODEL // HEADS
        maps = {f"{role}_weight": rng.normal(size=(D_MODEL, D_MODEL)) for role in ROLES}
        maps |= {f"{role}_bias": rng.normal(size=D_MODEL) for role in ROLES}
        source = np.zeros((count, D_MODEL))
        source[1:2] = 1
        if at == 1:
            columns = slice(2 * size, 3 * size)
            maps["query_weight"][:, columns] = 0
            maps["query_bias"][columns] = 10
            maps["key_weight"][:, columns] = 1
        made = {
            role: (source @ maps[f"{role}_weight"] + maps[f"{role}_bias"])
            .reshape(count, HEADS, size)
            .swapaxes(0, 1)
            for role in ROLES
        }
        return SimpleNamespace(input=source, **maps, **made)


ROLES = ("query", "key", "value")


@pytest.fixture
def fake_mini(monkeypatch):
    mini = FakeMini()
    monkeypatch.setattr("atento.embedded.load_mini", lambda: mini)
    return mini
