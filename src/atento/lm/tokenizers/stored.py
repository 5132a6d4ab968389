"""A tokenizer out of a folder or a tokenizer.json."""

import json
from pathlib import Path

from atento._errors import InputError
from atento.lm.tokenizers.byte_pairs import BPETokenizer
from atento.lm.tokenizers.characters import CharTokenizer

__all__ = ["NAME", "load_tokenizer"]

NAME = "tokenizer.json"


def load_tokenizer(path: str | Path) -> CharTokenizer | BPETokenizer:
    """The tokenizer that `save` wrote, or one that `tokenizers` reads.

    Args:
        path: a ``tokenizer.json``, or the folder that it is in.

    Raises:
        InputError: where there is none, or it cannot be read.

    >>> import pathlib, tempfile
    >>> from atento.lm import CharTokenizer
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     CharTokenizer("abc").save(pathlib.Path(folder) / "tokenizer.json")
    ...     load_tokenizer(folder).decode([0, 1])
    'ab'
    """
    path = Path(path)
    path = path / NAME if path.is_dir() else path
    try:
        text = path.read_bytes().decode("utf-8", "surrogatepass")
        stored = json.loads(text)
        kinds = (stored["model"]["type"], (stored.get("decoder") or {}).get("type"))
        if kinds == ("WordLevel", "Fuse"):
            return CharTokenizer.from_json(stored)
    except FileNotFoundError:
        raise InputError(
            f"there is no tokenizer at {path}: give a tokenizer.json, or the folder that it is in.",
            name="lm_tokenizer_missing",
            path=path,
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _unread(path, error) from None
    try:
        return BPETokenizer.from_json(text)
    except InputError as error:
        raise _unread(path, error) from None


def _unread(path: Path, why: Exception) -> InputError:
    said = str(why).rstrip(".")
    return InputError(
        f"{path} is no tokenizer.json: {said}.", name="lm_tokenizer_unread", path=path, why=said
    )
