"""Overview: a small picture of each head's weights, pooled by mean and by maximum."""

from collections.abc import Hashable
from typing import Any

from atento._errors import InputError
from atento.statistics.bins import bin_sizes, bins_of
from atento.statistics.block import Block
from atento.statistics.statistic import Statistic

__all__ = ["Overview"]


class Overview(Statistic):
    """The weights of a head in at most size × size bins of equal width.

    A bin holds ceil(queries / size) × ceil(keys / size) pairs, or width × width where that is said;
    the last ones perhaps fewer. Its mean is over the pairs that there are, masked ones included
    as 0. The maximum shows a needle that the mean hides.

    Args:
        size: bins along each axis at most.
        width: how many queries, and how many keys, a bin has, instead of a size: then the number
            of bins grows with the lengths, and bins of several calls fit together.
        first_row: where in the first bin query 0 stands, from 0 to width − 1. The queries before
            it, which an earlier call has, count as 0.

    Results: "overview_mean" and "overview_max", (head, row bin, column bin).

    Raises:
        InputError: when the size or the width is no whole number of at least 1, or the first row
            none within a bin of that width.

    >>> import numpy as np
    >>> from atento.statistics import survey
    >>> x = np.array([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0]])
    >>> survey(x, x, x, statistics=[Overview(size=2)])["overview_max"].round(4)
    array([[0.8943, 0.4856],
           [0.4856, 0.4856]])
    """

    by_head = True

    def __init__(self, size: int = 64, *, width: int | None = None, first_row: int = 0) -> None:
        for name, number, what in (
            ("size", size, "the number of bins along each axis"),
            ("width", 1 if width is None else width, "the queries and the keys of a bin"),
        ):
            if isinstance(number, bool) or not hasattr(number, "__index__") or number < 1:
                raise InputError(f"{name}, {what}, must be a whole number ≥ 1; got {number!r}.")
        self.size = int(size)
        self.side = None if width is None else int(width)
        self.first_row = _row_within(self.side or 1, first_row)
        axes = ("head", "row bin", "column bin")
        self.results = {"overview_mean": axes, "overview_max": axes}

    def _begin(self) -> None:
        extent = self.extent
        self.height = self.side or max(1, -(-extent.queries // self.size))
        self.width = self.side or max(1, -(-extent.keys // self.size))
        self.rows = extent.queries + self.first_row if extent.queries else 0
        shape = (extent.heads, -(-self.rows // self.height), -(-extent.keys // self.width))
        self.sum = extent.sums(shape)
        self.max = extent.full(shape, 0.0)

    def asks(self) -> tuple[Hashable, ...]:
        """Sums and maxima of the columns, by bins of rows."""
        return (("row_bins", self.height, self.first_row),)

    def update(self, block: Block) -> None:
        """Pool the rows of the block, and then the few columns that remain."""
        xp, heads = self.extent.xp, block.at_queries[0]
        for rows, total, largest in block.row_bins(self.height, self.first_row):
            for cols in bins_of(block.cols, self.width):
                at = (heads, rows, cols.where)
                shape = (*total.shape[:2], cols.bins, -1)
                # (head, row bin, key) -> (head, row bin, column bin, key within it)
                pooled = xp.reshape(total[..., cols.start : cols.stop], shape)
                bins, most = self.sum[at], self.max[at]
                bins += pooled.sum(-1)
                pooled = xp.reshape(largest[..., cols.start : cols.stop], shape)
                most[...] = xp.maximum(most, xp.max(pooled, axis=-1))

    def merge(self, other: Any) -> None:
        """Add the sums, and keep the larger of the maxima."""
        self._check_mergeable(other)
        self.sum += other.sum
        self.max = self.extent.xp.maximum(self.max, other.max)

    def result(self) -> dict[str, Any]:
        """Mean and maximum of each bin, (head, row bin, column bin)."""
        extent, xp = self.extent, self.extent.xp
        rows, cols = (
            xp.asarray(bin_sizes(length, bin_length), dtype=self.sum.dtype, device=extent.device)
            for length, bin_length in ((self.rows, self.height), (extent.keys, self.width))
        )
        mean = extent.full(self.sum.shape, 0.0)
        for own, total in zip(mean, self.sum, strict=True):  # quotients of one head at a time
            own[...] = total / (rows[:, None] * cols)
        return {"overview_mean": mean, "overview_max": xp.asarray(self.max, copy=True)}


def _row_within(width: int, row: int) -> int:
    if isinstance(row, bool) or not hasattr(row, "__index__") or not 0 <= row < width:
        raise InputError(
            f"first_row, where in the first bin query 0 stands, must be a whole number from 0 to "
            f"width − 1, {width - 1} here; got {row!r}."
        )
    return int(row)
