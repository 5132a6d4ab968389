"""The dense engine: the equation itself, step by step, in Python array API terms.

This is the oracle that every other engine is checked against. It holds the weights of all heads.
"""

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np

from atento._arrays import array_device, is_torch
from atento.equation.computed import Computed
from atento.equation.dropout import kept
from atento.equation.request import Request
from atento.masks import Coverage
from atento.positions.distance_bias import DistanceBias
from atento.records import Step

__all__ = ["dense", "equation"]


def dense(request: Request, with_lse: bool = False, with_weights: bool = False) -> Computed:
    """The equation's last step, and of those before it what was asked for."""
    scores = lse = weights = None
    for step in equation(request):
        if step.name == "weights":
            if with_lse:
                sinks = request.sinks
                sinks = None if sinks is None else _per_query(request.xp, sinks)
                lse = log_sum_exp(request.xp, scores, sinks)
            weights = step.value if with_weights else None
        scores = step.value
    return Computed(scores, lse, weights)


def equation(request: Request) -> Iterator[Step]:
    """Yield the steps of the equation in order; a step that does not happen is left out.

    Nothing is kept here: who wants only the output lets each step go as the next one comes.

    Source: Vaswani et al. 2017, equation 1; softcap: Gemma 2 (arXiv 2408.00118), section 2;
    sinks: Xiao et al. 2023 (arXiv 2309.17453); grouped heads: Ainslie et al. 2023.
    """
    r, xp = request, request.xp
    d = r.query.shape[-1]
    tokens, pairs = r.leading_axes, (*r.leading_axes, "query", "key")
    yield Step("queries", "Q", (*tokens, "query", "feature"), r.query)
    yield Step("keys", "K", (*tokens, "key", "feature"), r.key)
    yield Step("values", "V", (*tokens, "key", "feature"), r.value)
    Q, K, V = (_cast(r, array) for array in (r.query, r.key, r.value))

    visible = dense_mask(r)
    s = _scores(r, Q, K, visible)
    yield Step("scores", "Q Kᵀ", pairs, s)

    s = s * r.scale
    yield Step("scaled", f"scores · {r.scale:.4g}{_why_scale(r.scale, d)}", pairs, s)

    if r.softcap is not None:
        s = r.softcap * xp.tanh(s / r.softcap)
        yield Step("capped", f"{r.softcap:g} · tanh(scaled / {r.softcap:g})", pairs, s)

    if r.bias is not None:
        s = s + dense_bias(r)
        yield Step("biased", "capped + bias" if r.softcap else "scaled + bias", pairs, s)

    if visible is not None:
        s = xp.where(visible, s, xp.asarray(-xp.inf, dtype=s.dtype, device=r.device))
        yield Step("masked", "−∞ where a key may not be seen", pairs, s)

    w = softmax(xp, s, None if r.sinks is None else _per_query(xp, r.sinks))
    last = "masked" if visible is not None else "biased" if r.bias is not None else "scaled"
    last = "capped" if last == "scaled" and r.softcap is not None else last
    sink = ", with a sink" if r.sinks is not None else ""
    yield Step("weights", f"softmax({last}{sink})", pairs, w)

    if r.dropout:
        w = w * _dropout_factor(r)
        yield Step("dropped", f"weights · kept / {1 - r.dropout:g}", pairs, w)

    y = _weighted_sum(r, w, V, visible)
    formula = "dropped V" if r.dropout else "weights V"
    y = y if y.dtype == r.query.dtype else xp.astype(y, r.query.dtype)
    yield Step("output", formula, (*tokens, "query", "feature"), y)


def softmax(xp: Any, s: Any, sinks: Any = None) -> Any:
    """Softmax over the last axis: ``exp(s) / (Σ exp(s) + exp(sink))``; rows of −∞ give 0."""
    if s.shape[-1] == 0:
        return s
    e, total, _, empty = _exponentials(xp, s, sinks)
    return e / xp.where(empty, xp.ones_like(total), total)


def log_sum_exp(xp: Any, s: Any, sinks: Any = None) -> Any:
    """``log(Σ exp(s) + exp(sink))`` over the last axis; −∞ for rows of −∞."""
    if s.shape[-1] == 0:
        return xp.full(s.shape[:-1], -xp.inf, dtype=s.dtype, device=array_device(s))
    _, total, top, empty = _exponentials(xp, s, sinks)
    lse = top + xp.log(xp.where(empty, xp.ones_like(total), total))
    nothing = xp.asarray(-xp.inf, dtype=s.dtype, device=array_device(s))
    return xp.where(empty, nothing, lse)[..., 0]


def _exponentials(xp: Any, s: Any, sinks: Any) -> tuple[Any, Any, Any, Any]:
    """exp(s − top), their sum with the sink's, the row's maximum, and which rows are empty.

    The maximum is subtracted so that nothing overflows.
    """
    zero = xp.zeros_like(s[..., :1])
    top = xp.max(s, axis=-1, keepdims=True)
    empty = top == -xp.inf
    if sinks is not None:
        top = xp.maximum(top, sinks + zero)
    top = xp.where(empty, zero, top)
    if is_torch(top):  # the result does not depend on it, so neither does its gradient
        top = top.detach()
    e = xp.exp(s - top)
    total = xp.sum(e, axis=-1, keepdims=True)
    if sinks is not None:
        total = total + xp.where(empty, zero, xp.exp(sinks - top))
    return e, total, top, empty


