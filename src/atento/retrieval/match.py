"""What a dictionary that attends answers: values weighted by how near their keys are to a query."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from atento.equation import trace
from atento.records import Pictured, Trace
from atento.retrieval.key_forms import shown
from atento.retrieval.similarity import dot_scale, unit_rows

__all__ = ["Item", "Listed", "Match", "Matches"]

MOST_TRACED = 100
"""Keys that a trace shows one by one; what is beyond them is one key together."""

NEGLIGIBLE = 1e-6
"""A share of the weight that single precision cannot tell from none."""


class Item(NamedTuple):
    """One key of a match, with its value and its weight."""

    key: Any
    value: Any
    weight: float


@dataclass(frozen=True, eq=False)
class Listed:
    """The keys that the matches of one call list, as they were then.

    Attributes:
        keys, values: of each.
        vectors: (key, d), as they were compared.
        numbers: (key, dv), the values as the mean takes them; None for objects.
    """

    keys: Sequence[Any]
    values: Sequence[Any]
    vectors: NDArray[Any]
    numbers: NDArray[np.float64] | None


@dataclass(frozen=True, eq=False)
class Ranking:
    """The listed keys in the order in which one query found them.

    Attributes:
        listed: the keys.
        order: which of them, the strongest first.
        shares: their weights, float64.
        vector: (d,), the query's.
        top_k, min_weight: how many are items, and of what weight.
    """

    listed: Listed
    order: NDArray[np.int64]
    shares: NDArray[np.float64]
    vector: NDArray[Any]
    top_k: int
    min_weight: float


@dataclass(frozen=True, eq=False, repr=False)
class Match(Pictured):
    """What one query finds.

    Attributes:
        query: the query.
        mean: Σ weight · value over all keys, a float or an array of the values' shape; None for
            values that are neither.
        lse: the logarithm of ``Σ exp(similarity / temperature)``; at temperature 0 of the largest
            similarities alone, undivided.
        similarity, temperature: what the weights were computed with.
        size: how many keys the dictionary had.
        ranking: the listed keys; read them as ``items`` and ``weights``.

    >>> from atento import SoftDict
    >>> match = SoftDict({1.0: 10, 2.0: 20, 4.0: 40}).attend(2.0)
    >>> match
    Match(2.0 → 18.07: 2.0 57.4%, 1.0 34.8%, 4.0 7.8%)
    """

    query: Any
    mean: Any
    lse: float
    similarity: str
    temperature: float
    size: int
    ranking: Ranking

    @property
    def value(self) -> Any:
        """The weighted mean of all values; of objects, which have none, the ranked ``items``."""
        return self.items if self.mean is None else self.mean

    @cached_property
    def items(self) -> tuple[Item, ...]:
        """(key, value, weight) of the ``top_k`` strongest of at least ``min_weight``."""
        listed, top = self.ranking.listed, slice(self.ranking.top_k)
        strongest = zip(self.ranking.order[top], self.ranking.shares[top].tolist(), strict=True)
        return tuple(
            Item(listed.keys[at], listed.values[at], share)
            for at, share in strongest
            if share >= self.ranking.min_weight
        )

    @cached_property
    def weights(self) -> Mapping[Any, float]:
        """Weight by key, the strongest first: of all keys up to 1,000, else of the listed ones."""
        keys = self.ranking.listed.keys
        shares = zip(self.ranking.order, self.ranking.shares.tolist(), strict=True)
        return MappingProxyType({keys[at]: share for at, share in shares})

    @property
    def mass(self) -> float:
        """The part of all weight that ``items`` hold, from 0 to 1."""
        return min(1.0, sum(item.weight for item in self.items))

    def traced_keys(self) -> tuple[Any, ...]:
        """The keys that `trace` shows one by one, in its order."""
        return tuple(self.ranking.listed.keys[at] for at in self._traced()[0])

    def left_out(self) -> int:
        """How many keys are one together in `trace`: those that it does not show one by one."""
        return self.size - len(self._traced()[0])

    def trace(self) -> Trace:
        """The attention behind this match, step by step: one query, and the keys.

        Up to 100 keys are all there, in their order. Of more, the listed ones are, the strongest
        first, and at the end all others as one key: its score is the logarithm of their summed
        weights, its value their mean. So weights and output are those of the match. Objects, of
        which there is no mean, have one feature for each: the output is then the weights.

        Returns:
            The trace; float64.

        >>> from atento import SoftDict
        >>> match = SoftDict({1.0: 10, 2.0: 20, 4.0: 40}).attend(2.0)
        >>> match.trace()["weights"].value.round(3)
        array([[0.348, 0.574, 0.078]])
        """
        at, shares = self._traced()
        listed = self.ranking.listed
        query, keys = self._compared(listed.vectors[at])
        values = np.eye(len(at)) if listed.numbers is None else listed.numbers[at]
        warm = self.temperature or 1.0
        scale = dot_scale(self.similarity, keys.shape[1]) / warm
        bias = np.zeros((1, len(at)))
        if self.similarity == "distance":
            bias -= np.einsum("kd,kd->k", keys, keys) / (2 * warm)
        rest = 1 - shares.sum()
        if self.left_out() and rest > NEGLIGIBLE:
            keys, values, bias, shares = self._with_rest(query, keys, values, bias, shares, scale)
        given = bias if bias.any() else None
        mask = None if self.temperature else (shares > 0)[None]
        return trace(query, keys, values, scale=scale, bias=given, mask=mask)

    def _traced(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Which of the listed keys are shown one by one, and their weights."""
        if self.size <= MOST_TRACED:
            in_order = np.argsort(self.ranking.order)
            return self.ranking.order[in_order], self.ranking.shares[in_order]
        most = min(self.ranking.top_k, MOST_TRACED)
        return self.ranking.order[:most], self.ranking.shares[:most]

    def _compared(self, keys: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Query (1, d) and keys (key, d) whose product is compared, in float64."""
        query, keys = self.ranking.vector[None].astype(np.float64), keys.astype(np.float64)
        if self.similarity == "cosine":
            return unit_rows(query, "the query"), unit_rows(keys, "a key")
        if self.similarity == "distance":
            largest = max(np.abs(query).max(initial=0), np.abs(keys).max(initial=0))
            if largest**2 * len(query[0]) > 1e6 * (self.temperature or 1.0):
                return query - query, keys - query  # far from 0, squares would hide differences
        return query, keys

    def _with_rest(
        self,
        query: NDArray[Any],
        keys: NDArray[Any],
        values: NDArray[Any],
        bias: NDArray[Any],
        shares: NDArray[Any],
        scale: float,
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
        """One more key, which stands for all that are not shown."""
        rest = 1 - shares.sum()
        strongest = float((query @ keys[0]).item() * scale + bias[0, 0])
        keys = np.concatenate([keys, np.zeros((1, keys.shape[1]))])
        bias = np.append(bias, [[strongest + np.log(rest / shares[0])]], axis=1)
        if self.ranking.listed.numbers is None:
            values = np.eye(len(keys))
        else:
            missing = np.ravel(self.mean) - shares @ values
            values = np.concatenate([values, missing[None] / rest])
        return keys, values, bias, np.append(shares, rest)

    def __repr__(self) -> str:
        strongest = ", ".join(f"{shown(item.key)} {item.weight:.1%}" for item in self.items[:3])
        more = ", …" if self.size > 3 else ""
        value = f" → {_short(self.value)}" if self.mean is not None else ""
        return f"Match({shown(self.query)}{value}: {strongest or 'nothing'}{more})"


class Matches(Sequence[Match]):
    """What several queries find: a Match for each, in their order.

    Args:
        matches: one for each query.

    >>> import atento
    >>> lookup = atento.SoftDict({"one": 1.0, "two": 2.0})
    >>> matches = lookup.attend(["one", "two"])
    >>> type(matches).__name__, len(matches), matches[0].query
    ('Matches', 2, 'one')
    """

    def __init__(self, matches: Sequence[Match]) -> None:
        self._matches = tuple(matches)

    @overload
    def __getitem__(self, at: int) -> Match: ...

    @overload
    def __getitem__(self, at: slice) -> "Matches": ...

    def __getitem__(self, at: int | slice) -> "Match | Matches":
        return Matches(self._matches[at]) if isinstance(at, slice) else self._matches[at]

    def __len__(self) -> int:
        return len(self._matches)

    def __iter__(self) -> Iterator[Match]:
        return iter(self._matches)

    @property
    def value(self) -> Any:
        """The values of all: an array (query, …) where they are numbers, else a list."""
        values = [match.value for match in self]
        numeric = all(match.mean is not None for match in self)
        return np.array(values, np.float64) if numeric else values

    def __repr__(self) -> str:
        return "\n".join(["Matches(", *(f"  {match!r}," for match in self), ")"])


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"array of {value.shape}" if value.size > 4 else f"{np.round(value, 4)}"
