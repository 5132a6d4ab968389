"""SelfAttention: every token looks at all of its own sequence, through trained projections."""

from typing import Any

from atento.nn.attention_head import AttentionHead

__all__ = ["SelfAttention"]


class SelfAttention(AttentionHead):
    """One head over its own sequence: ``softmax(x W_query (x W_key)ᵀ / √d_out) x W_value``.

    Args:
        d_in: features of a token.
        d_out: features of queries, keys, values, and of the output.
        bias: whether the projections add one.
        options: those of `AttentionHead`.

    ``state_dict``: ``query.weight``, ``key.weight``, ``value.weight``, each (d_out, d_in), and
    their ``.bias``.

    Source: Vaswani et al. 2017 (arXiv 1706.03762), section 3.2.1; told step by step in S. Raschka,
    "Build a Large Language Model (From Scratch)", section 3.4.

    >>> import torch
    >>> SelfAttention(3, 2)(torch.ones(6, 3)).shape
    torch.Size([6, 2])
    """

    def __init__(self, d_in: int, d_out: int, bias: bool = False, **options: Any) -> None:
        super().__init__(d_in, d_out, bias=bias, **options)
