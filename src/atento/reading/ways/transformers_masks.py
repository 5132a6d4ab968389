"""The rule that transformers makes a mask tensor from, by how its function is put together.

`masking_utils` builds a mask from small functions (causal, sliding window, padding, packed, …) and
joins them; each carries its numbers in its closure. So the rule is read, not guessed, and then
compared with rows of the tensor. A function that is not known is asked tile by tile.
"""

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
import torch

from atento._arrays import to_numpy
from atento.masks import Causal, Coverage, KeyPadding, Mask, Rule, Segments, Window
from atento.masks.band import Band
from atento.reading.watching import KnownMask

__all__ = ["known_mask"]

MODULE = "transformers.masking_utils"
EVERYTHING = Causal() | ~Causal()
"""Stands, by identity, for "everybody sees everybody", where None would say "not known"."""


def known_mask(made: torch.Tensor, asked: dict[str, Any]) -> KnownMask | None:
    """The rule of a mask that was made; None where the tensor is better read itself.

    Args:
        made: (batch, 1, query, key).
        asked: the keywords that the mask function was called with.
    """
    q_offset, kv_offset = int(asked.get("q_offset", 0)), int(asked.get("kv_offset", 0))
    lengths = Lengths(asked["q_length"], asked["kv_length"], q_offset, kv_offset)
    function = asked.get("mask_function") or _default()
    rule = _rule(function, lengths)
    if rule is None:
        if asked.get("use_vmap"):  # not known to take index arrays
            return None
        rule = Rule(_asked(function, lengths))
    rule = _and(rule, _padding(asked.get("attention_mask"), lengths))
    if not _says(rule, made):
        return None
    return KnownMask(None if rule is EVERYTHING else rule, q_offset - kv_offset)


class Lengths:
    """How many queries and keys there are, and where the first of each stands."""

    def __init__(self, queries: int, keys: int, q_offset: int, kv_offset: int) -> None:
        self.queries, self.keys = int(queries), int(keys)
        self.q_offset, self.kv_offset = q_offset, kv_offset

    @property
    def offset(self) -> int:
        """The key that stands under query 0."""
        return self.q_offset - self.kv_offset

    def band(self, left: int | None, right: int | None) -> Mask:
        """The keys from ``left`` before to ``right`` after a query."""
        align: Any = None
        if self.queries != self.keys:
            align = {0: "start", self.keys - self.queries: "end"}.get(self.offset)
        plain = Causal(align) if (left, right) == (None, 0) else Window(left, right, align)
        if self.offset == (self.keys - self.queries if align == "end" else 0):
            return plain
        first = None if left is None else self.offset - left
        return Band(first, None if right is None else self.offset + right, plain)


def _default() -> Callable[..., Any]:
    from transformers.masking_utils import causal_mask_function

    return causal_mask_function


def _rule(function: Any, lengths: Lengths) -> Mask | None:
    """The rule of one function; None where it is not known."""
    if getattr(function, "__module__", None) != MODULE:
        return None
    name = function.__qualname__.removesuffix(".<locals>.inner_mask")
    held = {}
    if function.__closure__:
        cells = (cell.cell_contents for cell in function.__closure__)
        held = dict(zip(function.__code__.co_freevars, cells, strict=True))
    make = RULES.get(name)
    return None if make is None else make(lengths, **held)


def _causal(lengths: Lengths) -> Mask:
    return lengths.band(None, 0)


def _bidirectional(lengths: Lengths) -> Mask:
    del lengths
    return EVERYTHING


def _window(lengths: Lengths, sliding_window: int) -> Mask | None:
    return lengths.band(sliding_window - 1, None) if sliding_window >= 1 else None


def _window_of_both_sides(lengths: Lengths, sliding_window: int) -> Mask:
    return lengths.band(sliding_window, sliding_window)


