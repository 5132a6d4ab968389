"""One number of each key: enough to see whether a cache's batch items have changed places.

Beam search lets a sequence go on from another one's cache: after `reorder_cache` batch item 2 may
hold the keys of item 0. Nobody tells of it, but keys are copied to the bit, so they show it.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from atento._arrays import to_numpy

__all__ = ["came_from", "latest_prints", "prints_of", "same_prints"]

Array = npt.NDArray[Any]


def prints_of(key: Any) -> Array:
    """The first feature of the first head, (batch, key); 0 stands for a key that is not known.

    Args:
        key: a tensor (batch, head, key, feature).
    """
    return np.array(to_numpy(key[:, 0, :, 0].detach().float()))


def same_prints(old: Array, new: Array, near: float = 0.0) -> bool:
    """Whether all of these keys are the same, or off by that share of their size."""
    new = np.where(new == 0, old, new)
    if not near:
        return np.array_equal(old, new, equal_nan=True)
    apart = near * float(np.abs(old).mean()) if old.size else 0.0
    return np.allclose(old, new, rtol=near, atol=apart, equal_nan=True)


def latest_prints(old: Array, new: Array) -> Array:
    """The new ones; the old ones where a sliding cache has let keys go."""
    latest = new.copy()
    front = latest[:, : old.shape[1]]
    np.copyto(front, old[:, : front.shape[1]], where=front == 0)
    return latest


def came_from(old: Array, new: Array, alike: Array | None = None) -> list[int] | None:
    """Which item of before each item goes on from; None where all stay in their places.

    The one whose keys are nearest: a cache may store them with fewer digits than it got. Of equal
    ones it is the item itself, or else the first.

    Args:
        old: (batch, key).
        new: the same, with further keys or without.
        alike: (batch, batch of before), which may be the same at all, at least one for each; None:
            any.

    >>> before = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    >>> came_from(before, np.array([[3.0, 4.0, 7.0], [3.0, 4.0, 8.0], [5.0, 6.1, 9.0]]))
    [1, 1, 2]
    """
    length = min(old.shape[1], new.shape[1])
    old, new = old[:, :length], new[:, :length]
    apart = np.array([_apart(old, row) for row in new])
    if alike is not None:
        apart[~alike] = np.inf
    own = np.arange(len(new))
    places = np.where(apart[own, own] == apart.min(-1), own, apart.argmin(-1))
    return None if np.array_equal(places, own) else [int(place) for place in places]


def _apart(old: Array, new: Array) -> Array:
    """How far one item's keys are from those of each."""
    with np.errstate(invalid="ignore"):  # of NaN and ∞ nothing can be told
        apart = np.nan_to_num(np.abs(np.where(new == 0, 0, old - new)))
    total: Array = apart.sum(-1, dtype=np.float64)
    return total
