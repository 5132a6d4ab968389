"""What a statistic sees: one rectangle of the weights of some heads, and where it lies."""

from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

__all__ = ["Block", "Extent"]


@dataclass(frozen=True, eq=False)
class Extent:
    """The weights of one batch item that a statistic is folded over, before any of them is known.

    Attributes:
        heads, queries, keys: their numbers: weights are (head, query, key).
        first_query: the position of query 0 on the keys' axis, so that query i stands at key
            ``first_query + i`` (keys − queries when the last of both stand together).
        xp: the array namespace of all blocks (NumPy's, or torch's in array API terms).
        dtype, device: of the weights, and of the results.
        query_tokens, key_tokens: int64 token ids (query,) and (key,), or None when not given.
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

    def full(self, shape: tuple[int, ...], value: float) -> Any:
        """A new array of the weights' dtype."""
        return self.xp.full(shape, value, dtype=self.dtype, device=self.device)

    def sums(self, shape: tuple[int, ...]) -> Any:
        """Zeros to add up in: float64, so that hundreds of blocks lose nothing by rounding.

        (Apple's GPUs have no float64: there they are of the weights' dtype.)
        """
        dtype = self.dtype if str(self.device).startswith("mps") else self.xp.float64
        return self.xp.zeros(shape, dtype=dtype, device=self.device)

    def rounded(self, sums: Any) -> Any:
        """A copy of such sums in the weights' dtype."""
        return self.xp.astype(sums, self.dtype)


@dataclass(frozen=True, eq=False)
class Block:
    """Exact weights of queries × keys. Read only, and gone when `update` returns.

    Attributes:
        extent: of which this is a part.
        heads: which heads, counted within the extent (query heads).
        rows, cols: which queries and keys.
        weights: (head, query, key); exactly 0 where the mask hides, and in rows that see no key.
        log_weights: score − log-sum-exp, the same shape: the logarithm of the weight wherever that
            is not tiny (from −87 on in float32, −708 in float64); below and behind the mask some
            finite number, so that ``weights · log_weights`` is right everywhere.
        cache: what one statistic computed of this block and others may use, by name.
    """

    extent: Extent
    heads: range
    rows: range
    cols: range
    weights: Any
    log_weights: Any
    cache: dict[str, Any] = field(default_factory=dict)

    @property
    def at_queries(self) -> tuple[slice, slice]:
        """Where its queries lie in an array (head, query, ...) of the extent."""
        return _slice(self.heads), _slice(self.rows)

    @property
    def at_keys(self) -> tuple[slice, slice]:
        """Where its keys lie in an array (head, key, ...) of the extent."""
        return _slice(self.heads), _slice(self.cols)


def _slice(span: range) -> slice:
    return slice(span.start, span.stop)
