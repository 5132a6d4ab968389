"""What every statistic of the weights can do: be folded over blocks, merged, and read."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable
from typing import Any, ClassVar, NoReturn

from atento._errors import InputError
from atento.statistics.block import Block, Extent

__all__ = ["Statistic", "register", "registered"]


class Statistic(ABC):
    """One or a few numbers per query, key or head, folded over blocks of exact weights.

    An instance is first a wish (``WeightOn([0])``); `start` makes of it a part that is folded:

        part = statistic.start(extent)
        for block in blocks: part.update(block)
        part.merge(other)                  # another part over other blocks of the same extent
        part.result()                      # {"name": array, ...}

    Blocks come in any order, and each pair of query and key in exactly one block of exactly one
    part. Weights are those of the whole row, so that sums and maxima of parts are those of the
    whole.

    Attributes:
        results: the names in `result`, and the axes of each: ("head", "query"), ("head", "key") or
            others of the extent's.
        needs_tokens: whether it asks for the extent's token ids.
        by_head: whether what it finds of a head is of that head's weights alone, and every result
            has the axis "head". Then a thread's part is over the heads that it folds, its extent
            says how many and which is the first, and results are put side by side. Otherwise
            each part is over all heads, and takes their memory.

    >>> from atento.statistics import Entropy
    >>> isinstance(Entropy(), Statistic), Entropy().results
    (True, {'entropy': ('head', 'query')})
    """

    results: dict[str, tuple[str, ...]]
    needs_tokens: ClassVar[bool] = False
    by_head: ClassVar[bool] = False

    def start(self, extent: Extent) -> "Statistic":
        """A part over this extent that has seen no block."""
        if self.needs_tokens and (extent.query_tokens is None or extent.key_tokens is None):
            self.refuse_without_tokens()
        part = copy.copy(self)
        part.extent = extent
        part._begin()
        return part

    extent: Extent

    def refuse_without_tokens(self) -> NoReturn:
        """Say that this statistic compares tokens, and how to give them.

        Raises:
            InputError: always.
        """
        raise InputError(
            f"{self._named()} compare{'s' if len(self.results) == 1 else ''} tokens: "
            "give the token ids, tokens=, (token,) or (batch, token)."
        )

    def asks(self) -> Iterable[Hashable] | None:
        """Names of the block's reductions that `update` reads and nothing else, or None.

        Where it says so, an engine may hand it reductions alone, made together with the weights of
        a larger block. ``("row_bins", 64, 0)`` stands for ``block.row_bins(64, 0)``. None: it reads
        the weights themselves, and gets them, whatever else it reads.
        """
        return None

    def _named(self) -> str:
        names = ", ".join(self.results)
        return f"the statistic{'' if len(self.results) == 1 else 's'} {names}"

    def _check_mergeable(self, other: Any) -> None:
        """Refuse a part of another kind, or over other queries and keys."""
        if type(other) is not type(self):
            raise InputError(
                f"a part of {type(self).__name__} merges with another part of the same statistic; "
                f"got {type(other).__name__}."
            )
        if not self.extent.matches(other.extent):
            names = "heads, queries, keys, first_query and first_head"
            raise InputError(
                f"{self._named()}: parts merge when both are over the same extent; {names} are "
                f"{self.extent.place} here and {other.extent.place} there. Start both parts with "
                "one extent, or keep their results apart."
            )

    @abstractmethod
    def _begin(self) -> None:
        """Make the state: what a part holds before any block."""

    @abstractmethod
    def update(self, block: Block) -> None:
        """Fold one block in."""

    @abstractmethod
    def merge(self, other: Any) -> None:
        """Fold in what another part over the same extent has gathered.

        Parts can be pickled, and so be folded in several processes.

        Raises:
            InputError: for a part over another extent, or of another statistic.
        """

    @abstractmethod
    def result(self) -> dict[str, Any]:
        """The numbers, in the axes that `results` names."""


_registered: dict[str, Statistic] = {}


def register(name: str, statistic: Statistic) -> None:
    """Let a statistic be asked for by this name: ``survey(..., statistics=["mine"])``.

    Args:
        name: what it is asked for by.
        statistic: an instance; each use begins with a copy of it.

    Raises:
        InputError: when the name is taken or no text, or the object is no statistic.

    >>> from atento.statistics import Entropy
    >>> register("entropy", Entropy())
    Traceback (most recent call last):
        ...
    atento._errors.InputError: the statistic 'entropy' is there already: choose another name.
    """
    if not isinstance(name, str) or not name:
        raise InputError(f"register takes a name, as in register('mine', Mine()); got {name!r}.")
    if not isinstance(statistic, Statistic):
        raise InputError(
            f"register takes an instance of a subclass of Statistic; got {statistic!r}."
        )
    if name in _registered:
        raise InputError(f"the statistic {name!r} is there already: choose another name.")
    _registered[name] = statistic


def registered() -> dict[str, Statistic]:
    """All statistics that can be asked for by name.

    >>> sorted(registered())[:4]
    ['distance', 'duplicate', 'entropy', 'first']
    """
    return dict(_registered)