def dense_bias(request: Request) -> Any:
    """The bias as an array that broadcasts to the weights."""
    bias = request.bias
    return bias.dense() if isinstance(bias, DistanceBias) else bias


def dense_mask(request: Request) -> Any:
    """The mask as a bool array that broadcasts to the weights; None when everybody may look."""
    if request.mask is None:
        return None
    Tq, Tk = request.weights_shape[-2:]
    if is_torch(request.query):
        return request.mask.pairs((Tq, Tk), request.xp, request.device)
    tile = request.mask.block(range(Tq), range(Tk))
    if isinstance(tile, Coverage):
        tile = np.full((Tq, Tk), tile.value)
    if request.xp is np:
        return tile
    return request.xp.asarray(np.array(tile), device=request.device)  # a copy of its own


def _cast(r: Request, array: Any) -> Any:
    return array if array.dtype == r.compute_dtype else r.xp.astype(array, r.compute_dtype)


def _scores(r: Request, Q: Any, K: Any, visible: Any) -> Any:
    """Q Kᵀ, whose gradient too is free of keys that may not be seen, even if they hold NaN or ∞.

    That gradient is a product with K, in which 0 · NaN would be NaN. So such keys are 0 in it, and
    their scores, for the queries that may see them, are computed one key at a time.
    """
    xp = r.xp
    differentiable = getattr(Q, "requires_grad", False) or getattr(K, "requires_grad", False)
    if visible is None or r.opaque or not differentiable or bool(xp.all(xp.isfinite(K))):
        return _per_group(r, Q, xp.matrix_transpose(K))
    finite = xp.isfinite(K)
    zero = xp.zeros_like(K)
    s = _per_group(r, Q, xp.matrix_transpose(xp.where(finite, K, zero)))
    columns = []
    for j in range(K.shape[-2]):
        column = s[..., j : j + 1]
        if not bool(xp.all(finite[..., j, :])):
            key = (
                xp.repeat(K[..., j : j + 1, :], r.group, axis=-3)
                if r.group > 1
                else K[..., j : j + 1, :]
            )
            seen = xp.broadcast_to(visible, s.shape)[..., j : j + 1]
            column = xp.sum(Q * xp.where(seen, key, xp.zeros_like(key)), axis=-1, keepdims=True)
        columns.append(column)
    return xp.concat(columns, axis=-1)


def _per_group(r: Request, per_query_head: Any, per_key_head: Any) -> Any:
    """Product of each query head with the key head that its group shares."""
    if r.group == 1:
        return per_query_head @ per_key_head
    *batch, heads, rows, inner = per_query_head.shape
    kv_heads, cols = heads // r.group, per_key_head.shape[-1]
    grouped = r.xp.reshape(per_query_head, (*batch, kv_heads, r.group, rows, inner))
    product = grouped @ r.xp.expand_dims(per_key_head, axis=-3)
    return r.xp.reshape(product, (*batch, heads, rows, cols))


def _per_query(xp: Any, sinks: Any) -> Any:
    """(Hq,) -> (Hq, 1, 1), to stand beside the weights; one number stays one number."""
    return sinks if sinks.ndim == 0 else xp.reshape(sinks, (-1, 1, 1))


def _weighted_sum(r: Request, w: Any, V: Any, visible: Any) -> Any:
    """Weights V, where a key that may not be seen adds nothing, even if it holds NaN or ∞."""
    xp = r.xp
    if visible is None or r.opaque or bool(xp.all(xp.isfinite(V))):
        return _per_group(r, w, V)
    finite = xp.isfinite(V)
    y = _per_group(r, w, xp.where(finite, V, xp.zeros_like(V)))
    zero = xp.zeros_like(w[..., :1])
    for j in range(V.shape[-2]):
        if bool(xp.all(finite[..., j, :])):
            continue
        column = V[..., j : j + 1, :]
        column = xp.where(xp.isfinite(column), xp.zeros_like(column), column)
        seen = xp.broadcast_to(visible, w.shape)[..., j : j + 1]
        term = _per_group(r, xp.where(seen, w[..., j : j + 1], zero), column)
        y = y + xp.where(seen, term, xp.zeros_like(term))
    return y


def _dropout_factor(r: Request) -> Any:
    *leading, Tq, Tk = r.weights_shape
    own = r.xp if is_torch(r.query) else np
    device = r.device if own is r.xp else "cpu"
    unit, query, key = (
        own.arange(size, dtype=own.int64, device=device) for size in (prod(leading), Tq, Tk)
    )
    query = query + r.first_query
    keep = kept(r.seed, r.dropout, unit[:, None, None], query[:, None], key, own)
    factor = r.xp.asarray(own.reshape(keep, r.weights_shape), device=r.device)
    return r.xp.astype(factor, r.compute_dtype) / (1 - r.dropout)


def _why_scale(scale: float, d: int) -> str:
    return f" (1/√d, d = {d})" if abs(scale * d**0.5 - 1) < 1e-12 else ""
