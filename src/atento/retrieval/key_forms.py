"""What may be a key or a query: text, a vector of numbers, or a number."""

import math
from collections.abc import Hashable, Sequence
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from atento._errors import InputError

__all__ = ["TEXT", "Kind", "key_form", "query_forms", "shown", "vectors_of"]

LONGEST = 60


class Kind(NamedTuple):
    """The kind of a key.

    Attributes:
        name: "text", "vector" or "number".
        dim: the numbers of a vector, 1 for a number; 0 for text, whose vectors an embedder makes.
    """

    name: str
    dim: int

    def __str__(self) -> str:
        return {"text": "text", "number": "a number"}.get(self.name, f"a vector of {self.dim}")

    @property
    def plural(self) -> str:
        """Of several keys."""
        return {"text": "texts", "number": "numbers"}.get(self.name, f"vectors of {self.dim}")


TEXT = Kind("text", 0)


def key_form(key: Any) -> tuple[Kind, Hashable]:
    """The kind of a key, and the form in which it is held: text, a tuple of numbers, a number.

    Raises:
        InputError: it is none of these, or holds nothing visible, NaN or ∞.

    >>> key_form(np.array([0.5, 1.0]))
    (Kind(name='vector', dim=2), (0.5, 1.0))
    """
    return _form(key, "key")


def query_forms(query: Any, kind: Kind) -> tuple[list[Hashable], bool]:
    """The queries in the form of keys of this kind, and whether one was given alone.

    Args:
        query: one query, or a list or array of them.
        kind: of the dictionary's keys.

    Raises:
        InputError: a query is of another kind or size.
    """
    if isinstance(query, np.ndarray) and query.ndim == 0:
        query = query.item()
    if _is_single(query, kind):
        return [_query_form(query, kind)], True
    return [_query_form(one, kind) for one in query], False


def vectors_of(forms: Sequence[Any], kind: Kind) -> NDArray[np.float64]:
    """(n, dim): the numbers of keys or queries that are vectors or numbers."""
    return np.array(forms, np.float64).reshape(len(forms), kind.dim)


def shown(key: Any) -> str:
    """A key in a message: its repr, cut where it is long.

    >>> shown("a" * 1000)[-8:]
    "aaaaaa…'"
    """
    if isinstance(key, str) and len(key) > LONGEST:
        return f"{key[:LONGEST]!r}"[:-1] + "…'"
    if isinstance(key, tuple) and len(key) > 4:
        return f"({', '.join(repr(number) for number in key[:3])}, … {len(key)} numbers)"
    text = repr(key)
    return text if len(text) <= 2 * LONGEST else text[: 2 * LONGEST] + "…"


def _form(key: Any, what: str) -> tuple[Kind, Hashable]:
    if isinstance(key, str):
        if not key.strip():
            raise InputError(
                f"a {what} must have a visible character, to be compared by meaning; got "
                f"{key!r:.40}."
            )
        return TEXT, str(key)
    if isinstance(key, np.ndarray) and key.ndim == 0:
        key = key.item()
    if isinstance(key, Real):
        return Kind("number", 1), _number(key, what)
    if isinstance(key, list | tuple) or (isinstance(key, np.ndarray) and key.ndim == 1):
        numbers = key.tolist() if isinstance(key, np.ndarray) else list(key)
        if numbers and all(isinstance(number, Real) for number in numbers):
            return Kind("vector", len(numbers)), tuple(_number(one, what) for one in numbers)
    raise InputError(
        f"a {what} must be text, a number, or a vector of numbers (a tuple or an array of one "
        f"axis); got {_described(key)}."
    )


def _number(number: Any, what: str) -> Any:
    plain = number.item() if isinstance(number, np.generic) else number
    try:
        finite = math.isfinite(plain)
    except OverflowError:
        finite = False
    if not finite:
        raise InputError(
            f"the numbers of a {what} must be finite; got {shown(plain)}, which is near to nothing."
        )
    return plain


def _is_single(query: Any, kind: Kind) -> bool:
    if isinstance(query, np.ndarray):
        return query.ndim < (2 if kind.name == "vector" else 1)
    if not isinstance(query, list | tuple):
        return True
    # For vectors a plain list of numbers is one query; for all else a list is several.
    return kind.name == "vector" and bool(query) and all(isinstance(one, Real) for one in query)


def _query_form(query: Any, kind: Kind) -> Hashable:
    came, form = _form(query, "query")
    if came != kind:
        raise InputError(f"the keys are {kind.plural}, so a query must be {kind}; got {came}.")
    return form


def _described(key: Any) -> str:
    if isinstance(key, np.ndarray):
        return f"an array of shape {key.shape} and {key.dtype}"
    if isinstance(key, list | tuple):
        return f"{type(key).__name__} {shown(key)}"
    return type(key).__name__
