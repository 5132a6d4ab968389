"""A corpus and sizes so small that a training takes a moment."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atento.lm import train
from atento.lm.config import TransformerConfig

TEXT = "to be or not to be, that is the question. " * 60
SMALL = {
    "steps": 12,
    "batch": 4,
    "evaluate_every": 4,
    "warm_up": 2,
    "learning_rate": 3e-3,
    "seed": 5,
}
SHAPE = {"context": 16, "d_model": 8, "num_layers": 1, "num_heads": 2}


@pytest.fixture
def small(tmp_path: Path) -> Callable[..., Any]:
    """Train a small model in a folder of its own."""

    def start(name: str = "run", corpus: Any = TEXT, **options: Any) -> Any:
        shape = {**SHAPE, **options.pop("shape", {})}
        given = {"config": TransformerConfig(1, **shape), "progress": False, **SMALL, **options}
        texts = [corpus] if corpus is TEXT else corpus
        return train(texts, out=tmp_path / name, **given)

    return start
