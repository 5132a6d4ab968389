"""Keys with their values as they are given: pairs, and whether two values are the same."""

from typing import Any

import numpy as np

from atento._errors import InputError

__all__ = ["checked_pair", "same_value"]


def checked_pair(pair: Any) -> tuple[Any, Any]:
    """A key and its value.

    Raises:
        InputError: it is no pair.
    """
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise InputError(
            f"a dictionary is made of (key, value) pairs; got {pair!r:.80}. For keys without "
            "values, pair each with its number: enumerate gives (number, key)."
        )
    return pair[0], pair[1]


def same_value(value: Any, other: Any) -> bool:
    """Whether two values are equal, also where they are arrays."""
    if value is other:
        return True
    if isinstance(value, np.ndarray) or isinstance(other, np.ndarray):
        return np.array_equal(value, other)
    return bool(value == other)
