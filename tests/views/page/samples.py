"""Explanations made with the formula in float64, independent of the package's engines."""

from typing import Any

import numpy as np

from atento.records import AttentionLayer, Explanation, Projection, Reason, Step, Trace
from six_tokens import SIX as INPUT

# The six tokens of the book that tells this story.
JOURNEY = ("Your", "journey", "starts", "with", "one", "step")
SENTENCE = ("Your", "journey", "starts", "with", "one", "step", ".")


def formula_trace(q, k, v, *, scale=None, softcap=None, bias=None, mask=None, sinks=None) -> Trace:
    """Every step of the equation; q (Hq, Tq, d), k and v (Hkv, Tk, …)."""
    scale = 1 / np.sqrt(q.shape[-1]) if scale is None else scale
    group = q.shape[0] // k.shape[0]
    wide_k, wide_v = np.repeat(k, group, axis=0), np.repeat(v, group, axis=0)
    pair = ("head", "query", "key")
    steps = [
        Step("queries", "Q", ("head", "query", "feature"), q),
        Step("keys", "K", ("head", "key", "feature"), k),
        Step("values", "V", ("head", "key", "feature"), v),
    ]
    parameters: dict[str, Any] = {"scale": float(scale)}

    def add(name: str, text: str, value: Any) -> Any:
        steps.append(Step(name, text, pair, value))
        return value

    logits = add("scores", "Q Kᵀ", np.einsum("hqd,hkd->hqk", q, wide_k))
    logits = add("scaled", "scores · scale", logits * scale)
    if softcap is not None:
        parameters["softcap"] = float(softcap)
        logits = add(
            "capped", "softcap · tanh(scaled / softcap)", softcap * np.tanh(logits / softcap)
        )
    if bias is not None:
        parameters["bias"] = bias
        logits = add("biased", "capped + bias", logits + bias)
    if mask is not None:
        parameters["mask"] = mask
        logits = add("masked", "where(mask, …, −inf)", np.where(mask, logits, -np.inf))
    top = logits.max(axis=-1, keepdims=True)
    if sinks is not None:
        parameters["sinks"] = sinks
        top = np.maximum(top, np.asarray(sinks)[:, None, None])
    top = np.where(np.isfinite(top), top, 0.0)
    exps = np.exp(logits - top)
    below = exps.sum(axis=-1, keepdims=True)
    if sinks is not None:
        below = below + np.exp(np.asarray(sinks)[:, None, None] - top)
    weights = add(
        "weights", "softmax(…)", np.where(below > 0, exps / np.where(below > 0, below, 1), 0.0)
    )
    output = np.einsum("hqk,hkd->hqd", weights, wide_v)
    steps.append(Step("output", "weights V", ("head", "query", "feature"), output))
    return Trace(tuple(steps), parameters)


def given(q, k, v, *, tokens, key_tokens=None, head=0, **parameters: Any) -> Explanation:
    """An explanation of arrays."""
    layer = AttentionLayer(formula_trace(q, k, v, **parameters), None, {})
    reason = Reason("only" if q.shape[0] == 1 else "asked", q.shape[0])
    return Explanation(tuple(tokens), tuple(key_tokens or tokens), (layer,), 0, head, reason)


def journey(**parameters: Any) -> Explanation:
    """The six tokens attending to themselves, without learned maps."""
    x = INPUT[None]
    return given(x, x, x, tokens=JOURNEY, **parameters)


def everything(seed: int = 5) -> Explanation:
    """Softcap, bias, mask, sinks, grouped heads, Tq ≠ Tk, dv ≠ d, and a query that sees nothing."""
    rng = np.random.default_rng(seed)
    q = rng.normal(size=(4, 5, 3)) * 2
    k, v = rng.normal(size=(2, 7, 3)) * 2, rng.normal(size=(2, 7, 2))
    mask = rng.random((4, 5, 7)) > 0.3
    mask[:, 3] = False
    return given(
        q,
        k,
        v,
        tokens=list("abcde"),
        key_tokens=[f"k{i}" for i in range(7)],
        head=2,
        softcap=3.0,
        bias=rng.normal(size=(4, 5, 7)),
        mask=mask,
        sinks=rng.normal(size=4),
        scale=0.7,
    )


def model_like(
    tokens, *, layers: int = 3, d_model: int = 128, heads: int = 4, seed: int = 7
) -> Explanation:
    """What a small model gives: learned maps exact in float16, float32 states, a causal mask."""
    rng = np.random.default_rng(seed)
    count, dim = len(tokens), d_model // heads
    made = []
    for _ in range(layers):
        source = rng.normal(size=(count, d_model)).astype(np.float32)
        maps, parts = {}, {}
        for name in ("query", "key", "value"):
            weight = (
                (rng.normal(size=(d_model, heads, dim)) * 0.12)
                .astype(np.float16)
                .astype(np.float32)
            )
            bias = (rng.normal(size=(heads, dim)) * 0.1).astype(np.float16).astype(np.float32)
            maps[name] = Projection(weight, bias)
            parts[name] = np.einsum("tc,chf->htf", source.astype(float), weight) + bias[:, None]
        mask = np.tril(np.ones((count, count), bool))
        trace = formula_trace(parts["query"], parts["key"], parts["value"], mask=mask)
        made.append(AttentionLayer(trace, source, maps))
    query = count - 1
    weight = float(made[-1].trace["weights"].value[1, query, 2]) if count > 2 else None
    reason = Reason("telling", layers * heads, 0.61, query, min(2, query), weight)
    return Explanation(
        tuple(tokens), tuple(tokens), tuple(made), layers - 1, 1, reason, "atento-mini"
    )
