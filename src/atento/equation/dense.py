"""The dense engine: the equation itself, step by step, in Python array API terms.

This is the oracle that every other engine is checked against. It holds the weights of all heads.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from atento.equation.dropout import kept
from atento.equation.request import Request
from atento.masks import Coverage
from atento.records import Step

__all__ = ["equation"]


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

    s = _per_group(r, Q, _transposed(xp, K))
    yield Step("scores", "Q Kᵀ", pairs, s)

    s = s * r.scale
    yield Step("scaled", f"scores · {r.scale:.4g}{_why_scale(r.scale, d)}", pairs, s)

    if r.softcap is not None:
        s = r.softcap * xp.tanh(s / r.softcap)
        yield Step("capped", f"{r.softcap:g} · tanh(scaled / {r.softcap:g})", pairs, s)

    if r.bias is not None:
        s = s + r.bias
        yield Step("biased", "capped + bias" if r.softcap else "scaled + bias", pairs, s)

    visible = dense_mask(r)
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
    """Softmax over the last axis: ``exp(s) / (Σ exp(s) + exp(sink))``; rows of −∞ give 0.

    The row's maximum is subtracted first, so that nothing overflows.
    """
    if s.shape[-1] == 0:
        return s
    zero = xp.zeros_like(s[..., :1])
    top = xp.max(s, axis=-1, keepdims=True)
    empty = top == -xp.inf
    if sinks is not None:
        top = xp.maximum(top, sinks + zero)
    top = xp.where(empty, zero, top)
    e = xp.exp(s - top)
    total = xp.sum(e, axis=-1, keepdims=True)
    if sinks is not None:
        total = total + xp.where(empty, zero, xp.exp(sinks - top))
    return e / xp.where(empty, zero + 1, total)


def dense_mask(request: Request) -> Any:
    """The mask as a bool array that broadcasts to the weights; None when everybody may look."""
    if request.mask is None:
        return None
    Tq, Tk = request.weights_shape[-2:]
    tile = request.mask.block(range(Tq), range(Tk))
    if isinstance(tile, Coverage):
        tile = np.full((Tq, Tk), tile.value)
    if request.xp is np:
        return tile
    return request.xp.asarray(np.array(tile), device=request.device)  # a copy of its own


def _cast(r: Request, array: Any) -> Any:
    return array if array.dtype == r.compute_dtype else r.xp.astype(array, r.compute_dtype)


def _transposed(xp: Any, array: Any) -> Any:
    return xp.matrix_transpose(array)


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
    if visible is None or bool(xp.all(xp.isfinite(V))):
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
    keep = np.stack(
        [
            kept(r.seed or 0, r.dropout, unit, range(Tq), range(Tk), (Tq, Tk))
            for unit in range(int(np.prod(leading)))
        ]
        or [np.zeros((0, Tq, Tk), bool)]
    ).reshape(r.weights_shape)
    factor = r.xp.asarray(keep, device=r.device)
    return r.xp.astype(factor, r.compute_dtype) / (1 - r.dropout)


def _why_scale(scale: float, d: int) -> str:
    return f" (1/√d, d = {d})" if abs(scale * d**0.5 - 1) < 1e-12 else ""
