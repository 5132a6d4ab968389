"""The equation of linear attention: features of queries and keys in place of the softmax."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from atento._errors import DTypeError, InputError, ShapeError
from atento.equation.on_torch.autocast import without_autocast
from atento.equation.request import Request, checked_request
from atento.masks import KeyPadding
from atento.nn.checks import whole
from atento.nn.linear_state import LinearState

__all__ = ["HALVES", "FeatureMap", "feature_function", "linear_attention"]

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
