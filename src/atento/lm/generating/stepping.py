"""Stepping: one new token in each row, or a few in one, as torch's operations alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from atento.lm.plain import blocks_of, position_of
from atento.lm.transformer import Transformer
from atento.nn import KVCache

__all__ = ["Stepper"]


class Stepper:
    """A model whose prompts have been read, token by token from there on.

    Args:
        model: one of which `atento.lm.plain.is_plain` holds, in evaluation mode.
        caches: of the prompts, which are of one length; they are read, and left as they are.
    """

    def __init__(self, model: Transformer, caches: Sequence[KVCache]) -> None:
        self.model = model
        self.passed = caches[0].num_tokens
        """How many tokens have been read: the position of the next one."""
        self._blocks = blocks_of(model)
        kept = caches[0].length
        self._before = self.passed - kept  # tokens that have left the window
        room = kept + model.config.context - self.passed
        self._keys = [_with_room(cache.keys, room) for cache in caches]
        self._values = [_with_room(cache.values, room) for cache in caches]
        self._rotary = position_of(model)

    @property
    def room(self) -> int:
        """How many more tokens the context holds."""
        return self.model.config.context - self.passed

    def step(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """The logits (batch, vocabulary) after rows that have grown by one token each."""
        return self._logits([row[-1] for row in rows], 1)

    def read(self, tokens: Sequence[int]) -> Tensor:
        """The logits (token, vocabulary) after each of some more tokens of the only row."""
        return self._logits(tokens, len(tokens))

    def forget(self, tokens: int) -> None:
        """As if so many of the last tokens had not been read."""
        self.passed -= tokens

    def _logits(self, tokens: Sequence[int], new: int) -> Tensor:
        """Of ``new`` tokens for each row."""
        model = self.model
        weight = model.token_embedding.weight
        x = weight[torch.tensor(tokens, device=weight.device)]
        if model.position_embedding is not None:
            x = x + model.position_embedding.table[self.passed : self.passed + new]
        x = x[0] if len(tokens) == 1 else x  # one token is a vector
        span = self._span(new, weight.device)
        for layer, block in enumerate(self._blocks):
            x = block(x, lambda *made, layer=layer: self._attend(layer, span, *made))
        self.passed += new
        logits = model.logits_of(model.norm(x))
        return logits[None] if logits.ndim == 1 else logits

    def _span(self, new: int, device: torch.device) -> "Span":
        """Where the new tokens stand, and what they see."""
        window = self.model.config.window
        begin = self.passed - self._before
        first = 0 if window is None else max(0, begin + 1 - window)
        place = None
        if self._rotary is not None:
            place = torch.arange(self.passed, self.passed + new, device=device)
        seen = None
        if new > 1:
            query = torch.arange(begin, begin + new, device=device)[:, None]
            key = torch.arange(first, begin + new, device=device)
            seen = key <= query
            seen = seen if window is None else seen & (key > query - window)
        return Span(first, begin, begin + new, place, seen)

    def _attend(
        self, layer: int, span: "Span", query: Tensor, key: Tensor, value: Tensor
    ) -> Tensor:
        """(token, head · feature) or (head · feature,) -> the same, of all tokens in sight."""
        config = self.model.config
        new = span.end - span.begin
        query = query.view(-1, new, config.num_heads, config.head_dim).transpose(1, 2)
        shape = (-1, new, config.kv_heads, config.head_dim)
        key, value = key.view(shape).transpose(1, 2), value.view(shape).transpose(1, 2)
        if self._rotary is not None:
            query = self._rotary.rotate(query, span.place)
            key = self._rotary.rotate(key, span.place)
        keys, values = self._keys[layer], self._values[layer]
        keys[:, :, span.begin : span.end] = key
        values[:, :, span.begin : span.end] = value
        made = functional.scaled_dot_product_attention(
            query,
            keys[:, :, span.first : span.end],
            values[:, :, span.first : span.end],
            attn_mask=span.seen,
            enable_gqa=config.kv_heads != config.num_heads,
        )
        made = made.transpose(1, 2).flatten(2).flatten(0, 1)
        return made[0] if len(made) == 1 else made


@dataclass(frozen=True)
class Span:
    """New tokens among those that are kept: from ``begin`` to ``end``, seeing from ``first`` on."""

    first: int
    begin: int
    end: int
    place: Tensor | None
    """Their positions (token,), which turn queries and keys."""
    seen: Tensor | None
    """(query, key), True where it is seen; None: all."""


def _with_room(array: Tensor, room: int) -> Tensor:
    """(batch, head, token, feature) at the beginning of as many tokens as may come."""
    made = array.new_empty((*array.shape[:2], room, array.shape[-1]))
    made[:, :, : array.shape[-2]] = array
    return made
