"""Weights and reductions of a block by a kernel that Numba compiles, where it is installed.

One pass over a block's scores takes the place of a dozen operations of NumPy or torch, each of
which reads the whole block. It serves both, in float32 on a CPU; `available` says whether it can.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any

import numpy as np

from atento.equation.request import Request
from atento.statistics.reductions import RowBins
from atento.statistics.sharing import Rectangle

__all__ = ["WORTH", "Reducer", "Scored", "available", "is_worth_compiling", "reduced"]

WORTH = 2**26
"""Weights from which on the kernel is used, 8 heads of 2,900 tokens: fewer are done before Numba is
loaded, let alone before it has compiled (once, some seconds; the result is kept on disk)."""

LONGEST, GAP = 8192, 128
"""Keys in a run at most, and keys that may be missing between two of its blocks."""

Array = Any
Asks = frozenset[Hashable]
EVERYBODY = np.ones((1, 1, 1), bool)


def available() -> bool:
    """Whether the kernel can be used: Numba (``pip install "atento[fast]"``) is there and works.

    The first call loads it, and compiles where nothing is on disk yet.
    """
    return _kernel() is not None


@cache
def _kernel() -> Callable[..., None] | None:
    """The kernel, or None: whatever is wrong with Numba, NumPy and torch can do without."""
    try:
        from atento.statistics.kernels import reduce_block
    except Exception:  # no Numba, no folder for what it compiles, a system it does not know
        return None
    return reduce_block  # type: ignore[no-any-return]


def is_worth_compiling(request: Request) -> bool:
    """Whether the kernel serves this request: the same answer each time, and so the same bits."""
    return (
        str(np.dtype(_plain(request.compute_dtype))) == "float32"
        and str(request.device) == "cpu"
        and prod(request.weights_shape) >= WORTH
        and available()
    )


def _plain(dtype: Any) -> Any:
    return str(dtype).removeprefix("torch.") if str(dtype).startswith("torch.") else dtype


@dataclass(frozen=True, eq=False)
class Scored:
    """Some heads whose scores are made together.

    Attributes:
        heads: their numbers.
        lse: (head, query), −∞ for a query that sees no key.
        scores: of a rectangle, (head, query, key), with bias and softcap, and without the
            log-sum-exp, in memory that the next call uses again; and which pairs the bias lets
            see, bools of the same shape (or 1 head), or None.
    """

    heads: range
    lse: Array
    scores: Callable[[Rectangle], tuple[Array, Array | None]]


def reduced(
    rows: range, rectangles: list[Rectangle], reducers: list["Reducer"], units: Iterable[Scored]
) -> Iterator[tuple[range, range, Any, Any, Any]]:
    """Weights of each rectangle, and after those of a run its reductions: as `Engine` gives them.

    Args:
        rows: the queries.
        rectangles: what they look at.
        reducers: one for each unit.
        units: the heads.
    """
    pairs = list(zip(units, reducers, strict=True))
    for cols, run in _runs(rectangles):
        for _, reducer in pairs:
            reducer.start(rows, cols)
        for block in run:
            visible = _visible(block)
            for unit, reducer in pairs:
                scores, own = unit.scores(block)
                both = visible if own is None else own if visible is None else own & visible
                reducer.add(scores, unit.lse[:, rows.start : rows.stop], block.cols.start, both)
                yield unit.heads, block.cols, scores, None, None
        for unit, reducer in pairs:
            yield unit.heads, cols, None, None, reducer.result()


class Reducer:
    """The reductions of some heads and queries over a run of blocks of keys.

    Args:
        asks: names of reductions, as in `Block.cache`.
        heads: how many.
        first_query: the position of query 0 on the keys' axis.
    """

    def __init__(self, asks: Asks, heads: int, first_query: int) -> None:
        heights = [name[1] for name in asks if isinstance(name, tuple) and name[0] == "row_bins"]
        self.asks, self.heads, self.first_query = asks, heads, first_query
        self.height: int | None = min(heights, default=None)

    def start(self, rows: range, cols: range) -> None:
        """Begin a run: nothing is seen of it yet."""
        self.rows, self.cols = rows, cols
        shape = (self.heads, len(rows))
        self.before = rows.start % self.height if self.height else 0
        bins = (self.before + len(rows) - 1) // (self.height or len(rows)) + 1
        columns = len(cols) if self.height or "columns" in self.asks else 0
        self.entropy = np.zeros(shape)
        self.largest = np.zeros(shape, np.float32)
        self.keys = np.zeros(shape if "largest" in self.asks else (0, 0), np.int64)
        self.places = np.arange(len(cols)) + float(cols.start - self.first_query - rows.start)
        self.moments = np.zeros((*shape, 3) if "moments" in self.asks else (0, 0, 0))
        self.sums, self.maxima = np.zeros((2, self.heads, bins, columns), np.float32)

    def add(self, scores: Array, lse: Array, first: int, visible: Array | None) -> None:
        """Turn scores (head, query, key) into weights, in place, and add them to the run.

        Args:
            scores: with bias and softcap, without the log-sum-exp.
            lse: (head, query), −∞ for a query that sees no key.
            first: the first key.
            visible: (1 or head, query, key), who attends to whom; None: all.
        """
        kernel = _kernel()
        if kernel is None:
            raise RuntimeError("the kernel is asked for only where `available` says yes")
        kernel(
            scores,
            lse,
            EVERYBODY if visible is None else visible,
            visible is not None,
            first - self.cols.start,
            self.before,
            self.height or len(self.rows),
            self.entropy,
            self.largest,
            self.keys,
            self.places,
            self.moments,
            self.sums,
            self.maxima,
        )

    def result(self) -> dict[Hashable, Any]:
        """The reductions of the run, by the names that they have in `Block.cache`."""
        known: dict[Hashable, Any] = {"negative_entropy": self.entropy}
        if "largest" in self.asks:
            known["largest"] = self.largest, self.cols.start + self.keys
        if "moments" in self.asks:
            known["moments"] = self.moments
        if self.height:
            first = self.rows.start // self.height
            bins = slice(first, first + self.sums.shape[1])
            known["row_bins", self.height] = [RowBins(bins, self.sums, self.maxima)]
        elif "columns" in self.asks:
            known["columns"] = self.sums[:, 0], self.maxima[:, 0]
        return known


def _visible(block: Rectangle) -> Array | None:
    """Who attends to whom, (1, query, key); None: all to all."""
    if not block.masked:
        return None
    seen = np.ones((1, len(block.rows), len(block.cols)), bool)
    for own, pairs in block.masked:
        seen[..., own] = pairs
    return seen


def _runs(rectangles: list[Rectangle]) -> Iterator[tuple[range, list[Rectangle]]]:
    """Rectangles of the same queries that stand next to each other, and the keys that they span."""
    own: list[Rectangle] = []
    for rectangle in rectangles:
        if own:
            whole = rectangle.cols.stop - own[0].cols.start > LONGEST
            if whole or rectangle.cols.start - own[-1].cols.stop > GAP:
                yield range(own[0].cols.start, own[-1].cols.stop), own
                own = []
        own.append(rectangle)
    if own:
        yield range(own[0].cols.start, own[-1].cols.stop), own
