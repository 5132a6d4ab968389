"""Attention as PyTorch modules: one mechanism per file, each with `forward` and `trace`."""
# ruff: noqa: E402 - a missing torch is asked for in words, before the modules import it

from atento._optional import require

require("torch", "for the modules of atento.nn")

from atento.nn.additive_attention import AdditiveAttention
from atento.nn.attention_head import AttentionHead
from atento.nn.causal_self_attention import CausalSelfAttention
from atento.nn.cross_attention import CrossAttention
from atento.nn.grouped_query_attention import GroupedQueryAttention
from atento.nn.kv_cache import KVCache
from atento.nn.learned_positions import LearnedPositions
from atento.nn.linear_attention import LinearAttention
from atento.nn.linear_state import LinearState
from atento.nn.multi_head_attention import MultiHeadAttention
from atento.nn.multi_head_latent_attention import MultiHeadLatentAttention
from atento.nn.multi_query_attention import MultiQueryAttention
from atento.nn.multiplicative_attention import MultiplicativeAttention
from atento.nn.relative_position_bias import RelativePositionBias
from atento.nn.self_attention import SelfAttention
from atento.nn.simplified_self_attention import SimplifiedSelfAttention

__all__ = [
    "AdditiveAttention",
    "AttentionHead",
    "CausalSelfAttention",
    "CrossAttention",
    "GroupedQueryAttention",
    "KVCache",
    "LearnedPositions",
    "LinearAttention",
    "LinearState",
    "MultiHeadAttention",
    "MultiHeadLatentAttention",
    "MultiQueryAttention",
    "MultiplicativeAttention",
    "RelativePositionBias",
    "SelfAttention",
    "SimplifiedSelfAttention",
]
