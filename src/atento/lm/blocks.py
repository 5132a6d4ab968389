"""One block of a Transformer: attention and a feed-forward, each added to what came in."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from atento.lm.config import TransformerConfig
from atento.masks import Causal, Window
from atento.nn import MultiHeadAttention
from atento.nn.kv_cache import KVCache
from atento.positions import Rotary

__all__ = ["Block", "norm_of"]


def norm_of(config: TransformerConfig) -> nn.Module:
    """The norm over a token's features."""
    kind = nn.LayerNorm if config.norm == "layer" else nn.RMSNorm
    return kind(config.d_model, config.norm_epsilon)


def attention_of(config: TransformerConfig) -> MultiHeadAttention:
    """Causal attention, within a window where there is one."""
    mask: Any = Causal()
    if config.window is not None:
        mask = mask & Window(left=config.window - 1)
    position = None
    if config.position == "rotary":
        position = Rotary(base=config.rotary_base, scaling=config.rotary_scaling)
    return MultiHeadAttention(
        config.d_model,
        config.num_heads,
        num_kv_heads=config.num_kv_heads,
        head_dim=config.head_size,
        bias=config.bias,
        mask=mask,
        position=position,
        dropout=config.dropout,
    )


class GELUFeedForward(nn.Module):
    """``gelu(x W_expand) W_contract``; gelu by tanh, as in GPT-2."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.expand = nn.Linear(config.d_model, config.hidden_size, bias=config.has_forward_bias)
        self.contract = nn.Linear(config.hidden_size, config.d_model, bias=config.has_forward_bias)

    def forward(self, x: Tensor) -> Tensor:
        """(..., d_model) -> (..., d_model), each token for itself."""
        out: Tensor = self.contract(functional.gelu(self.expand(x), approximate="tanh"))
        return out


class SwiGLUFeedForward(nn.Module):
    """``(silu(x W_gate) ⊙ x W_expand) W_contract`` (Shazeer 2020, arXiv 2002.05202)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.d_model, config.hidden_size, bias=config.has_forward_bias)
        self.expand = nn.Linear(config.d_model, config.hidden_size, bias=config.has_forward_bias)
        self.contract = nn.Linear(config.hidden_size, config.d_model, bias=config.has_forward_bias)

    def forward(self, x: Tensor) -> Tensor:
        """(..., d_model) -> (..., d_model), each token for itself."""
        out: Tensor = self.contract(functional.silu(self.gate(x)) * self.expand(x))
        return out


class Block(nn.Module):
    """``x + attention(norm(x))``, then ``x + feed_forward(norm(x))``, where there is one."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.attention_norm = norm_of(config)
        self.attention = attention_of(config)
        self.dropout = nn.Dropout(config.dropout)
        self.feed_forward: nn.Module | None = None
        if config.feed_forward is not None:
            kinds = {"gelu": GELUFeedForward, "swiglu": SwiGLUFeedForward}
            self.feed_forward_norm = norm_of(config)
            self.feed_forward = kinds[config.feed_forward](config)

    def forward(self, x: Tensor, cache: KVCache | None = None, mask: Any = None) -> Tensor:
        """(batch, token, d_model) -> the same; mask: what may be seen besides causality."""
        x = x + self.dropout(self.attention(self.attention_norm(x), mask=mask, cache=cache))
        if self.feed_forward is not None:
            x = x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))
        return x
