"""Linear attention: its equation between projections, with O(T) work and memory."""

from typing import Any

import torch
from torch import Tensor, nn

from atento.equation.on_torch.autocast import without_autocast
from atento.masks import KeyPadding
from atento.nn.checks import check_input, check_same_tokens, head_size, shared_heads, whole
from atento.nn.heads import join_heads, split_heads
from atento.nn.linear_equation import HALVES, FeatureMap, feature_function, linear_attention
from atento.nn.linear_state import LinearState
from atento.nn.recorder import SILENT, Recorder, Silent
from atento.records import Trace

__all__ = ["LinearAttention"]


class LinearAttention(nn.Module):
    """Multi-head linear attention: `linear_attention` between four projections.

    Args:
        d_model: size of the inputs and the output.
        num_heads: query heads.
        num_kv_heads: key heads, each shared by consecutive query heads; ``num_heads`` if left out.
        head_dim: size of a query, key and value; ``d_model / num_heads`` if left out.
        kdim, vdim: features of key_in (d_model when left out) and value_in (kdim).
        causal: no query looks ahead.
        feature_map: φ, as in `linear_attention`; an `nn.Module` is trained with the rest.
        bias: biases in the query, key and value projections.
        output_bias: and in the output projection; as ``bias`` if left out.
        device, dtype: of the parameters.

    ``state_dict``: ``query.weight`` (num_heads · head_dim, d_model), ``key.weight`` (num_kv_heads
    · head_dim, kdim), ``value.weight`` (num_kv_heads · head_dim, vdim), ``output.weight``
    (d_model, num_heads · head_dim), each with its ``.bias``; and ``feature_map.*`` where that is
    a module.

    Source: Katharopoulos et al. 2020 (arXiv 2006.16236).

    >>> layer = LinearAttention(8, 2, causal=True)
    >>> layer(torch.zeros(3, 5, 8)).shape
    torch.Size([3, 5, 8])
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        *,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        kdim: int | None = None,
        vdim: int | None = None,
        causal: bool = False,
        feature_map: FeatureMap = "elu+1",
        bias: bool = True,
        output_bias: bool | None = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        feature_function(feature_map)  # which refuses what is none
        self.d_model = whole(owner, "d_model", d_model)
        self.num_heads = whole(owner, "num_heads", num_heads)
        self.num_kv_heads = self.num_heads
        if num_kv_heads is not None:
            shared = whole(owner, "num_kv_heads", num_kv_heads)
            self.num_kv_heads = shared_heads(owner, self.num_heads, shared)
        if head_dim is None:
            head_dim = head_size(owner, self.d_model, self.num_heads)
        self.head_dim = whole(owner, "head_dim", head_dim)
        self.kdim = self.d_model if kdim is None else whole(owner, "kdim", kdim)
        self.vdim = self.kdim if vdim is None else whole(owner, "vdim", vdim)
        self.causal, self.feature_map = causal, feature_map
        width, kv_width = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        if output_bias is None:
            output_bias = bias
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        self.query = nn.Linear(self.d_model, width, bias=bias, **made)
        self.key = nn.Linear(self.kdim, kv_width, bias=bias, **made)
        self.value = nn.Linear(self.vdim, kv_width, bias=bias, **made)
        self.output = nn.Linear(width, self.d_model, bias=output_bias, **made)

    def forward(
        self,
        query_in: Tensor,
        key_in: Tensor | None = None,
        value_in: Tensor | None = None,
        *,
        mask: KeyPadding | None = None,
        cache: LinearState | None = None,
    ) -> Tensor:
        """Output (batch, query, d_model), or (query, d_model) for inputs without a batch.

        Args:
            query_in: (batch, query, d_model), or (query, d_model).
            key_in: (batch, key, kdim); ``query_in`` when left out.
            value_in: (batch, key, vdim); ``key_in`` when left out.
            mask: `KeyPadding`: which keys are real tokens.
            cache: what earlier tokens left behind, as `linear_attention`'s ``state``.

        Raises:
            ShapeError, DTypeError, InputError: which argument, what was expected, what came.
        """
        return self._attend(SILENT, query_in, key_in, value_in, mask, cache)

    def trace(
        self,
        query_in: Tensor,
        key_in: Tensor | None = None,
        value_in: Tensor | None = None,
        *,
        mask: KeyPadding | None = None,
        cache: LinearState | None = None,
    ) -> Trace:
        """`forward`, with every step kept, and beside them the weights that are never made there.

        The steps: the projections, queries, keys, values, query_features and key_features (φ),
        scores, masked, weights, contexts, concatenated and output. With a cache, the weights of
        earlier keys are known only as a sum, and the rows of those that are shown add up to less
        than 1.
        """
        recorder = Recorder()
        self._attend(recorder, query_in, key_in, value_in, mask, cache)
        return recorder.trace()

    def _attend(
        self,
        r: Silent,
        query_in: Tensor,
        key_in: Tensor | None,
        value_in: Tensor | None,
        mask: KeyPadding | None,
        cache: LinearState | None,
    ) -> Tensor:
        key_in = query_in if key_in is None else key_in
        value_in = key_in if value_in is None else value_in
        owner = type(self).__name__
        check_input(owner, "query_in", query_in, self.d_model, self.query)
        check_input(owner, "key_in", key_in, self.kdim, self.key)
        check_input(owner, "value_in", value_in, self.vdim, self.value)
        check_same_tokens(owner, query_in, key_in, value_in)
        batch = ("batch",) * (query_in.ndim - 2)
        queries, keys = (*batch, "query", "feature"), (*batch, "key", "feature")
        q = r.step("query_projection", "query_in W_query", queries, self.query(query_in))
        k = r.step("key_projection", "key_in W_key", keys, self.key(key_in))
        v = r.step("value_projection", "value_in W_value", keys, self.value(value_in))
        queries, keys = (*batch, "head", *queries[-2:]), (*batch, "head", *keys[-2:])
        q = r.step("queries", "Q", queries, split_heads(q, self.num_heads))
        k = r.step("keys", "K", keys, split_heads(k, self.num_kv_heads))
        v = r.step("values", "V", keys, split_heads(v, self.num_kv_heads))
        past = None if cache is None else cache.sums
        contexts = linear_attention(
            q,
            k,
            v,
            causal=self.causal,
            feature_map=self.feature_map,
            mask=mask,
            state=cache,
        )
        if isinstance(r, Recorder):
            self._record_weights(r, q, k, mask, past)
        contexts = r.step("contexts", "weights V", queries, contexts)
        tokens = (*batch, "query", "feature")
        joined = r.step("concatenated", "the heads side by side", tokens, join_heads(contexts))
        made: Tensor = r.step("output", "concatenated W_output", tokens, self.output(joined))
        return made

    def _record_weights(
        self, r: Recorder, q: Tensor, k: Tensor, mask: KeyPadding | None, past: Tensor | None
    ) -> None:
        """The features, and the weights as the definition has them, for the eye alone."""
        phi, group = feature_function(self.feature_map), self.num_heads // self.num_kv_heads
        leading = (*("batch",) * (q.ndim - 3), "head")
        pairs = (*leading, "query", "key")
        q = r.step("query_features", "φ(Q)", (*leading, "query", "feature"), phi(q))
        k = r.step("key_features", "φ(K)", (*leading, "key", "feature"), phi(k))
        with without_autocast(q.device.type):
            q, k = (x.float() if x.dtype in HALVES else x for x in (q, k))
            k = k.repeat_interleave(group, -3)
            scores = r.step("scores", "φ(Q) φ(K)ᵀ", pairs, q @ k.mT)
            visible = None if mask is None else torch.as_tensor(mask.dense(*scores.shape[-2:]))
            if self.causal:
                before = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
                visible = before if visible is None else visible & before
            if visible is not None:
                scores = torch.where(visible.to(scores.device), scores, 0)
                r.step("masked", "0 where a key may not be seen", pairs, scores)
            total = scores.sum(-1, keepdim=True)
            if past is not None:
                earlier = past[..., -1:].repeat_interleave(group, -3)
                total = total + q @ earlier
            weights = torch.where(total == 0, 0, scores / torch.where(total == 0, 1, total))
        name = "scores" if visible is None else "masked"
        formula = f"{name} / Σ {name}" + ("" if past is None else " with earlier keys")
        r.step("weights", formula, pairs, weights)

    def extra_repr(self) -> str:
        """What no submodule shows."""
        kv = f", num_kv_heads={self.num_kv_heads}" if self.num_kv_heads != self.num_heads else ""
        phi = (
            "" if isinstance(self.feature_map, nn.Module) else f", feature_map={self.feature_map!r}"
        )
        return f"num_heads={self.num_heads}{kv}, causal={self.causal}{phi}"
