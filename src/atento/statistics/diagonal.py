"""Own and Previous: the weight on the key at a query's own position, and on the one before it."""

from typing import ClassVar

from atento.statistics.block import Block
from atento.statistics.query_sum import QuerySum

__all__ = ["Own", "Previous"]


class Own(QuerySum):
    """``self[h, i] = p_ij`` with j = first_query + i: the weight on the query's own position.

    0 for a query that stands at no key. Result: "self" (head, query).
    """

    ahead: ClassVar[int] = 0
    """Where the key stands, counted from the query."""

    def __init__(self, name: str = "self") -> None:
        super().__init__(name)

    def update(self, block: Block) -> None:
        """Take the diagonal, if the block has a part of it."""
        rows, cols = block.rows, block.cols
        offset = self.extent.first_query + self.ahead  # query i looks at key i + offset
        start, stop = max(rows.start, cols.start - offset), min(rows.stop, cols.stop - offset)
        if start >= stop:
            return
        square = block.weights[
            :,
            start - rows.start : stop - rows.start,
            start + offset - cols.start : stop + offset - cols.start,
        ]
        weight = self.sum[block.at_queries[0], start:stop]
        weight += square.diagonal(0, -2, -1)


class Previous(Own):
    """``previous[h, i] = p_ij`` with j = first_query + i − 1: the weight on the token before.

    0 for a query that has none before it. Result: "previous" (head, query).
    """

    ahead = -1

    def __init__(self) -> None:
        super().__init__("previous")
