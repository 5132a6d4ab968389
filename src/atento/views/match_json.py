"""A match as JSON: the query, the mean, and the ranked keys with their values and weights."""

import json
from typing import Any

import numpy as np

from atento.retrieval.match import Match

__all__ = ["match_json"]


def match_json(match: Match) -> str:
    """Write a match as strictly valid JSON.

    Vectors and arrays are lists; a value that JSON does not know is its ``repr``.
    """
    return json.dumps(
        {
            "format": "atento.match/1",
            "query": _plain(match.query),
            "value": _plain(match.mean),
            "similarity": match.similarity,
            "temperature": match.temperature,
            "keys": match.size,
            "lse": match.lse,
            "mass": match.mass,
            "items": [
                {"key": _plain(key), "value": _plain(value), "weight": weight}
                for key, value, weight in match.items
            ],
        },
        allow_nan=False,
    )


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return repr(value)
    return value
