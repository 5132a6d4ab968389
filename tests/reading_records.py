"""Records of layers as capture makes them, each with its weights from the oracle in float64."""

from functools import cache

import numpy as np

from atento.masks import Causal, Explicit, KeyPadding, Prefix, Rule, Segments, Window
from atento.positions.distance_bias import DistanceBias
from atento.reading.layer import LayerRecord
from oracle import attention_oracle

# Every axis has a size of its own, so that a swapped one cannot go unseen.
B, HKV, G, TQ, TK, D = 2, 3, 2, 11, 13, 5
H = HKV * G

_rng = np.random.default_rng(1706)


def normal(*shape):
    """Numbers that float32 holds exactly, so that one oracle serves both precisions."""
    return _rng.standard_normal(shape).astype(np.float32).astype(np.float64)


QUERY, KEY = normal(B, H, TQ, D), normal(B, HKV, TK, D)

_b, _h, _i, _j = np.indices((B, H, TQ, TK))
_keep = _rng.random((B, TK)) < 0.6
_ids = np.sort(_rng.integers(0, 4, (B, TQ))), np.sort(_rng.integers(0, 4, (B, TK)))
_pairs = _rng.random((B, H, TQ, TK)) < 0.5
_pairs[:, :, 3] = False

MASKS = {
    "everybody": (None, None),
    "causal, start": (Causal("start"), _j <= _i),
    "causal, end": (Causal("end"), _j <= _i + TK - TQ),
    "window": (Window(2, 1, "end"), abs(2 * (_j - _i - TK + TQ) + 1) <= 3),
    "padding": (KeyPadding(_keep), _keep[:, None, None, :] & (_i >= 0)),
    "causal and padding": (
        Causal("start") & KeyPadding(_keep),
        (_j <= _i) & _keep[:, None, None, :],
    ),
    "segments": (Segments(*_ids), _ids[0][:, None, :, None] == _ids[1][:, None, None, :]),
    "prefix": (Causal("start") | Prefix(4), (_j <= _i) | (_j < 4)),
    "array": (Explicit(_pairs), _pairs),
    "array of all alike": (Explicit(_pairs[0, 0]), _pairs[0, 0] & (_h >= 0)),
    "not": (~Prefix(5), (_j >= 5)),
    "rule of chunks": (Rule(lambda b, h, q, k: q // 4 == k // 4), _i // 4 == _j // 4),
    "rule of intervals per head": (
        Rule(lambda b, h, q, k: (k >= q - h) & (k <= q + b)),
        (_j >= _i - _h) & (_j <= _i + _b),
    ),
    "rule with holes": (
        Rule(lambda b, h, q, k: (q + 2 * k + h + b) % 3 != 0),
        (_i + 2 * _j + _h + _b) % 3 != 0,
    ),
    "nobody": (Prefix(0), _j < 0),
}

_distances = normal(H, TQ + TK - 1)
OPTIONS = {
    "plain": ({}, {}),
    "softcap": ({"softcap": 1.5}, {"softcap": 1.5}),
    "scale": ({"scale": 0.7}, {"scale": 0.7}),
    "sinks": ({}, {"sinks": normal(H)}),
}
for _name, _bias in {
    "bias": normal(B, H, TQ, TK),
    "bias per head": normal(1, H, TQ, TK),
    "bias per key": normal(TK),
    "bias per query": normal(B, 1, TQ, 1),
    "bias of −∞": np.where(_rng.random((H, TQ, TK)) < 0.4, -np.inf, normal(H, TQ, TK)),
}.items():
    OPTIONS[_name] = ({"bias": _bias}, {"bias": _bias})
OPTIONS["bias by distance"] = (
    {"bias": DistanceBias(_distances, (TQ, TK))},
    {"bias": _distances[:, np.arange(TK) - np.arange(TQ)[:, None] + TQ - 1]},
)
OPTIONS["all at once"] = (
    {"bias": OPTIONS["bias"][0]["bias"], "softcap": 2.0, "scale": 0.9},
    {"bias": OPTIONS["bias"][0]["bias"], "softcap": 2.0, "scale": 0.9, "sinks": normal(H)},
)


def dense_statistics(weights, first_query=0):
    """A few statistics from dense weights, and their axes."""
    statistics = {
        "entropy": -(weights * np.log(np.where(weights > 0, weights, 1))).sum(-1),
        "max": weights.max(-1),
        "max_key": np.where(weights.any(-1), weights.argmax(-1), -1),
        "first": weights[..., 0],
        "received": weights.sum(-2),
        "received_max": weights.max(-2),
    }
    position = first_query + np.arange(weights.shape[-2])[:, None]
    distance = position - np.arange(weights.shape[-1])
    total = weights.sum(-1)
    safe = np.where(total > 0, total, 1)
    mean = (weights * distance).sum(-1) / safe
    square = (weights * distance**2).sum(-1) / safe
    statistics["distance_mean"] = mean
    statistics["distance_std"] = np.sqrt(np.maximum(square - mean**2, 0))
    statistics["self"] = (weights * (distance == 0)).sum(-1)
    statistics["previous"] = (weights * (distance == 1)).sum(-1)
    keys = ("received", "received_max")
    axes = {name: ("head", "key" if name in keys else "query") for name in statistics}
    return statistics, axes


@cache
def _oracle(mask, option):
    with np.errstate(invalid="ignore"):
        _, weights, lse = attention_oracle(
            QUERY, KEY, KEY, visible=MASKS[mask][1], **OPTIONS[option][1]
        )
    return weights, lse


def record(mask="everybody", option="plain", dtype=np.float64, layer="layers.0.attn", **changes):
    """A record, and the weights that it stands for (float64)."""
    weights, lse = _oracle(mask, option)
    rule, options = MASKS[mask][0], OPTIONS[option][0]
    made = made_of(QUERY, KEY, weights, lse, rule, dtype, layer=layer, **{**options, **changes})
    return made, weights.copy()


def record_of(query, key, visible, rule, layer="a", theirs=None, **changes):
    """A float64 record of other queries and keys, and its weights."""
    _, weights, lse = attention_oracle(query, key, key, visible=visible, **(theirs or {}))
    made = made_of(query, key, weights, lse, rule, np.float64, layer=layer, **changes)
    return made, weights


def made_of(query, key, weights, lse, rule, dtype, **changes):
    """A record of these arrays, with a few statistics."""
    statistics, axes = dense_statistics(weights, changes.get("first_query", 0))
    fields = {"kind": "self", "side": None, "way": "sdpa", "scale": query.shape[-1] ** -0.5}
    made = LayerRecord(
        query=query.astype(dtype),
        key=key.astype(dtype),
        lse=lse.astype(dtype),
        mask=rule,
        **{**fields, "statistics": statistics, "axes": axes, **changes},
    )
    made.check()
    return made


def dense_tile(weights, row0, col0, zoom, size, pool):
    """Cells by the definition: the mean or maximum of the pairs that there are."""
    side = 2**zoom
    part = weights[row0 : row0 + size * side, col0 : col0 + size * side]
    return np.array(
        [
            [
                getattr(part[i : i + side, j : j + side], pool)()
                for j in range(0, part.shape[1], side)
            ]
            for i in range(0, part.shape[0], side)
        ]
    )
