"""A dictionary that attends as an index on disk, and back: nothing is embedded again."""

from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from atento._errors import InputError
from atento.retrieval.embedders import Embedder
from atento.retrieval.held_items import HeldItems
from atento.retrieval.index import Index
from atento.retrieval.key_forms import shown
from atento.retrieval.values import value_form

__all__ = ["Stored", "load_items", "save_items"]


class Stored(NamedTuple):
    """What a folder holds of a dictionary.

    Attributes:
        pairs: keys and values, in their order.
        items: the same keys with their vectors; None where the vectors are the keys.
        embedder: who made the vectors, or None.
        settings: the options of the dictionary: similarity, temperature, dtype.
    """

    pairs: list[tuple[Any, Any]]
    items: HeldItems | None
    embedder: Embedder | None
    settings: dict[str, Any]


def save_items(
    folder: str | PathLike[str],
    pairs: dict[Any, Any],
    held: HeldItems,
    *,
    embedder: Embedder | None,
    settings: dict[str, Any],
    replace: bool,
) -> None:
    """Write an index of the items, in the order of the pairs.

    Raises:
        InputError: something else is in the folder, or a value that no index can hold.
    """
    rows = np.array([held.row[key] for key in pairs])
    Index.build(
        Path(folder),
        list(pairs),
        list(pairs.values()),
        vectors=held.keys.rows(rows),
        embedder=embedder,
        dtype=held.dtype,
        settings={"soft_dict": settings},
        replace=replace,
    )


def load_items(folder: str | PathLike[str], embed: Any) -> Stored:
    """Read keys and values of an index; vectors of texts stay on disk until something changes.

    Raises:
        InputError: no index, a damaged one, or one whose embedder is another or unknown.
    """
    index = Index.open(Path(folder), embedder=embed)
    settings = dict(index.settings.get("soft_dict", {}))
    values = [None] * len(index) if index.values is None else list(index.values)
    if index.texts is None:
        keys = [tuple(row) for row in index.keys.rows(np.arange(len(index))).tolist()]
    else:
        keys = list(index.texts)
    pairs = list(zip(keys, values, strict=True))
    _check_different(keys, folder)
    if not keys or not isinstance(keys[0], str):
        return Stored(pairs, None, None, settings)
    dtype = settings.get("dtype", "float32")
    forms = [value_form(value).numbers for value in values]
    numbers = None if any(form is None for form in forms) else np.array(forms)
    items = HeldItems.of(index.keys, keys, numbers, dtype)
    return Stored(pairs, items, index.embedder, settings)


def _check_different(keys: list[Any], folder: str | PathLike[str]) -> None:
    seen: set[Any] = set()
    for key in keys:
        if key in seen:
            raise InputError(
                f"the index in {folder} holds the key {shown(key)} more than once, which a "
                "dictionary cannot: search it with `atento search`."
            )
        seen.add(key)
