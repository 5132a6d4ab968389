"""A training so small that it takes a moment, watched on two prompts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atento.lm import train
from atento.lm.config import TransformerConfig

TEXT = "to be or not to be, that is the question. " * 60
SMALL = {"steps": 12, "batch": 4, "evaluate_every": 4, "warm_up": 2, "seed": 5}
SHAPE = {"context": 23, "d_model": 12, "num_layers": 2, "num_heads": 3}
PROMPTS = ("to be or not to be", "that is")


@pytest.fixture
def small(tmp_path: Path) -> Callable[..., Any]:
    """Train a small model in a folder of its own."""

    def start(name: str = "run", **options: Any) -> Any:
        shape = {**SHAPE, **options.pop("shape", {})}
        given = {"config": TransformerConfig(1, **shape), "progress": False, **SMALL, **options}
        return train([TEXT], out=tmp_path / name, **given)

    return start
