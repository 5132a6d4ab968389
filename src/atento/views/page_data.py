"""An Explanation as what a page carries: inputs of each layer, from which the page recomputes.

No (query, key) matrix is written except a bias and, bit-packed, a mask: the page computes scores
to output itself from queries, keys and values, in float64.
"""

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from atento.records import AttentionLayer, Explanation
from atento.views.page_arrays import ArrayPool, as_numpy

__all__ = ["page_data", "script_safe_json"]

_NAMES = {"query": "queries", "key": "keys", "value": "values"}


def page_data(explanation: Explanation) -> dict[str, Any]:
    """Build the data of a page.

    Returns:
        Plain dicts, lists and numbers: tokens, the head to show first and why, layers, and
        ``arrays``, the pool that layers point into.
    """
    pool = ArrayPool()
    layers = [_layer(layer, pool) for layer in explanation.layers]
    same = explanation.key_tokens == explanation.tokens
    return {
        "format": "atento.page/1",
        "tokens": list(explanation.tokens),
        "keyTokens": None if same else list(explanation.key_tokens),
        "model": explanation.model,
        "layer": explanation.layer,
        "head": explanation.head,
        "reason": _finite(asdict(explanation.reason)),
        "layers": layers,
        "arrays": pool.entries,
    }


def _layer(layer: AttentionLayer, pool: ArrayPool) -> dict[str, Any]:
    trace = layer.trace
    parameters = trace.parameters
    given = {name: as_numpy(trace[step].value) for name, step in _NAMES.items()}
    data: dict[str, Any] = {
        "heads": int(given["query"].shape[0]),
        "keyHeads": int(given["key"].shape[0]),
        "scale": _number(parameters.get("scale")),
    }
    # The page draws a step where its parameter is there: only what happened is written.
    if "capped" in trace:
        data["softcap"] = _number(parameters["softcap"])
    if "biased" in trace:
        data["bias"] = pool.floats(as_numpy(parameters["bias"]))
    if "masked" in trace:
        data["mask"] = pool.bits(as_numpy(parameters["mask"]))
    if parameters.get("sinks") is not None:
        sinks = np.broadcast_to(as_numpy(parameters["sinks"]), data["heads"])
        data["sinks"] = pool.floats(sinks)
    projected = _projections(layer, given, pool)
    if projected is None:
        data.update({name: pool.floats(array) for name, array in given.items()})
    else:
        data.update(projected)
    return data


def _projections(
    layer: AttentionLayer, given: dict[str, npt.NDArray[Any]], pool: ArrayPool
) -> dict[str, Any] | None:
    """The input and the maps, where they make the queries, keys and values that were used.

    Where they do not (a rotation of positions came between, say), the page must not claim that
    they do: None, and queries, keys and values are shown as given.
    """
    if layer.input is None or set(layer.projections) != set(_NAMES):
        return None
    source = as_numpy(layer.input).astype(np.float32)
    maps: dict[str, Any] = {}
    for name, projection in layer.projections.items():
        weight, bias = as_numpy(projection.weight), as_numpy(projection.bias)
        made = np.einsum("tc,chf->htf", source, weight, dtype=np.float64) + bias[:, None, :]
        used = given[name]
        if made.shape != used.shape:
            return None
        slack = 1e-5 * max(1.0, float(np.abs(made).max(initial=0.0)))
        if not np.allclose(made, used, rtol=0.0, atol=slack, equal_nan=True):
            return None
        maps[name] = (weight, bias)
    return {
        "input": pool.floats(source),
        "projections": {
            name: {"weight": pool.floats(weight), "bias": pool.floats(bias)}
            for name, (weight, bias) in maps.items()
        },
    }


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _finite(reason: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: a score that is not a number is left out."""
    return {
        name: None if isinstance(value, float) and not np.isfinite(value) else value
        for name, value in reason.items()
    }


def script_safe_json(data: Any) -> str:
    r"""JSON that can stand inside a ``<script>``: nothing in it can end or open a tag.

    ASCII only, so that lone surrogates survive as ``\ud800`` in a page that is UTF-8.
    """
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
