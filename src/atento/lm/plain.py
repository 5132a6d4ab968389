"""The Transformer as torch's operations alone: the same numbers in less time.

Modules check, cache, trace and are watched, which small models and single tokens feel: of one new
token they take more time than the products. Training on one device and decoding come this way where
nobody looks on; tests hold it to the modules. What is written here is what a block does, `attend`
excepted, which each caller brings.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from atento.equation import front
from atento.lm.blocks import Block, GELUFeedForward, SwiGLUFeedForward
from atento.lm.transformer import Transformer
from atento.nn import LearnedPositions, MultiHeadAttention
from atento.nn.heads import join_heads, split_heads
from atento.positions import DynamicNTKScaling

__all__ = ["Joined", "PlainBlock", "blocks_of", "is_plain", "plain_logits", "position_of"]

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Queries, keys and values, (..., head · feature) each, to the contexts of all heads beside each
other."""

KINDS = (
    Transformer,
    Block,
    GELUFeedForward,
    SwiGLUFeedForward,
    MultiHeadAttention,
    LearnedPositions,
    nn.Linear,
    nn.Embedding,
    nn.Dropout,
    nn.LayerNorm,
    nn.RMSNorm,
    nn.ModuleList,
)


@dataclass(frozen=True)
class PlainBlock:
    """One block's weights; those of queries, keys and values one above the other."""

    block: Block
    weight: Tensor
    bias: Tensor | None

    def __call__(self, x: Tensor, attend: Attend) -> Tensor:
        """(..., d_model) -> the same, as `Block.forward`."""
        block, attention = self.block, self.block.attention
        made = _linear(_norm(block.attention_norm, x), self.weight, self.bias)
        heads = attention.num_heads * attention.head_dim
        keys = attention.num_kv_heads * attention.head_dim
        query, key, value = torch.split(made, [heads, keys, keys], -1)
        x = x + _through(attention.output, attend(query, key, value))
        forward: Any = block.feed_forward
        if forward is None:
            return x
        h = _norm(block.feed_forward_norm, x)
        wide = _through(forward.expand, h)
        if isinstance(forward, GELUFeedForward):
            wide = functional.gelu(wide, approximate="tanh")
        else:
            wide = functional.silu(_through(forward.gate, h)) * wide
        return x + _through(forward.contract, wide)


def blocks_of(model: Transformer) -> list[PlainBlock]:
    """Every block of a model. The weights are put together now: gradients reach the model's own."""
    made = []
    block: Any
    for block in model.blocks:
        roles = [getattr(block.attention, role) for role in ("query", "key", "value")]
        biases = [role.bias for role in roles]
        bias = None if biases[0] is None else torch.cat(biases)
        made.append(PlainBlock(block, torch.cat([role.weight for role in roles]), bias))
    return made


class Joined:
    """Blocks for training, whose joined weights the optimizer's own are parts of.

    So no step puts weights together or takes gradients apart: both are the same memory.

    Args:
        model: of which `is_plain` holds; its weights of queries, keys and values move into one
            array each, and stay its own.
    """

    def __init__(self, model: Transformer) -> None:
        with torch.no_grad():
            self.blocks = blocks_of(model)
        self._parts: list[tuple[Tensor, nn.Parameter, slice]] = []
        for one in self.blocks:
            for kind, whole in (("weight", one.weight), ("bias", one.bias)):
                if whole is not None:
                    self._take(one.block, kind, whole.requires_grad_())

    def _take(self, block: Any, kind: str, whole: Tensor) -> None:
        begin = 0
        for role in ("query", "key", "value"):
            own = getattr(getattr(block.attention, role), kind)
            rows = slice(begin, begin := begin + len(own))
            own.data = whole.data[rows]
            self._parts.append((whole, own, rows))

    def hand_over(self) -> None:
        """Gradients that have come to the joined weights become those of the model's own."""
        for whole, own, rows in self._parts:
            own.grad = None if whole.grad is None else whole.grad[rows]
        for whole, _, _ in self._parts:
            whole.grad = None


def is_plain(model: Any, *, training: bool = False) -> bool:
    """Whether a model is what `Transformer` makes, with nobody looking on.

    Not so: while attention is captured, with hooks, with modules that were put in the place of
    others, with angles that depend on how many tokens there are; and in training, with dropout or
    a window, which belong to the engines.
    """
    if front.watcher is not None or torch.compiler.is_compiling():
        return False
    if not all(type(one) in KINDS and not _hooked(one) for one in model.modules()):
        return False
    config = model.config
    if isinstance(config.rotary_scaling, DynamicNTKScaling):
        return False
    return not training or (config.dropout == 0 and config.window is None)


def plain_logits(
    model: Transformer, ids: Tensor, blocks: Sequence[PlainBlock] | None = None
) -> Tensor:
    """``model(ids)``, of ids (batch, token) that are within the vocabulary and the context.

    Args:
        model: of which `is_plain` holds.
        ids: of the tokens.
        blocks: the model's own, where they have been put together already.
    """
    config = model.config
    rotary = position_of(model)

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        q, k, v = (
            split_heads(query, config.num_heads),
            split_heads(key, config.kv_heads),
            split_heads(value, config.kv_heads),
        )
        if rotary is not None:
            q, k = rotary.rotate(q), rotary.rotate(k)
        made = functional.scaled_dot_product_attention(
            q, k, v, is_causal=True, enable_gqa=config.kv_heads != config.num_heads
        )
        return join_heads(made)

    x = model.token_embedding(ids)
    if model.position_embedding is not None:
        x = x + model.position_embedding.table[: ids.shape[1]]
    for block in blocks_of(model) if blocks is None else blocks:
        x = block(x, attend)
    return model.logits_of(_norm(model.norm, x))


def position_of(model: Transformer) -> Any:
    """What turns queries and keys: a `Rotary`, or None."""
    first: Any = model.blocks[0]
    return first.attention.position


def _hooked(module: nn.Module) -> bool:
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


def _norm(norm: Any, x: Tensor) -> Tensor:
    if isinstance(norm, nn.LayerNorm):
        return functional.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
    return functional.rms_norm(x, norm.normalized_shape, norm.weight, norm.eps)


def _through(linear: Any, x: Tensor) -> Tensor:
    return _linear(x, linear.weight, linear.bias)


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if x.ndim > 1 or torch.is_grad_enabled():
        return functional.linear(x, weight, bias)
    # of one vector, a tenth faster on a CPU
    return torch.mv(weight, x) if bias is None else torch.addmv(bias, weight, x)
