"""What streaming keeps of the blocks that have passed: a running maximum, and sums of exponentials.

Milakov & Gimelshein 2018 (arXiv 1805.02867).
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["SAFE_SCORE", "Running", "joined"]

Array = npt.NDArray[Any]

SAFE_SCORE = 24.0
"""Below this bound exp(±score) lies in 1e±11: sums and products keep their precision."""

LOWEST: dict[str, Any] = {"f": np.float32(-87.0), "d": np.float64(-708.0)}
"""exp of these is close to the last normal number."""

DEEP = -8.0
"""Far below 0, m rounds off what it is subtracted from: 0.3 − (−1e9) in float32 is 1e9."""


class Running:
    """What is kept of the blocks that have passed, for each query of the block.

    Attributes:
        shift: m, what is subtracted from the scores before exp. At most SAFE_SCORE below the
            largest score so far; 0 until a first key was seen.
        total, summed: Σ exp(score − m) and Σ exp(score − m) value.
        seen: whether any key was seen.
        deep: whether some m lies so far below 0 that scores are kept until it has risen.
    """

    def __init__(self, rows: int, features: int, dtype: Any) -> None:
        self.shift = np.zeros((rows, 1), dtype)
        self.total = np.zeros((rows, 1), dtype)
        self.summed = np.zeros((rows, features), dtype)
        self.seen = np.zeros((rows, 1), bool)
        self.all_seen = False
        self.deep = False
        self.lowest = LOWEST[np.dtype(dtype).char]

    def see(self, visible: Array | None) -> None:
        """Note which queries saw a key, where no maximum is needed."""
        if not self.all_seen:
            if visible is None:
                self.seen[:] = True
            else:
                self.seen |= visible.any(axis=1, keepdims=True)
            self.all_seen = bool(self.seen.all())

    def shifted(self, scores: Array, visible: Array | None) -> Array:
        """The scores minus m; m rises first where this block is the first, or far higher.

        A maximum over all is four times cheaper than one for each row, so rows are looked at
        one by one only when something in the block has outgrown m.
        """
        as_they_came = scores.copy(order="K") if self.deep else None
        scores -= self.shift
        if not (self.all_seen and scores.max() <= SAFE_SCORE):  # NaN is not <=
            if as_they_came is None:
                as_they_came = scores + self.shift
            self._raise_shift(as_they_came, visible)
            np.subtract(as_they_came, self.shift, out=scores)
        # exp is tens of times slower where its result is subnormal, and such a weight is lost in
        # the sum anyway. What the mask hides is set to 0 after.
        if not scores.min() >= self.lowest:
            np.maximum(scores, self.lowest, out=scores)
        return scores

    def _raise_shift(self, scores: Array, visible: Array | None) -> None:
        if visible is not None:
            np.copyto(scores, -np.inf, where=~visible)
        top = scores.max(axis=1, keepdims=True)
        # A query that has seen nothing takes this block's maximum; others only a higher one.
        higher = np.where(self.seen, np.maximum(self.shift, top), np.where(top == -np.inf, 0, top))
        shrink = np.exp(np.where(self.seen, self.shift - higher, -np.inf))
        self.total *= shrink
        self.summed *= shrink
        self.shift = higher
        self.seen |= top != -np.inf
        self.all_seen = bool(self.seen.all())
        self.deep = not higher.min() >= DEEP  # NaN is not >=


def joined(parts: Iterable[Running]) -> tuple[Array, Array, Array]:
    """The sums of several runs over different keys, as those of one run over all of them.

    Taken in float64, in the order of the parts: the same bits whoever computed them.

    Returns:
        m (query, 1), −∞ for a query that saw no key; Σ exp(score − m) (query, 1), and
        Σ exp(score − m) value (query, feature).
    """
    shift: Any = -np.inf
    total: Any = np.float64(0)
    summed: Any = np.float64(0)
    for part in parts:
        own = np.where(part.seen, part.shift.astype(np.float64), -np.inf)
        higher = np.maximum(shift, own)
        even = np.where(higher == -np.inf, 0, higher)  # −∞ − −∞ would be NaN
        before, after = np.exp(shift - even), np.exp(own - even)
        total = total * before + np.where(part.seen, part.total, 0) * after
        summed = summed * before + np.where(part.seen, part.summed, 0) * after
        shift = higher
    return shift, total, summed
