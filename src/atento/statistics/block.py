"""What a statistic sees: one rectangle of the weights of some heads, and where it lies."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from importlib import import_module
from types import ModuleType
from typing import Any

from atento.statistics import reductions
from atento.statistics.reductions import RowBins

__all__ = ["Block", "Extent"]


@dataclass(frozen=True, eq=False)
class Extent:
    """The weights of one batch item that a statistic is folded over, before any of them is known.

    It can be pickled, so that parts folded in several processes can be merged.

    Attributes:
        heads, queries, keys: their numbers: weights are (head, query, key).
        first_query: the position of query 0 on the keys' axis, so that query i stands at key
            ``first_query + i`` (keys − queries when the last of both stand together).
        xp: the array namespace of all blocks (NumPy's, or torch's in array API terms).
        dtype, device: of the weights, and of the results.
        query_tokens, key_tokens: int64 token ids (query,) and (key,), or None when not given.
        first_head: which of the item's heads the first of these is, where they are some of them.
    """

    heads: int
    queries: int
    keys: int
    first_query: int
    xp: ModuleType
    dtype: Any
    device: Any
    query_tokens: Any = None
    key_tokens: Any = None
    first_head: int = 0

    def of_heads(self, heads: range) -> "Extent":
        """The part of it that some neighbouring heads are, counted within it."""
        return replace(self, heads=len(heads), first_head=self.first_head + heads.start)

    def full(self, shape: tuple[int, ...], value: float) -> Any:
        """A new array of the weights' dtype."""
        return self.xp.full(shape, value, dtype=self.dtype, device=self.device)

    def sums(self, shape: tuple[int, ...]) -> Any:
        """Zeros to add up in: float64, so that hundreds of blocks lose nothing by rounding.

        (Apple's GPUs have no float64: there they are of the weights' dtype.)
        """
        return self.xp.zeros(shape, dtype=self.sums_dtype, device=self.device)

    @property
    def sums_dtype(self) -> Any:
        """The dtype of `sums`."""
        return self.dtype if str(self.device).startswith("mps") else self.xp.float64

    def rounded(self, sums: Any) -> Any:
        """A copy of such sums in the weights' dtype."""
        return self.xp.astype(sums, self.dtype)

    def matches(self, other: "Extent") -> bool:
        """Whether parts over both speak of the same heads, queries and keys."""
        return self.place == other.place

    @property
    def place(self) -> tuple[int, int, int, int, int]:
        """Heads, queries, keys, the position of query 0, and which head is the first."""
        return self.heads, self.queries, self.keys, self.first_query, self.first_head

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "xp": self.xp.__name__}  # a module cannot be pickled

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, xp=import_module(state["xp"]))


class Block:
    """Exact weights of queries × keys. Read only, and gone when `update` returns.

    Reductions that several statistics need have names here. Each is computed when it is first
    asked for, and kept for the statistics that come after; an engine that makes them together with
    the weights hands them over.

    Args:
        log_weights: see the property; None: made of the weights when they are asked for.

    Attributes:
        extent: of which this is a part.
        heads: which heads, counted within the extent (query heads).
        rows, cols: which queries and keys.
        weights: (head, query, key); exactly 0 where the mask hides, and in rows that see no key.
        cache: what one statistic computed of this block and others may use, by name.

    >>> import numpy as np
    >>> extent = Extent(1, 2, 2, 0, np, np.float64, "cpu")
    >>> block = Block(extent, range(1), range(2), range(2), np.array([[[1.0, 0.0], [0.5, 0.5]]]))
    >>> block.columns[0]
    array([[1.5, 0.5]])
    """

    def __init__(
        self,
        extent: Extent,
        heads: range,
        rows: range,
        cols: range,
        weights: Any,
        log_weights: Any = None,
        cache: dict[Hashable, Any] | None = None,
    ) -> None:
        self.extent, self.heads, self.rows, self.cols = extent, heads, rows, cols
        self.weights, self._log_weights = weights, log_weights
        self.cache = {} if cache is None else cache

    @property
    def log_weights(self) -> Any:
        """Score − log-sum-exp, (head, query, key).

        The logarithm of the weight wherever that is not tiny (from −87 on in float32, −708 in
        float64); below and behind the mask some finite number, so that ``weights · log_weights`` is
        right everywhere.
        """
        if self._log_weights is None:
            self._log_weights = reductions.logarithms(self)
        return self._log_weights

    @property
    def at_queries(self) -> tuple[slice, slice]:
        """Where its queries lie in an array (head, query, ...) of the extent."""
        return _slice(self.heads), _slice(self.rows)

    @property
    def at_keys(self) -> tuple[slice, slice]:
        """Where its keys lie in an array (head, key, ...) of the extent."""
        return _slice(self.heads), _slice(self.cols)

    @property
    def negative_entropy(self) -> Any:
        """``Σ_j p_ij log p_ij`` over the block's keys, (head, query)."""
        return self._once("negative_entropy", reductions.negative_entropy)

    @property
    def largest(self) -> tuple[Any, Any]:
        """The largest weight of each row of the block, and the first key that has it.

        Both (head, query); keys are counted within the extent.
        """
        found: tuple[Any, Any] = self._once("largest", reductions.largest)
        return found

    @property
    def moments(self) -> Any:
        """``Σ_j p_ij x^n`` for n = 0, 1, 2, x counted from where the block's first query stands.

        (head, query, power), in the dtype of `Extent.sums`.
        """
        return self._once("moments", reductions.moments)

    def row_bins(self, height: int, first_row: int = 0) -> list[RowBins]:
        """Sums and maxima over queries, in bins of `height` queries of the extent.

        Query 0 stands at row `first_row` of the first bin.
        """
        found: list[RowBins] = self._once(
            ("row_bins", height, first_row),
            lambda block: reductions.row_bins(block, height, first_row),
        )
        return found

    @property
    def columns(self) -> tuple[Any, Any]:
        """``Σ_i p_ij`` and ``max_i p_ij`` over the block's queries: (head, key) each."""
        found: tuple[Any, Any] = self._once("columns", reductions.columns)
        return found

    def on_key(self, key: int) -> Any:
        """The weight on one key of the extent, (head, query); 0 where the block has it not."""
        return self._once(("on_key", key), lambda block: reductions.on_key(block, key))

    def diagonal(self, ahead: int) -> Any:
        """The weight on the key that stands so far ahead of each query, (head, query).

        0 where the block has not that key.
        """
        return self._once(("diagonal", ahead), lambda block: reductions.diagonal(block, ahead))

    def _once(self, name: Hashable, compute: Callable[["Block"], Any]) -> Any:
        if name not in self.cache:
            self.cache[name] = compute(self)
        return self.cache[name]


def _slice(span: range) -> slice:
    return slice(span.start, span.stop)
