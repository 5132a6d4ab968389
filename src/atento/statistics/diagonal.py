"""Own and Previous: the weight on the key at a query's own position, and on the one before it."""

from collections.abc import Hashable
from typing import ClassVar

from atento.statistics.block import Block
from atento.statistics.query_sum import QuerySum

__all__ = ["Own", "Previous"]


class Own(QuerySum):
    """``self[h, i] = p_ij`` with j = first_query + i: the weight on the query's own position.

    0 for a query that stands at no key. Result: "self" (head, query).

    Args:
        name: of the result.
    """

    by_head = True
    ahead: ClassVar[int] = 0
    """Where the key stands, counted from the query."""

    def __init__(self, name: str = "self") -> None:
        super().__init__(name)

    def asks(self) -> tuple[Hashable, ...]:
        """One diagonal."""
        return (("diagonal", self.ahead),)

    def update(self, block: Block) -> None:
        """Take the diagonal, if the block has a part of it."""
        weight = self.sum[block.at_queries]
        weight += block.diagonal(self.ahead)


class Previous(Own):
    """``previous[h, i] = p_ij`` with j = first_query + i − 1: the weight on the token before.

    0 for a query that has none before it. Result: "previous" (head, query).
    """

    ahead = -1

    def __init__(self) -> None:
        super().__init__("previous")
