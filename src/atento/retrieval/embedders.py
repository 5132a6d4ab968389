"""Who turns a text into a vector: the embedded model, an encoder of transformers, your function."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from atento._errors import InputError
from atento.embedded import Mini, load_mini
from atento.embedded.load import MINI
from atento.embedded.tokenizer import LONGEST_WORD
from atento.retrieval.embedding import Embedder, TextReader, as_rows, check_texts, unit_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from atento.retrieval.embedding import Cut, Vectors

__all__ = ["UNVERSIONED", "CalledEmbedder", "Embedder", "MiniEmbedder", "embedder", "same"]

UNVERSIONED = "unversioned"
"""The version of a function that does not say one: nothing tells when its vectors change."""

HASHED = "sha256:"
"""How a version begins that is a hash of all that the vectors depend on."""


def embedder(given: Any = None) -> Embedder:
    """The embedder that is meant.

    Args:
        given: None or ``"mini"``: the model inside the package, English and Spanish, offline. Any
            other name or path: an encoder of transformers or sentence-transformers, from a folder
            or the Hugging Face hub. A function from a list of texts to an array (text, dim), such
            as the ``encode`` of a model: its vectors are scaled to length 1; where it has a
            ``name`` and a ``version``, they are taken. An Embedder: itself.

    Raises:
        InputError: none of these, or a model that cannot be used; says why.
        MissingLibraryError: for a model's name, when torch or transformers is not installed.

    >>> read = embedder()
    >>> read.name, read(["país", "méxico", "perro"]).shape
    ('mini', (3, 128))
    """
    if given is None or given == "mini":
        return MiniEmbedder()
    if isinstance(given, str | Path):
        from atento.retrieval.encoders import EncoderEmbedder

        return EncoderEmbedder(str(given))
    if not callable(given) or isinstance(given, type):
        raise InputError(
            "embed must be None (the embedded model), the name or path of a model, or a function "
            f"from a list of texts to an array; got {given!r:.80}."
        )
    if isinstance(given, Embedder) and isinstance(given.version, str):
        return given
    return CalledEmbedder(given)


def same(name: str, version: str, other: Embedder) -> bool:
    """Whether an embedder makes the vectors of one that had this name and version.

    Where the version is a hash of the model, the name may differ: a folder can be moved.
    """
    if version.startswith(HASHED):
        return version == other.version
    return (name, version) == (other.name, other.version)


class MiniEmbedder(TextReader):
    """The model inside the package; a text's vector is `Mini.vectors`, scaled to length 1.

    It reads 127 tokens of a text and knows words better than sentences.
    """

    name = "mini"

    def __init__(self, model: Mini | None = None) -> None:
        self.model = model or load_mini()
        self.dim = int(self.model.d_model)
        self.version = hash_of([MINI / "model.safetensors", MINI / "tokenizer.json"])

    def read_batch(self, texts: list[str]) -> tuple[Vectors, Cut]:
        """One row per text, and which were cut."""
        shorter = [self._beginning(text) for text in texts]
        cut = np.array([len(a) < len(b) for a, b in zip(shorter, texts, strict=True)], bool)
        return self.model.vectors(shorter), cut

    def _beginning(self, text: str) -> str:
        """The text as far as the model can read it behind its token for meaning."""
        most = self.model.context - 1
        seen = 16 * most
        while True:  # a text of 10 MB is not split into tokens for its first hundred
            spans = self.model.tokenizer.encode(text[:seen]).spans
            # where the piece ends amid a word, that word's own tokens may be others
            if seen >= len(text) or len(spans) > most + LONGEST_WORD:
                return text if len(spans) <= most else text[: spans[most - 1][1]]
            seen *= 8


class CalledEmbedder:
    """A function of the user, held to its word: one finite row per text, always equally long."""

    def __init__(self, function: Callable[[list[str]], Any]) -> None:
        self.function = function
        own = getattr(function, "name", None)
        self.name = own if isinstance(own, str) else _qualified(function)
        version = getattr(function, "version", None)
        self.version = UNVERSIONED if version is None else str(version)
        self._dim: int | None = None

    @property
    def dim(self) -> int:
        """How many numbers a vector has; before the first call, one word is embedded to see."""
        if self._dim is None:
            self(["atento"])
        return self._dim or 0

    def __call__(self, texts: Sequence[str], /) -> Vectors:
        """One row of length 1 per text, (text, dim), float32; a row of zeros stays so.

        Raises:
            ShapeError: not one row per text, or not as long as before.
            InputError: a number that is not finite.
        """
        checked = check_texts(texts)
        if not checked:
            return np.empty((0, self.dim), np.float32)
        rows = as_rows(self.function(checked), len(checked), self.name, self._dim)
        self._dim = rows.shape[1]
        return unit_rows(rows)


def hash_of(files: list[Path], *, kind: str = "") -> str:
    """A version: the SHA-256 of the files' names and contents."""
    digest = hashlib.sha256(f"{kind}\n".encode())
    for file in files:
        digest.update(f"{file.name} {file.stat().st_size}\n".encode())
        with file.open("rb") as content:
            while piece := content.read(2**20):
                digest.update(piece)
    return f"{HASHED}{digest.hexdigest()[:32]}"


def _qualified(function: Any) -> str:
    if not hasattr(function, "__qualname__"):  # an object with __call__
        function = type(function)
    return f"{function.__module__}.{function.__qualname__}"
