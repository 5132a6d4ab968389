"""What figures are drawn of."""

import numpy as np
import pytest

import atento
from atento.masks import Causal
from atento.reading.recording import Recording
from reading_records import TK, TQ, record

WORDS = ["Your", "journey", "starts", "with", "one", "step"]


@pytest.fixture(scope="session")
def mini():
    """The embedded model's reading of a sentence: 3 layers of 4 heads."""
    return atento.explain(" ".join(WORDS))


@pytest.fixture(scope="session")
def traced():
    """Three heads, five queries, seven keys."""
    query, key, value = (np.random.default_rng(3).normal(size=(3, T, 4)) for T in (5, 7, 7))
    return atento.trace(query, key, value, mask=Causal(align="end"))


@pytest.fixture(scope="session")
def surveyed():
    """Two heads, 11 tokens."""
    query, key, value = np.random.default_rng(4).normal(size=(3, 2, 11, 4))
    return atento.survey(query, key, value, mask=Causal())


@pytest.fixture
def recording():
    """Two layers of six heads, 11 queries and 13 keys, two batch items."""
    layers = [
        record("causal, end", layer=f"blocks.{i}.attn", first_query=TK - TQ)[0] for i in (0, 1)
    ]
    return Recording(layers, np.arange(2 * TK).reshape(2, TK))
