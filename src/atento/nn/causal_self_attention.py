"""CausalSelfAttention: every token looks at itself and at what came before."""

from typing import Any

from atento.masks import Causal
from atento.nn.self_attention import SelfAttention

__all__ = ["CausalSelfAttention"]


class CausalSelfAttention(SelfAttention):
    """`SelfAttention` in which no token looks ahead: ``mask=Causal()``.

    Args:
        d_in: features of a token.
        d_out: features of queries, keys, values, and of the output.
        bias: whether the projections add one.
        options: those of `AttentionHead`, without mask. (A mask of the call is joined to the
            causal one: both must allow.)

    Shapes: x (token, d_in) or (batch, token, d_in) -> (..., token, d_out).

    Source: Vaswani et al. 2017 (arXiv 1706.03762), section 3.2.3; told step by step in S. Raschka,
    "Build a Large Language Model (From Scratch)", section 3.5.

    >>> import torch
    >>> head = CausalSelfAttention(3, 2)
    >>> head.trace(torch.ones(3, 3))["weights"].value.detach().round(decimals=4)
    tensor([[1.0000, 0.0000, 0.0000],
            [0.5000, 0.5000, 0.0000],
            [0.3333, 0.3333, 0.3333]])
    """

    def __init__(self, d_in: int, d_out: int, bias: bool = False, **options: Any) -> None:
        super().__init__(d_in, d_out, bias=bias, mask=Causal(), **options)
