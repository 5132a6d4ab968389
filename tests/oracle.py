"""Attention by loops in float64: written from the definition, and from nothing of ours."""

import math

import numpy as np


def attention_oracle(
    query,
    key,
    value,
    *,
    visible=None,
    bias=None,
    scale=None,
    softcap=None,
    sinks=None,
    kept=None,
    dropout=0.0,
):
    """Output, weights and log-sum-exp for (..., H, T, d) arrays; `visible` is a bool array."""
    query, key, value = (np.asarray(x, np.float64) for x in (query, key, value))
    if query.ndim == 2:
        output, weights, lse = attention_oracle(
            query[None],
            key[None],
            value[None],
            visible=visible,
            bias=bias,
            scale=scale,
            softcap=softcap,
            sinks=sinks,
            kept=None if kept is None else kept[None],
            dropout=dropout,
        )
        return output[0], weights[0], lse[0]
    *leading, Tq, d = query.shape
    Tk, dv = value.shape[-2:]
    scale = 1 / math.sqrt(d) if scale is None else scale
    shape = (*leading, Tq, Tk)
    visible = np.broadcast_to(True if visible is None else visible, shape)
    bias = np.broadcast_to(0.0 if bias is None else np.asarray(bias, np.float64), shape)
    output = np.zeros((*leading, Tq, dv))
    weights = np.zeros(shape)
    lse = np.full((*leading, Tq), -np.inf)
    share = query.shape[-3] // key.shape[-3]
    for *batch, head, i in np.ndindex(*leading, Tq):
        at, kv = (*batch, head, i), (*batch, head // share)
        seen = [j for j in range(Tk) if visible[(*at, j)]]
        scores = []
        for j in seen:
            score = math.fsum(query[at] * key[(*kv, j)]) * scale
            if softcap is not None:
                score = softcap * math.tanh(score / softcap)
            scores.append(score + bias[(*at, j)])
        if not scores or max(scores) == -math.inf:
            continue
        sink = None if sinks is None else float(np.broadcast_to(sinks, (query.shape[-3],))[head])
        top = max(scores + ([] if sink is None else [sink]))
        terms = [math.exp(score - top) for score in scores]
        total = math.fsum(terms + ([] if sink is None else [math.exp(sink - top)]))
        lse[at] = top + math.log(total)
        for j, term in zip(seen, terms, strict=True):
            weights[(*at, j)] = term / total
        used = weights[at] if kept is None else weights[at] * kept[at] / (1 - dropout)
        for j in seen:
            if used[j]:
                output[at] += used[j] * value[(*kv, j)]
    return output, weights, lse
