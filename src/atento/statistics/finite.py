"""Which numbers the exponential of a block may meet."""

from collections.abc import Callable
from typing import Any

import numpy as np

from atento._arrays import dtype_name
from atento.equation.request import Request
from atento.positions.distance_bias import DistanceBias

__all__ = ["HIGHEST", "LOWEST", "is_tame"]

LOWEST = {"float32": -87.0, "float64": -708.0}
"""exp of these is close to the last normal number; exp is tens of times slower below."""

HIGHEST = 1.0
"""A logarithm behind the mask is held below this. A weight's own is at most 0."""


def is_tame(request: Request, largest: Callable[[Any], float]) -> bool:
    """Whether no score can be NaN or ∞, seen or behind the mask.

    ``|q · k| <= d · max |q| · max |k|``; the comparison is False where a maximum is NaN. A bias
    may hold −∞, as a mask written as one does.
    """
    query, key, bias = request.query, request.key, request.bias
    if isinstance(bias, DistanceBias):
        bias = bias.values
    if 0 in (*query.shape, *key.shape) or (bias is not None and 0 in bias.shape):
        return True
    limit = 1e30 if dtype_name(query) != "float64" else 1e300
    scores = query.shape[-1] * largest(query) * largest(key) * max(abs(request.scale), 1.0)
    with np.errstate(all="ignore"):
        # A sum is NaN where a number is; −∞ alone leaves it −∞.
        sums = [float(added.sum()) for added in (bias, request.sinks) if added is not None]
    return scores < limit and all(total < np.inf for total in sums)
