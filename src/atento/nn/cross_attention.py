"""CrossAttention: the tokens of one sequence look at those of another."""

from typing import Any

from torch import Tensor

from atento._errors import InputError, ShapeError
from atento.nn.cached_mask import unaligned
from atento.nn.checks import check_input
from atento.nn.kv_cache import KVCache
from atento.nn.multi_head_attention import MultiHeadAttention
from atento.nn.recorder import Silent

__all__ = ["CrossAttention"]


class CrossAttention(MultiHeadAttention):
    """`MultiHeadAttention` whose keys and values come from another sequence.

    ``Q = query_in W_query``, ``K = key_in W_key``, ``V = value_in W_value``, where value_in is
    key_in when left out: a decoder's queries over an encoder's states.

    Args:
        d_model: features of query_in.
        num_heads: query heads.
        kdim, vdim: features of key_in (d_model when left out) and value_in (kdim).
        options: those of `MultiHeadAttention`. A `Causal` or `Window` mask must say its ``align=``:
            two sequences have no common diagonal of themselves.

    With a ``cache``, the first call projects key_in and keeps its keys and values; later calls
    leave key_in out. (Then there are no positions: the cache counts keys, not queries.)

    Source: Vaswani et al. 2017 (arXiv 1706.03762), section 3.2.3, encoder-decoder attention.

    >>> import torch
    >>> attention = CrossAttention(d_model=12, num_heads=3, kdim=7)
    >>> attention(torch.ones(2, 5, 12), torch.ones(2, 11, 7)).shape
    torch.Size([2, 5, 12])
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        *,
        kdim: int | None = None,
        vdim: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(d_model, num_heads, kdim=kdim, vdim=vdim, **options)

    def _check_alignment(self, mask: Any) -> None:
        open_rule = unaligned(mask)
        if open_rule is not None:
            raise ShapeError(
                f"CrossAttention: {open_rule!r} must say align=, since queries and keys are of two "
                'sequences. align="start": query i stands at key i. align="end": the last query '
                "stands at the last key."
            )

    def _checked_mask(self, mask: Any) -> Any:
        mask = super()._checked_mask(mask)
        self._check_alignment(mask)
        return mask

    def _check_cache(self, cache: Any, key_in: Any, value_in: Any) -> None:
        super()._check_cache(cache, None, None)
        if self.position is not None or cache.window is not None:
            what = "positions" if self.position is not None else "a window"
            raise InputError(
                f"CrossAttention: a cache keeps all keys of the other sequence for any queries, "
                f"and does not go with {what}. Use it without, or pass key_in at every call."
            )
        if cache.num_tokens and (key_in is not None or value_in is not None):
            raise InputError(
                f"CrossAttention: the cache holds {cache.length} keys already: leave key_in and "
                "value_in out, or reset() it for another sequence."
            )

    def _inputs(
        self,
        r: Silent,
        query_in: Any,
        key_in: Any,
        value_in: Any,
        cache: KVCache | None,
        start: int,
    ) -> tuple[Any, Any, Any]:
        name = self._called
        if cache is not None and cache.num_tokens:
            check_input(name, "query_in", query_in, self.d_model, self.query)
            return query_in, None, None
        if key_in is None:
            raise InputError(
                f"{name}: key_in, the other sequence, is missing: pass module(query_in, key_in). "
                "(Self-attention is MultiHeadAttention.)"
            )
        return super()._inputs(r, query_in, key_in, value_in, cache, start)

    def _projections(
        self,
        r: Silent,
        query_in: Tensor,
        key_in: Any,
        value_in: Any,
        cache: KVCache | None,
        start: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        if key_in is not None or cache is None:
            return super()._projections(r, query_in, key_in, value_in, cache, start)
        query = self._projected(r, "query", query_in, self.num_heads)
        query = self._normalized(r, "queries", query, self.query_norm)
        return query, cache.keys, cache.values

    def _whole_mask(self, query: Tensor, key: Tensor, mask: Any, cache: KVCache | None) -> Any:
        del cache  # it holds the whole other sequence: nothing is to be shifted
        return super()._whole_mask(query, key, mask, None)
