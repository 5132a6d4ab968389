"""Find the embedded model and read it once."""

import json
from functools import cache
from pathlib import Path

from atento.embedded.model import Mini
from atento.embedded.tokenizer import WordPiece
from atento.embedded.weights import read_safetensors

MINI = Path(__file__).parent / "mini"


@cache
def load_mini() -> Mini:
    """Return the embedded model; it is read on the first call and kept.

    >>> mini = load_mini()
    >>> mini.encode("Hola, México!").tokens
    ('Hola', ',', 'México', '!')
    """
    return read_model(MINI)


def read_model(directory: Path) -> Mini:
    """Read a model directory that `python -m atento.lm.mini` wrote."""
    config = json.loads((directory / "config.json").read_text("utf-8"))
    return Mini(
        read_safetensors(directory / "model.safetensors"),
        WordPiece.from_file(directory / "tokenizer.json"),
        num_heads=config["n_head"],
        epsilon=config["layer_norm_epsilon"],
    )
