"""What the kernel adds up over a run: blocks of the same queries that stand next to each other."""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from atento.statistics.block import Extent
from atento.statistics.reductions import RowBins

__all__ = ["Asks", "Reducer", "Run", "Wanted", "makes"]

Array = Any
Asks = frozenset[Hashable]
"""Names of reductions, as in `Block.cache`."""

PLAIN: Asks = frozenset({"negative_entropy", "largest", "moments", "columns"})
"""Reductions that are named by one word."""

NAMED_BY_NUMBERS = "on_key", "diagonal", "same_token"
EVERYBODY = np.ones((1, 1), bool)


def makes(asks: Asks) -> Asks:
    """Those of the reductions that the kernel makes: of several kinds of bins only one."""
    pairs = [name for name in asks if isinstance(name, tuple) and name]
    bins = sorted(name for name in pairs if name[0] == "row_bins")
    named = {name for name in pairs if name[0] in NAMED_BY_NUMBERS}
    return (asks & PLAIN) | frozenset(bins[:1]) | frozenset(named)


@dataclass(frozen=True, eq=False)
class Run:
    """Some queries and keys, and what is known of them before any weight is.

    Attributes:
        rows, cols: which queries and keys.
        before: how many queries of the first bin stand before them.
        places: (key,), what moments are taken of.
        picks: (kind, query), where a weight is wanted, counted from the first key.
        own: (query,), tokens.
        tokens: (kind, key), those that they are compared with.
        until: (kind,), the first key that is not, for the first query.
    """

    rows: range
    cols: range
    before: int
    places: Array
    picks: Array
    own: Array
    tokens: Array
    until: Array


class Wanted:
    """What is asked of the kernel, and of which weights.

    Args:
        asks: names of reductions, as in `Block.cache`.
        extent: whose tokens are NumPy's.
    """

    def __init__(self, asks: Asks, extent: Extent) -> None:
        self.asks, self.first_query = makes(asks), extent.first_query
        named = sorted(name for name in self.asks if isinstance(name, tuple))
        bins = [name for name in named if name[0] == "row_bins"]
        self.bins: tuple[str, int, int] | None = bins[0] if bins else None
        self.picks = [name for name in named if name[0] in ("on_key", "diagonal")]
        self.matches = [name for name in named if name[0] == "same_token"]
        self.own, self.tokens = _tokens(extent, [behind for _, behind in self.matches])

    @property
    def height(self) -> int:
        """Queries in a bin; 0 where no bins are asked for."""
        return self.bins[1] if self.bins else 0

    @property
    def first_row(self) -> int:
        """Where in the first bin query 0 stands."""
        return self.bins[2] if self.bins else 0

    def run(self, rows: range, cols: range) -> Run:
        """A run over these queries and keys."""
        position = self.first_query + rows.start - cols.start  # of the first query in the run
        picks = np.empty((len(self.picks), len(rows)), np.int64)
        for into, (kind, place) in zip(picks, self.picks, strict=True):
            diagonal = position + place + np.arange(len(rows))
            into[:] = diagonal if kind == "diagonal" else place - cols.start
        behind = [number for _, number in self.matches]
        return Run(
            rows,
            cols,
            (rows.start + self.first_row) % self.height if self.height else 0,
            np.arange(len(cols)) - float(position),
            picks,
            self.own[rows.start : rows.stop],
            np.ascontiguousarray(self.tokens[:, cols.start : cols.stop]),
            position + np.array(behind, np.int64),
        )


def _tokens(extent: Extent, behind: Iterable[int]) -> tuple[Array, Array]:
    """Tokens of queries, and of keys by how far behind each the token stands that is compared.

    Both are numbered anew, so that 32 bits are enough; −1 where there is no token.
    """
    kinds = list(behind)
    if not kinds:
        return np.zeros(0, np.int32), np.zeros((0, 0), np.int32)
    both = np.concatenate([extent.query_tokens, extent.key_tokens])
    ids = np.unique(both, return_inverse=True)[1].astype(np.int32)
    own, keys = ids[: extent.queries], ids[extent.queries :]
    tokens = np.full((len(kinds), extent.keys), -1, np.int32)
    for into, number in zip(tokens, kinds, strict=True):
        into[number:] = keys[: extent.keys - number]
    return own, tokens


class Reducer:
    """The reductions of one head over a run."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted

    def start(self, run: Run) -> None:
        """Begin a run: nothing is seen of it yet."""
        self.run, asks = run, self.wanted.asks
        queries, height = len(run.rows), self.wanted.height or len(run.rows)
        bins = (run.before + queries - 1) // height + 1
        columns = len(run.cols) if self.wanted.bins or "columns" in asks else 0
        self.entropy = np.zeros(queries)
        self.largest = np.zeros(queries, np.int32)
        self.keys = np.zeros(queries if "largest" in asks else 0, np.int64)
        self.moments = np.zeros((queries, 3) if "moments" in asks else (0, 0))
        self.sums = np.zeros((bins, columns), np.float32)
        self.maxima = np.zeros((bins, columns), np.int32)
        self.picked = np.zeros(run.picks.shape)
        self.matched = np.zeros((len(run.tokens), queries))

    def add(self, kernel: Any, *block: Any, column: int, visible: Array | None) -> None:
        """Call a kernel with what describes a block, and with the run.

        Args:
            kernel: of `kernels.py`.
            block: its first arguments.
            column: where in the run the block's first key stands.
            visible: (query, key), who attends to whom; None: all.
        """
        run = self.run
        kernel(
            *block,
            EVERYBODY if visible is None else visible,
            visible is not None,
            column,
            run.before,
            self.wanted.height or len(run.rows),
            self.entropy,
            self.largest,
            self.keys,
            run.places,
            self.moments,
            self.sums,
            self.maxima,
            run.picks,
            self.picked,
            run.own,
            run.tokens,
            run.until,
            self.matched,
        )

    def result(self) -> dict[Hashable, Any]:
        """The reductions of the run, (1, ...), by the names that they have in `Block.cache`."""
        wanted, run = self.wanted, self.run
        known: dict[Hashable, Any] = {"negative_entropy": self.entropy[None]}
        maxima = self.maxima.view(np.float32)
        if "largest" in wanted.asks:
            known["largest"] = (
                self.largest.view(np.float32)[None],
                run.cols.start + self.keys[None],
            )
        if "moments" in wanted.asks:
            known["moments"] = self.moments[None]
        if wanted.bins:
            first = (run.rows.start + wanted.first_row) // wanted.height
            bins = slice(first, first + len(self.sums))
            known[wanted.bins] = [RowBins(bins, self.sums[None], maxima[None])]
        elif "columns" in wanted.asks:
            known["columns"] = self.sums[:1], maxima[:1]
        known.update(zip(wanted.picks, self.picked[:, None], strict=True))
        known.update(zip(wanted.matches, self.matched[:, None], strict=True))
        return known
