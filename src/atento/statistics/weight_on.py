"""WeightOn and First: how much weight falls on some keys."""

from bisect import bisect_left
from collections.abc import Hashable
from typing import Any

import numpy as np

from atento._arrays import dtype_name, to_numpy
from atento._errors import DTypeError, InputError, ShapeError
from atento.statistics.block import Block, Extent
from atento.statistics.query_sum import QuerySum
from atento.statistics.statistic import Statistic

__all__ = ["First", "WeightOn"]


class WeightOn(QuerySum):
    """``name[h, i] = Σ_{j in keys} p_ij``: the weight that a query gives to a set of keys.

    Args:
        keys: positions on the keys' axis, whole numbers from 0 on, in any order: a list, a range,
            an array. What is named twice counts once.
        name: of the result, (head, query).

    Raises:
        DTypeError: when the keys are no whole numbers.
        ShapeError: when they are not one list of numbers.
        InputError: when one is negative, or (in `start`) beyond the last key.

    >>> import numpy as np
    >>> from atento.statistics import survey
    >>> x = np.array([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0]])
    >>> survey(x, x, x, statistics=[WeightOn([0, 2], name="even")])["even"].round(4)
    array([0.9713, 0.1057, 0.9713])
    """

    by_head = True

    def __init__(self, keys: Any, name: str = "keys") -> None:
        super().__init__(name)
        self.keys = _positions(keys)

    def start(self, extent: Extent) -> Statistic:
        """A part over this extent, once all keys are known to lie in it."""
        if self.keys and self.keys[-1] >= extent.keys:
            raise InputError(
                f"the statistic {self.name!r} asks for the weight on key {self.keys[-1]}, and "
                f"there are {extent.keys} keys: the last is {extent.keys - 1}."
            )
        return super().start(extent)

    def _begin(self) -> None:
        super()._begin()
        xp, device = self.extent.xp, self.extent.device
        self._indices = xp.asarray(self.keys, dtype=xp.int64, device=device)

    def update(self, block: Block) -> None:
        """Add the columns of the block that are in the set."""
        start = bisect_left(self.keys, block.cols.start)
        stop = bisect_left(self.keys, block.cols.stop)
        if start == stop:
            return
        first, last = (self.keys[k] - block.cols.start for k in (start, stop - 1))
        if stop - start == last - first + 1:
            columns = block.weights[..., first : last + 1]
        else:
            columns = block.weights[..., self._indices[start:stop] - block.cols.start]
        total = self.sum[block.at_queries]
        total += columns.sum(-1)


class First(WeightOn):
    """``first[h, i] = p_i0``: the weight on key 0, where many heads put what they do not need.

    Result: "first" (head, query).

    Source: Xiao et al. 2023, "Efficient Streaming Language Models with Attention Sinks",
    arXiv 2309.17453.

    >>> import numpy as np
    >>> from atento.statistics import survey
    >>> x = np.array([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0]])
    >>> survey(x, x, x, statistics=[First()])["first"].round(4)
    array([0.4856, 0.0529, 0.4856])
    """

    def __init__(self) -> None:
        super().__init__([0], "first")

    def start(self, extent: Extent) -> Statistic:
        """A part over this extent; where there are no keys, there is no weight."""
        return Statistic.start(self, extent)

    def asks(self) -> tuple[Hashable, ...]:
        """One column."""
        return (("on_key", 0),)

    def update(self, block: Block) -> None:
        """Take the column of key 0."""
        if block.cols.start == 0:
            first = self.sum[block.at_queries]
            first += block.on_key(0)


def _positions(keys: Any) -> list[int]:
    """Keys in order, each once."""
    array = to_numpy(list(keys) if isinstance(keys, set | frozenset | range) else keys)
    if array.ndim != 1:
        raise ShapeError(
            f"WeightOn: keys must be one list of positions, (n,); got shape {array.shape}."
        )
    if array.size and array.dtype.kind not in "iu":
        hint = " Write keys=np.flatnonzero(...)." if array.dtype.kind == "b" else ""
        raise DTypeError(
            f"WeightOn: keys must be positions, whole numbers from 0 on; got "
            f"{dtype_name(array)}.{hint}"
        )
    found: list[int] = np.unique(array).astype(np.int64).tolist()
    if found and found[0] < 0:
        raise InputError(
            f"WeightOn: keys are counted from 0 on; got {found[0]}. Counted from the end, key −1 "
            "is number_of_keys − 1."
        )
    return found
