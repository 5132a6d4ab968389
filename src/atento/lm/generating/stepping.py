"""Stepping: one new token in each row, as torch's operations alone."""

from collections.abc import Sequence

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

    def step(self, tokens: Sequence[int]) -> Tensor:
        """The logits (batch, vocabulary) after one more token in each row."""
        model = self.model
        weight = model.token_embedding.weight
        x = weight[torch.tensor(tokens, device=weight.device)]
        x = x[0] if len(tokens) == 1 else x  # one row is a vector
        if model.position_embedding is not None:
            x = x + model.position_embedding.table[self.passed]
        place = torch.tensor([self.passed], device=weight.device) if self._rotary else None
        for layer, block in enumerate(self._blocks):
            x = block(x, lambda *made, layer=layer: self._attend(layer, place, *made))
        self.passed += 1
        norm = model.norm
        logits = model.logits_of(norm(x))
        return logits[None] if logits.ndim == 1 else logits

    def _attend(
        self, layer: int, place: Tensor | None, query: Tensor, key: Tensor, value: Tensor
    ) -> Tensor:
        """(batch, head · feature) or (head · feature,) -> the same, of all tokens in sight."""
        config = self.model.config
        shape = (-1, config.kv_heads, 1, config.head_dim)
        query = query.view(-1, config.num_heads, 1, config.head_dim)
        key, value = key.view(shape), value.view(shape)
        if self._rotary is not None:
            query, key = self._rotary.rotate(query, place), self._rotary.rotate(key, place)
        keys, values = self._keys[layer], self._values[layer]
        now = self.passed - self._before
        keys[:, :, now] = key[:, :, 0]
        values[:, :, now] = value[:, :, 0]
        first = 0 if config.window is None else max(0, now + 1 - config.window)
        made = functional.scaled_dot_product_attention(
            query,
            keys[:, :, first : now + 1],
            values[:, :, first : now + 1],
            enable_gqa=config.kv_heads != config.num_heads,
        )
        return made.flatten() if len(made) == 1 else made.flatten(1)


def _with_room(array: Tensor, room: int) -> Tensor:
    """(batch, head, token, feature) at the beginning of as many tokens as may come."""
    made = array.new_empty((*array.shape[:2], room, array.shape[-1]))
    made[:, :, : array.shape[-2]] = array
    return made
