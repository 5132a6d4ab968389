"""Weights and reductions of a block by a kernel that Numba compiles, where it is installed.

One pass over a block takes the place of a dozen operations of NumPy or torch, each of which reads
all of it. Where nothing comes between the product of queries and keys and the log-sum-exp, the
kernel makes the product too. It serves both libraries, in float32 on a CPU; `available` says
whether it can.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from math import prod
from types import ModuleType
from typing import Any

import numpy as np

from atento.equation.request import Request
from atento.statistics.reducer import Reducer, Wanted
from atento.statistics.sharing import Rectangle

__all__ = ["WORTH", "Packed", "Scored", "available", "is_worth_compiling", "packs", "reduced"]

WORTH = 2**26
"""Weights from which on the kernel is used, 8 heads of 2,900 tokens: fewer are done before Numba is
loaded, let alone before it has compiled (once, some seconds; the result is kept on disk)."""

LONGEST, GAP = 8192, 128
"""Keys in a run at most, and keys that may be missing between two of its blocks."""

Array = Any


def available() -> bool:
    """Whether the kernels can be used: Numba (``pip install "atento[fast]"``) is there and works.

    The first call loads it, and compiles where nothing is on disk yet.
    """
    return _kernels() is not None


@cache
def _kernels() -> ModuleType | None:
    """The kernels, or None: whatever is wrong with Numba, NumPy and torch can do without."""
    try:
        from atento.statistics import kernels
    except Exception:  # no Numba, no folder for what it compiles, a system it does not know
        return None
    return kernels


def _loaded() -> ModuleType:
    kernels = _kernels()
    if kernels is None:
        raise RuntimeError("the kernels are asked for only where `available` says yes")
    return kernels


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


def packs(request: Request) -> bool:
    """Whether scores are products and nothing else, so that the kernel can make them."""
    return request.softcap is None and request.bias is None and request.query.shape[-1] > 0


@dataclass(frozen=True, eq=False)
class Scored:
    """A head whose scores are made outside of the kernel.

    Attributes:
        head: its number.
        lse: (query,), −∞ for a query that sees no key.
        scores: of a rectangle, (query, key), with bias and softcap, and without the log-sum-exp, in
            memory that the next call uses again; and which pairs the bias lets see, bools of the
            same shape, or None.
    """

    head: int
    lse: Array
    scores: Callable[[Rectangle], tuple[Array, Array | None]]

    def weigh(self, reducer: Reducer, block: Rectangle, visible: Array | None, _: bool) -> Array:
        """Add a block to the run; its weights (query, key)."""
        scores, own = self.scores(block)
        both = visible if own is None else own if visible is None else own & visible
        kernel, column = _loaded().reduce_scores, block.cols.start - reducer.run.cols.start
        lse = self.lse[block.rows.start : block.rows.stop]
        reducer.add(kernel, scores, lse, column=column, visible=both)
        return scores


class Packed:
    """A head whose scores the kernel makes from queries and keys.

    Args:
        head: its number.
        lse: (query,), −∞ for a query that sees no key.
        query: (query, feature), NumPy's.
        key: (key, feature), the same; or another head's, packed.
        scale: of the products.
    """

    def __init__(
        self, head: int, lse: Array, query: Array, key: "Array | Packed", scale: float
    ) -> None:
        from atento.statistics import tile_product

        self.head, self.lse = head, lse
        self.query = tile_product.padded_queries(query, scale)
        self.panels: Array = (
            key.panels if isinstance(key, Packed) else tile_product.packed_keys(key)
        )

    def weigh(
        self, reducer: Reducer, block: Rectangle, visible: Array | None, reads: bool
    ) -> Array | None:
        """Add a block to the run; its weights (query, key) where they are read."""
        kernels, rows, cols = _loaded(), block.rows, block.cols
        weights = np.empty((len(rows), len(cols)) if reads else (0, 0), np.float32)
        reducer.add(
            kernels.reduce_products,
            self.query,
            self.panels,
            rows.start,
            cols.start,
            len(cols),
            np.empty(kernels.STRIP, np.float32),
            weights,
            self.lse[rows.start : rows.stop],
            column=cols.start - reducer.run.cols.start,
            visible=visible,
        )
        return weights if reads else None


def reduced(
    rows: range,
    rectangles: list[Rectangle],
    wanted: Wanted,
    units: Iterable[Scored | Packed],
    reads: bool,
) -> Iterator[tuple[range, range, Any, Any, Any]]:
    """Weights of each rectangle, and after those of a run its reductions: as `Engine` gives them.

    Args:
        rows: the queries.
        rectangles: what they look at.
        wanted: the reductions.
        units: the heads.
        reads: whether weights are wanted too.
    """
    pairs = [(unit, Reducer(wanted)) for unit in units]
    for cols, blocks in _runs(rectangles):
        run = wanted.run(rows, cols)
        for _, reducer in pairs:
            reducer.start(run)
        for block in blocks:
            visible = _visible(block)
            for unit, reducer in pairs:
                weights = unit.weigh(reducer, block, visible, reads)
                if reads and weights is not None:
                    yield _only(unit), block.cols, weights[None], None, None
        for unit, reducer in pairs:
            yield _only(unit), cols, None, None, reducer.result()


def _only(unit: Scored | Packed) -> range:
    return range(unit.head, unit.head + 1)


def _visible(block: Rectangle) -> Array | None:
    """Who attends to whom, (query, key); None: all to all."""
    if not block.masked:
        return None
    seen = np.ones((len(block.rows), len(block.cols)), bool)
    for own, pairs in block.masked:
        seen[:, own] = pairs
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
