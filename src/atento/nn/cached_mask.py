"""A mask as one call of a decoder sees it, which brings only the last tokens of a sequence."""

from typing import Any

from atento.masks import Causal, Explicit, Mask, Window, as_mask
from atento.masks.band import Band
from atento.masks.mask import Both, Either, Not, Tile

__all__ = ["Later", "cached_mask", "unaligned"]


def cached_mask(
    own: Mask | None, given: Any, *, queries: int, keys: int, passed: int, window: int | None
) -> Mask | None:
    """The mask of a call with a cache.

    Args:
        own: the module's mask. It speaks of the whole sequence, whatever part a call brings.
        given: the call's mask. It speaks of this call's queries and of all keys that have passed;
            where nothing is said, the last query stands at the last key.
        queries: how many the call scores.
        keys: how many they are scored against.
        passed: how many tokens have passed in all, this call's included.
        window: the cache's.
    """
    parts: list[Mask] = []
    if own is not None and not _hides_nothing(own, queries):
        parts.append(Later(own, passed - queries, passed - keys))
    if given is not None and not _hides_nothing(given, queries):
        parts.append(Later(as_mask(given).aligned("end"), 0, passed - keys))
    if window is not None and keys > window:
        parts.append(Window(left=window - 1, align="end"))
    whole = None
    for part in parts:
        whole = part if whole is None else whole & part
    return whole


def unaligned(mask: Mask) -> Mask | None:
    """The first rule within this one that leaves its alignment open; None when there is none."""
    if isinstance(mask, Causal | Window):
        return mask if mask.align is None else None
    if isinstance(mask, Both | Either):
        found = unaligned(mask.first)
        return unaligned(mask.second) if found is None else found
    if isinstance(mask, Not):
        return unaligned(mask.rule)
    return None


class Later(Mask):
    """The later part of a mask: its queries from ``rows`` on, its keys from ``cols`` on.

    >>> Later(Causal(), 2, 1).dense(2, 3).astype(int)
    array([[1, 1, 0],
           [1, 1, 1]])
    """

    def __init__(self, mask: Mask, rows: int, cols: int) -> None:
        self.mask, self.rows, self.cols = mask, rows, cols

    @property
    def leading(self) -> tuple[int, ...]:
        """The sizes that the mask itself brings."""
        return self.mask.leading

    def bind(self, shape: tuple[int, ...] | None) -> Mask:
        """Bind the whole mask, and take its later part."""
        if shape is None:
            return _later(self.mask.bind(None), self.rows, self.cols)
        *leading, Tq, Tk = shape
        whole = self.mask.bind((*leading, Tq + self.rows, Tk + self.cols))
        return _later(whole, self.rows, self.cols)

    def _evaluate(self, rows: range, cols: range) -> Tile:
        return self.bind(None).block(rows, cols)

    def __repr__(self) -> str:
        return f"{self.mask!r} from query {self.rows} and key {self.cols} on"


def _hides_nothing(mask: Any, queries: int) -> bool:
    """A causal rule from the one query that comes last: without it, engines need no mask."""
    return queries == 1 and isinstance(mask, Causal) and mask.align != "start"


class _LaterBound(Mask):
    """The same of a bound mask, where nothing simpler says it."""

    def __init__(self, mask: Mask, rows: int, cols: int) -> None:
        self.mask, self.rows, self.cols = mask, rows, cols

    @property
    def leading(self) -> tuple[int, ...]:
        return self.mask.leading

    def bind(self, shape: tuple[int, ...] | None) -> Mask:
        del shape
        return self

    def at(self, index: tuple[int, ...]) -> Mask:
        return _LaterBound(self.mask.at(index), self.rows, self.cols)

    def pairs(self, lengths: tuple[int, int], xp: Any, device: Any) -> Any:
        """All pairs at once, as an array library makes them."""
        whole = (lengths[0] + self.rows, lengths[1] + self.cols)
        made = xp.broadcast_to(self.mask.pairs(whole, xp, device), (*self.leading, *whole))
        return made[..., self.rows :, self.cols :]

    def _evaluate(self, rows: range, cols: range) -> Tile:
        return self.mask.block(
            range(rows.start + self.rows, rows.stop + self.rows),
            range(cols.start + self.cols, cols.stop + self.cols),
        )


def _later(bound: Mask, rows: int, cols: int) -> Mask:
    """The later part of a bound mask; a band stays a band, which engines know how to use."""
    if rows == cols == 0:
        return bound
    if isinstance(bound, Band):
        first, last = (
            None if side is None else side + rows - cols for side in (bound.first, bound.last)
        )
        return Band(first, last, bound.rule)
    if isinstance(bound, Both | Either):
        return type(bound)(_later(bound.first, rows, cols), _later(bound.second, rows, cols))
    if isinstance(bound, Not):
        return Not(_later(bound.rule, rows, cols))
    if isinstance(bound, Explicit):
        query, key = (
            slice(None) if size == 1 else slice(first, None)
            for size, first in zip(bound.array.shape[-2:], (rows, cols), strict=True)
        )
        return Explicit(bound.array[..., query, key])
    return _LaterBound(bound, rows, cols)
