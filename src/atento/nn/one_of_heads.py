"""What one head of many sees: its part of a mask, and of the positions' bias; and back again."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

from torch import nn

from atento._errors import InputError
from atento.masks import Causal, Coverage, Explicit, Mask, Prefix, Rule, Window
from atento.masks.mask import Both, Either, Not, Tile

__all__ = ["head_of_mask", "head_of_position", "mask_of_heads", "position_of_heads"]


def head_of_mask(mask: Mask | None, num_heads: int, head: int) -> Mask | None:
    """The mask that one of the heads sees."""
    if mask is None or not _differs_by_head(mask):
        return mask
    return _HeadOfMask(mask, num_heads, head)


def head_of_position(position: Any, num_heads: int, head: int) -> Any:
    """The positions that one of the heads sees."""
    if hasattr(position, "bind"):
        return _HeadOfBias(position, num_heads, head)
    return deepcopy(position) if isinstance(position, nn.Module) else position


def mask_of_heads(masks: Sequence[Mask | None]) -> Mask | None:
    """The mask of heads that see it together: undoes `head_of_mask`.

    Raises:
        InputError: when there is no such mask.
    """
    first = masks[0]
    if all(isinstance(mask, _HeadOfMask) for mask in masks):
        parts = [mask for mask in masks if isinstance(mask, _HeadOfMask)]
        if [(part.num_heads, part.head) for part in parts] == [
            (len(parts), head) for head in range(len(parts))
        ] and all(_same(part.mask, parts[0].mask) for part in parts):
            return parts[0].mask
    elif all(_same(mask, first) for mask in masks):
        return first
    raise InputError(
        f"the heads must share one mask; got {', '.join(map(repr, masks))}. Make them with the "
        "same mask object, or with none, and pass the mask at the call."
    )


def position_of_heads(positions: Sequence[Any]) -> Any:
    """The positions of heads that see them together: undoes `head_of_position`.

    Raises:
        InputError: when there are no such positions.
    """
    first = positions[0]
    if all(isinstance(position, _HeadOfBias) for position in positions):
        if [(part.num_heads, part.head) for part in positions] == [
            (len(positions), head) for head in range(len(positions))
        ] and all(part.rule is first.rule for part in positions):
            return first.rule
    elif not hasattr(first, "bind") and all(
        position is first or (not isinstance(first, nn.Module) and position == first)
        for position in positions
    ):
        return first
    raise InputError(
        f"the heads must share one position=; got {', '.join(map(repr, positions))}. Make them "
        "with the same object, or join them without and set it on the joined module."
    )


class _HeadOfMask(Mask):
    """One head's part of a mask, as a mask for one head."""

    def __init__(self, mask: Mask, num_heads: int, head: int) -> None:
        self.mask, self.num_heads, self.head = mask, num_heads, head

    @property
    def leading(self) -> tuple[int, ...]:
        whole = self.mask.leading
        return (*whole[:-1], 1) if whole else ()

    def bind(self, shape: tuple[int, ...] | None) -> Mask:
        if shape is None:
            return _HeadOfMask(self.mask.bind(None), self.num_heads, self.head)
        *batch, _, Tq, Tk = shape
        whole = self.mask.bind((*batch, self.num_heads, Tq, Tk))
        return _HeadOfMask(whole, self.num_heads, self.head)

    def at(self, index: tuple[int, ...]) -> Mask:
        return self.mask.at((*index[:-1], self.head))

    def pairs(self, lengths: tuple[int, int], xp: Any, device: Any) -> Any:
        """All pairs at once, as an array library makes them."""
        return self._part(self.mask.pairs(lengths, xp, device))

    def _evaluate(self, rows: range, cols: range) -> Tile:
        tile = self.mask.block(rows, cols)
        return tile if isinstance(tile, Coverage) else self._part(tile)

    def _part(self, pairs: Any) -> Any:
        if pairs.ndim < 3 or pairs.shape[-3] == 1:
            return pairs
        return pairs[..., self.head : self.head + 1, :, :]

    def __repr__(self) -> str:
        return f"{self.mask!r} for head {self.head} of {self.num_heads}"


class _HeadOfBias:
    """One head's part of a bias rule, as a rule for one head."""

    def __init__(self, rule: Any, num_heads: int, head: int) -> None:
        self.rule, self.num_heads, self.head = rule, num_heads, head

    def aligned(self, align: str) -> "_HeadOfBias":
        """The same with its alignment fixed."""
        return _HeadOfBias(self.rule.aligned(align), self.num_heads, self.head)

    def bind(self, shape: tuple[int, ...], xp: Any, device: Any, dtype: Any) -> Any:
        """The head's own values of the distance: (..., 1, n)."""
        *batch, _, Tq, Tk = shape
        whole = self.rule.bind((*batch, self.num_heads, Tq, Tk), xp, device, dtype)
        return replace(whole, values=whole.values[..., self.head : self.head + 1, :])

    def __repr__(self) -> str:
        return f"{self.rule!r} for head {self.head} of {self.num_heads}"


def _differs_by_head(mask: Mask) -> bool:
    if isinstance(mask, Explicit):
        return bool(mask.leading) and mask.leading[-1] > 1
    if isinstance(mask, Both | Either):
        return _differs_by_head(mask.first) or _differs_by_head(mask.second)
    if isinstance(mask, Not):
        return _differs_by_head(mask.rule)
    return isinstance(mask, Rule | _HeadOfMask)


def _same(mask: Mask | None, other: Mask | None) -> bool:
    """Whether two masks are one rule, as far as that can be told."""
    if mask is other:
        return True
    if type(mask) is not type(other):
        return False
    if isinstance(mask, Both | Either) and isinstance(other, Both | Either):
        return _same(mask.first, other.first) and _same(mask.second, other.second)
    if isinstance(mask, Not) and isinstance(other, Not):
        return _same(mask.rule, other.rule)
    return isinstance(mask, Causal | Window | Prefix) and repr(mask) == repr(other)
