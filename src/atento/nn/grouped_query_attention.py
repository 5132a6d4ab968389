"""GroupedQueryAttention: several query heads share one key head."""

from typing import Any

from atento.nn.multi_head_attention import MultiHeadAttention

__all__ = ["GroupedQueryAttention"]


class GroupedQueryAttention(MultiHeadAttention):
    """`MultiHeadAttention` whose ``num_heads`` query heads share ``num_kv_heads`` key heads.

    Consecutive query heads form a group: query head h looks at key head
    ``h // (num_heads // num_kv_heads)``. The cache shrinks by the size of a group.

    Args:
        d_model: features of a token.
        num_heads: query heads; a multiple of num_kv_heads.
        num_kv_heads: heads of keys and values.
        options: those of `MultiHeadAttention`.

    Source: Ainslie et al. 2023 (arXiv 2305.13245), section 2.2.

    >>> GroupedQueryAttention(12, num_heads=6, num_kv_heads=2).key
    Linear(in_features=12, out_features=4, bias=True)
    """

    def __init__(self, d_model: int, num_heads: int, num_kv_heads: int, **options: Any) -> None:
        super().__init__(d_model, num_heads, num_kv_heads=num_kv_heads, **options)
