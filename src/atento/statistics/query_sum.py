"""Statistics that are one sum per query: over all keys, or over some of them."""

from typing import Any

from atento._errors import InputError
from atento.statistics.statistic import Statistic

__all__ = ["QuerySum"]


class QuerySum(Statistic):
    """One number per head and query that is added up over blocks; subclasses write `update`.

    Args:
        name: of the result, (head, query).

    Raises:
        InputError: when the name is no text.

    >>> import numpy as np
    >>> from atento.statistics import survey
    >>> class Squares(QuerySum):
    ...     def update(self, block):
    ...         total = self.sum[block.at_queries]
    ...         total += (block.weights**2).sum(-1)
    >>> x = np.eye(2)
    >>> survey(x, x, x, statistics=[Squares("squares")])["squares"].round(4)
    array([0.5576, 0.5576])
    """

    def __init__(self, name: str) -> None:
        if not isinstance(name, str) or not name:
            raise InputError(f"name must be a text, as in name='commas'; got {name!r}.")
        self.name = name
        self.results = {name: ("head", "query")}

    def _begin(self) -> None:
        self.sum = self.extent.sums((self.extent.heads, self.extent.queries))

    def merge(self, other: Any) -> None:
        """Add what the other part added up."""
        self._check_mergeable(other)
        self.sum += other.sum

    def result(self) -> dict[str, Any]:
        """The sums, (head, query)."""
        return {self.name: self.extent.rounded(self.sum)}
