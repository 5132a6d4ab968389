"""Where the largest number of each row is."""

from typing import Any

import numpy as np

from atento._arrays import to_numpy

__all__ = ["argmax"]


def argmax(xp: Any, array: Any) -> Any:
    """The first largest along the last axis, int64.

    On a CPU torch's argmax costs ten times as much as NumPy's, which reads the same memory.
    """
    if xp is np or str(array.device) != "cpu":
        return xp.argmax(array, axis=-1)
    return xp.asarray(np.argmax(to_numpy(array), axis=-1))
