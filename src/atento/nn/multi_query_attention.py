"""MultiQueryAttention: all query heads share one key head."""

from typing import Any

from atento.nn.multi_head_attention import MultiHeadAttention

__all__ = ["MultiQueryAttention"]


class MultiQueryAttention(MultiHeadAttention):
    """`MultiHeadAttention` whose query heads all look at the same keys and values.

    Args:
        d_model: features of a token.
        num_heads: query heads.
        options: those of `MultiHeadAttention`, without num_kv_heads, which is 1.

    Source: Shazeer 2019 (arXiv 1911.02150), section 3.

    >>> MultiQueryAttention(12, num_heads=6).key
    Linear(in_features=12, out_features=2, bias=True)
    """

    def __init__(self, d_model: int, num_heads: int, **options: Any) -> None:
        super().__init__(d_model, num_heads, num_kv_heads=1, **options)