def _chunks(lengths: Lengths, chunk_size: int, left_padding: torch.Tensor) -> Mask:
    left = to_numpy(left_padding.detach()).reshape(-1, 1)
    query = np.arange(lengths.queries) + lengths.q_offset
    key = np.arange(lengths.keys) + lengths.kv_offset
    return Segments((query - left) // chunk_size, (key - left) // chunk_size)


def _packed(lengths: Lengths, packed_sequence_mask: torch.Tensor) -> Mask | None:
    ids = to_numpy(packed_sequence_mask.detach()).copy()
    if lengths.offset or not ids.shape[-1] == lengths.queries == lengths.keys:
        return None
    return Segments(ids)


def _all_of(lengths: Lengths, mask_functions: tuple[Any, ...]) -> Mask | None:
    if _is_packed_and_remapped(mask_functions):
        # Within one sequence positions rise by 1, so that distances are those of the indices; and
        # pairs of different sequences are hidden by the other function.
        packed, remapped = mask_functions
        mask_functions = (packed, remapped.__closure__[0].cell_contents)
    rules = [_rule(function, lengths) for function in mask_functions]
    if any(rule is None for rule in rules):
        return None
    return reduce(_and, (rule for rule in rules if rule is not None))


def _is_packed_and_remapped(functions: tuple[Any, ...]) -> bool:
    names = [getattr(function, "__qualname__", "").partition(".")[0] for function in functions]
    return (
        names == ["packed_sequence_mask_function", "remap_positions_for_packed_sequence"]
        and functions[1].__code__.co_freevars[0] == "mask_function"
    )


def _any_of(lengths: Lengths, mask_functions: tuple[Any, ...]) -> Mask | None:
    rules = [_rule(function, lengths) for function in mask_functions]
    if any(rule is None for rule in rules):
        return None
    if EVERYTHING in rules:
        return EVERYTHING
    return reduce(lambda one, other: one | other, (rule for rule in rules if rule is not None))


def _and(first: Mask, second: Mask | None) -> Mask:
    if second is None or second is EVERYTHING:
        return first
    return second if first is EVERYTHING else first & second


RULES: dict[str, Callable[..., Mask | None]] = {
    "causal_mask_function": _causal,
    "bidirectional_mask_function": _bidirectional,
    "sliding_window_overlay": _window,
    "sliding_window_bidirectional_overlay": _window_of_both_sides,
    "chunked_overlay": _chunks,
    "packed_sequence_mask_function": _packed,
    "and_masks.<locals>.and_mask": _all_of,
    "or_masks.<locals>.or_mask": _any_of,
}
"""By the name of the function that makes the condition; its closure gives the keywords."""


def _padding(keep: torch.Tensor | None, lengths: Lengths) -> Mask | None:
    """(batch, token) of all tokens so far, cut to the keys that are there."""
    if keep is None:
        return None
    array = to_numpy(keep.detach().to(torch.bool))
    array = array[:, lengths.kv_offset : lengths.kv_offset + lengths.keys]
    missing = lengths.keys - array.shape[1]
    array = np.pad(array, ((0, 0), (0, missing)))
    return None if array.all() else KeyPadding(array)


def _asked(function: Any, lengths: Lengths) -> Callable[..., Any]:
    """The function itself, for index arrays of NumPy; all heads share the mask of head 0."""

    def attends(batch: Any, head: Any, query: Any, key: Any) -> Any:
        batch, head = torch.as_tensor(batch), torch.zeros_like(torch.as_tensor(head))
        query = torch.as_tensor(query) + lengths.q_offset
        with torch._C.DisableTorchFunction():
            seen = function(batch, head, query, torch.as_tensor(key) + lengths.kv_offset)
        return to_numpy(seen)

    attends.__name__ = getattr(function, "__name__", "attends")
    return attends


def _says(rule: Mask, made: torch.Tensor) -> bool:
    """Whether the rule has the rows of the tensor: the first, the last, and some between."""
    queries, keys = made.shape[-2:]
    if rule is EVERYTHING:
        return bool((made if made.dtype == torch.bool else made == 0).all())
    bound = rule.bind(tuple(made.shape))
    for row in sorted({0, queries // 3, queries // 2, max(queries - 2, 0), queries - 1}):
        given = made[:, :, row]
        expected = to_numpy(given if given.dtype == torch.bool else given == 0)
        tile = bound.block(range(row, row + 1), range(keys))
        seen = tile.value if isinstance(tile, Coverage) else tile[..., 0, :]
        if not np.array_equal(np.broadcast_to(seen, expected.shape), expected):
            return False
    return True
