"""How near a key is to a query: one number, which a temperature divides before the softmax.

``score(query, key) = similarity(query, key) / temperature``, where the similarity is

- ``"dot"``: ``q · k / √d``, attention as it is;
- ``"cosine"``: ``q · k / (‖q‖ ‖k‖)``, for vectors whose length means nothing;
- ``"distance"``: ``−‖q − k‖² / 2``, the Gaussian kernel of Nadaraya–Watson regression, whose
  bandwidth is the square root of the temperature.

All three are one equation: a distance is a dot product with the bias ``−‖k‖² / 2`` for each key;
what is left of the square is the same for all keys of a query, and falls out of the softmax.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atento._errors import InputError

__all__ = [
    "SIMILARITIES",
    "USUAL_TEMPERATURE",
    "checked_similarity",
    "checked_temperature",
    "dot_scale",
    "unit_rows",
]

SIMILARITIES = ("dot", "cosine", "distance")

USUAL_TEMPERATURE = {"dot": 1.0, "cosine": 0.1, "distance": 1.0}
"""Cosines lie in ±1, which at temperature 1 leaves every key a share: the largest possible ratio of
two weights is e². 0.1 is the temperature at which the vectors of `mini` were trained."""


def checked_similarity(similarity: Any) -> str:
    """The same name, after a check that it is one of the three.

    Raises:
        InputError: for another.
    """
    if not isinstance(similarity, str) or similarity not in SIMILARITIES:
        raise InputError(
            f"similarity must be one of {', '.join(SIMILARITIES)}; got {similarity!r}."
        )
    return similarity


def checked_temperature(temperature: Any) -> float:
    """The temperature as a float.

    Raises:
        InputError: it is no number, negative, infinite or NaN.
    """
    try:
        number = float(temperature)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if isinstance(temperature, str | bool) or not (math.isfinite(number) and number >= 0):
        raise InputError(
            "temperature must be a finite number from 0 on (0: only the nearest keys count); "
            f"got {temperature!r}."
        )
    return number


def dot_scale(similarity: str, dim: int) -> float:
    """What multiplies the product of query and key: 1/√d for "dot", as in attention."""
    return 1 / math.sqrt(dim) if similarity == "dot" else 1.0


def unit_rows(vectors: NDArray[Any], what: str) -> NDArray[Any]:
    """The rows divided by their lengths.

    Args:
        vectors: (n, d), finite.
        what: what the rows are, for the error: "a key" or "the query".

    Raises:
        InputError: a row of zeros, which has no direction.

    >>> unit_rows(np.array([[3.0, 4.0]]), "a key")
    array([[0.6, 0.8]])
    """
    largest = np.abs(vectors).max(axis=1, keepdims=True, initial=0)
    if not largest.all():
        raise InputError(
            f"the cosine of {what} that is all zeros is not defined: it has no direction. "
            'Leave it out, or take similarity="dot" or "distance".'
        )
    scaled = vectors / largest  # so that squares neither overflow nor vanish
    units: NDArray[Any] = scaled / np.sqrt(np.einsum("nd,nd->n", scaled, scaled))[:, None]
    return units
