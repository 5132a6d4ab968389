"""Linear attention: features of queries and keys in place of the softmax, and O(T) work."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from atento._errors import DTypeError, InputError, ShapeError
from atento.equation.on_torch.autocast import without_autocast
from atento.equation.request import Request, checked_request
from atento.masks import KeyPadding
from atento.nn.checks import check_input, check_same_tokens, head_size, shared_heads, whole
from atento.nn.heads import join_heads, split_heads
from atento.nn.linear_state import LinearState
from atento.nn.recorder import SILENT, Recorder, Silent
from atento.records import Trace

__all__ = ["LinearAttention", "linear_attention"]

HALVES = (torch.bfloat16, torch.float16)
FeatureMap = str | Callable[[Tensor], Tensor]
CHUNK = 64
"""Tokens whose pairs are computed as such; further back, keys are remembered by their sums."""


def linear_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    causal: bool = False,
    feature_map: FeatureMap = "elu+1",
    mask: KeyPadding | None = None,
    state: LinearState | None = None,
    chunk_size: int = CHUNK,
) -> Tensor:
    """Attention whose weights are products of features: work and memory grow with T, not T².

    ``weights[i, j] = φ(qᵢ)·φ(kⱼ) / Σⱼ φ(qᵢ)·φ(kⱼ)``, ``output = weights V``. There is no scale and
    no softmax, so ``Σⱼ φ(kⱼ) vⱼᵀ`` is summed once for all queries; causally, chunk by chunk.

    Args:
        query: (..., Hq, Tq, d), or (Tq, d) without heads.
        key: (..., Hkv, Tk, d). Consecutive query heads share a key head.
        value: (..., Hkv, Tk, dv).
        causal: query i sees the keys j ≤ i (and all that went into ``state``). Tq must be Tk.
        feature_map: φ, applied to queries and keys: ``"elu+1"`` (x + 1 above 0, eˣ below), or a
            function (..., T, d) -> (..., T, features). Its features should not be negative: only
            then are the weights.
        mask: `KeyPadding`, the one rule that needs no pairs; for others use `attention`.
        state: what earlier tokens left behind; these tokens are added to it. Needs causal=True.
        chunk_size: tokens per chunk of the causal form; never changes the result.

    Returns:
        (..., Hq, Tq, dv) in the dtype of the inputs; half precision is computed in float32. A
        query that may see no key, or whose weights are all 0, gives 0.

    Raises:
        ShapeError, DTypeError, InputError: what was expected and what came.

    Source: Katharopoulos et al. 2020 (arXiv 2006.16236), equations 4 to 12.

    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> linear_attention(x, x, x)  # φ(x) = x + 1; weights 5/9 and 4/9
    tensor([[0.5556, 0.4444],
            [0.4444, 0.5556]])
    """
    phi = feature_function(feature_map)
    r = _checked(query, key, value, causal=causal, mask=mask, state=state, chunk_size=chunk_size)
    q, k, v, keep = _grouped(r, mask)
    q, k, v = (x.to(r.compute_dtype) for x in (phi(q), phi(k), v))
    with without_autocast(query.device.type):  # sums over many tokens would lose the later ones
        if keep is not None:
            k = torch.where(keep, k, 0)
        v = functional.pad(v, (0, 1), value=1.0)  # the denominator is the same sum, of ones
        if not causal:
            y = q @ (k.mT @ v)
        else:
            shape = (*key.shape[:-2], k.shape[-1], v.shape[-1])
            past = (state or LinearState()).sums_before(shape, k.dtype, k.device)
            # (..., Hkv, features, dv + 1) -> (..., Hkv, 1, ·): a group's query heads see the same
            grouped = (*k.shape[:-2], *shape[-2:])
            y, sums = _causal(q, k, v, past.reshape(grouped), chunk_size)
            if state is not None:
                state.sums = sums.reshape(shape)
                state.num_tokens += key.shape[-2]
        y, total = y[..., :-1], y[..., -1:]
        empty = total == 0
        y = torch.where(empty, 0, y / torch.where(empty, 1, total))
        return y.reshape(r.output_shape).to(query.dtype)


def _causal(
    q: Tensor, k: Tensor, v: Tensor, past: Tensor, chunk_size: int
) -> tuple[Tensor, Tensor]:
    """Sums over the keys up to each query, undivided, and the sums after the last key.

    All chunks go through the same few products: within a chunk the pairs themselves, below the
    diagonal; before it the sums of the earlier chunks. Memory is O(T · (chunk + features)).
    """
    T = q.shape[-2]
    if T == 1:  # decoding
        sums = past + k.mT @ v
        return q @ sums, sums
    chunks = (T + chunk_size - 1) // chunk_size
    # Traced, one chunk more: a count that is 1 for the example would become a constant.
    traced = torch.compiler.is_compiling()
    chunks = chunks + 1 if traced else max(chunks, 1)
    q, k, v = (functional.pad(x, (0, 0, 0, chunks * chunk_size - T)) for x in (q, k, v))
    # (..., T, width) -> (..., chunk, token, width), a view as reshape's, but traced for any T
    q, k, v = (x.unfold(-2, chunk_size, chunk_size).mT for x in (q, k, v))
    # (..., chunk + 1, features, dv + 1): the sums before each chunk, and after the last
    sums = torch.cat([past.unsqueeze(-3), k.mT @ v], dim=-3).cumsum(-3)
    pairs = (q @ k.mT).tril()
    # A later key adds nothing, even if its value is NaN or ∞: 0 · NaN would be NaN.
    finite = v.isfinite()
    y = pairs @ torch.where(finite, v, 0) + torch.where(finite, 0, v.detach()).cumsum(-2)
    y = (y + q @ sums[..., :-1, :, :]).flatten(-3, -2)
    # A copy where it is traced: a slice's strides would be compared with T, and bind it.
    y = y.index_select(-2, torch.arange(T, device=y.device)) if traced else y[..., :T, :]
    return y, sums[..., -1, :, :]


def feature_function(feature_map: FeatureMap) -> Callable[[Tensor], Tensor]:
    """The function that an argument ``feature_map=`` stands for, its results checked.

    Raises:
        InputError: for an unknown name.
    """
    if callable(feature_map):
        return lambda x: _checked_features(x, feature_map(x))
    if feature_map != "elu+1":
        raise InputError(f'feature_map must be "elu+1" or a function; got {feature_map!r}.')
    return _elu_plus_one


def _elu_plus_one(x: Tensor) -> Tensor:
    """elu(x) + 1, without rounding eˣ − 1 first, which would make 0 of every x below −17."""
    x = x.float() if x.dtype in HALVES else x
    return torch.where(x > 0, x + 1, x.clamp(max=0).exp())


def _checked_features(x: Tensor, features: object) -> Tensor:
    if isinstance(features, Tensor) and features.shape[:-1] == x.shape[:-1]:
        return features
    came = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
    raise ShapeError(
        f"feature_map must return a tensor (..., T, features) for (..., T, d): for "
        f"{tuple(x.shape)} it returned {came}."
    )


def _checked(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    causal: bool,
    mask: object,
    state: object,
    chunk_size: int,
) -> Request:
    """The arguments, checked as those of `attention` are."""
    if not isinstance(query, Tensor):
        raise DTypeError(
            f"linear_attention computes torch tensors; query is {type(query).__name__}. "
            "Make one, as in torch.as_tensor(query)."
        )
    if mask is not None and not isinstance(mask, KeyPadding):
        raise InputError(
            f"linear_attention never makes the weights, so its mask can only hide keys from all "
            f"queries: KeyPadding(keep), or causal=True; got {mask!r}. For other masks use "
            "atento.attention."
        )
    r = checked_request(
        query,
        key,
        value,
        mask=mask,
        bias=None,
        scale=None,
        softcap=None,
        sinks=None,
        dropout=0.0,
        seed=None,
    )
    if causal and query.shape[-2] != key.shape[-2]:
        raise ShapeError(
            f"causal linear attention needs as many queries as keys; got {query.shape[-2]} and "
            f"{key.shape[-2]}. To go on from earlier keys pass them first, with state=LinearState()"
            "."
        )
    if state is not None and not isinstance(state, LinearState):
        raise DTypeError(f"state must be a LinearState; got {type(state).__name__}.")
    if state is not None and not causal:
        raise InputError("state needs causal=True: without it every query also sees later keys.")
    whole("linear_attention", "chunk_size", chunk_size)
    return r


def _grouped(r: Request, mask: KeyPadding | None) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Queries (..., Hkv, group, Tq, d), keys and values (..., Hkv, 1, Tk, ·), and who is kept.

    Hidden keys and values are 0, so that what they hold (NaN even) enters nothing.
    """
    q, k, v = r.query, r.key, r.value
    if q.ndim == 2:
        q, k, v = q[None], k[None], v[None]
    q = q.unflatten(-3, (k.shape[-3], q.shape[-3] // max(k.shape[-3], 1)))
    k, v = k.unsqueeze(-3), v.unsqueeze(-3)
    if mask is None:
        return q, k, v, None
    keep = torch.as_tensor(mask.keep, device=q.device)
    # (..., Tk) -> (..., head, group, Tk, feature)
    keep = keep.reshape(*keep.shape[:-1], *((1, 1) if keep.ndim > 1 else ()), keep.shape[-1], 1)
    return q, torch.where(keep, k, 0), torch.where(keep, v, 0), keep


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
