"""Duplicate and Induction: how much weight falls on keys that repeat a query's token."""

from collections.abc import Hashable
from typing import Any, ClassVar

import numpy as np

from atento._arrays import to_numpy
from atento.statistics.block import Block
from atento.statistics.query_sum import QuerySum

__all__ = ["Duplicate", "Induction"]


class Duplicate(QuerySum):
    """The weight on earlier occurrences of the query's own token.

    ``duplicate[h, i] = Σ_j p_ij`` over the keys j before the query's position whose token is the
    query's. Result: "duplicate" (head, query). Needs token ids.

    Args:
        name: of the result.

    Source: Wang et al. 2022, "Interpretability in the Wild" (duplicate-token heads),
    arXiv 2211.00593.
    """

    needs_tokens = True
    by_head = True

    behind: ClassVar[int] = 0
    """How far behind the key the token stands that is compared with the query's."""

    def __init__(self, name: str = "duplicate") -> None:
        super().__init__(name)

    def asks(self) -> tuple[Hashable, ...]:
        """The sums themselves, where an engine makes them; otherwise it reads the weights."""
        return (("same_token", self.behind),)

    def _begin(self) -> None:
        super()._begin()
        self.last: tuple[tuple[range, range], Any] | None = None

    def _sort(self) -> None:
        keys, queries = (
            to_numpy(tokens) for tokens in (self.extent.key_tokens, self.extent.query_tokens)
        )
        # Where each token stands, sorted by token and then by position: one number says both.
        _, ids = np.unique(np.concatenate([keys, queries]), return_inverse=True)
        self.asked = ids[keys.size :] * (keys.size + 1)
        order = np.argsort(ids[: keys.size], kind="stable")
        self.occurrences = ids[order] * (keys.size + 1) + order
        self.positions = order

    def update(self, block: Block) -> None:
        """Add the weights of the pairs that match: few, so each is fetched by itself."""
        at, made = block.at_queries, block.cache.get(("same_token", self.behind))
        if made is not None:
            total = self.sum[at]
            total += made
            return
        pairs = self._pairs(block)
        if pairs is None:
            return
        xp, (rows, cols) = self.extent.xp, pairs
        for head, weights in zip(block.heads, block.weights, strict=True):
            found = xp.astype(weights[rows, cols], self.sum.dtype)
            total = self.sum[head, at[1]]
            total += xp.bincount(rows, weights=found, minlength=len(block.rows))

    def _pairs(self, block: Block) -> Any:
        """Rows and columns, within the block, of the pairs that match; None where there are none.

        Blocks of several heads over the same tokens mostly come one after another.
        """
        where = (block.rows, block.cols)
        if self.last is None:
            self._sort()
        if self.last is None or self.last[0] != where:
            self.last = where, self._find(*where)
        return self.last[1]

    def _find(self, rows: range, cols: range) -> Any:
        # A key is compared by the token `behind` it, which must stand before the query.
        first = max(cols.start - self.behind, 0)
        before = self.extent.first_query + np.arange(rows.start, rows.stop)
        last = np.maximum(np.minimum(cols.stop - self.behind, before), first)
        asked = self.asked[rows.start : rows.stop]
        start = np.searchsorted(self.occurrences, asked + first)
        counts = np.searchsorted(self.occurrences, asked + last) - start
        total = int(counts.sum())
        if not total:
            return None
        # Of each row, `counts` occurrences from `start` on.
        row = np.repeat(np.arange(len(rows)), counts)
        nth = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
        col = self.positions[start[row] + nth] + self.behind - cols.start
        xp, device = self.extent.xp, self.extent.device
        return xp.asarray(row, device=device), xp.asarray(col, device=device)


class Induction(Duplicate):
    """The weight on the tokens that followed earlier occurrences of the query's own token.

    ``induction[h, i] = Σ_j p_ij`` over the keys j ≥ 1, at most the query's position, whose previous
    token is the query's: in "a b … a" what the second "a" gives to "b". Result: "induction" (head,
    query). Needs token ids.

    Source: Olsson et al. 2022, "In-context Learning and Induction Heads", arXiv 2209.11895.
    """

    behind = 1

    def __init__(self) -> None:
        super().__init__("induction")
