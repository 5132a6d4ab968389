"""An Explanation as what a page carries: inputs of each layer, from which the page recomputes.

No (query, key) matrix is written except a bias and, bit-packed, a mask: the page computes scores
to output itself from queries, keys and values, in float64.
"""

import json
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
        "reason": _reason(explanation),
        "first": _first_cell(explanation),
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
        data["bias"] = pool.floats(_of_heads(parameters["bias"]))
    if "masked" in trace:
        data["mask"] = pool.bits(_of_heads(parameters["mask"]))
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
        "input": pool.floats(_of_heads(source)),
        "projections": {
            name: {
                "weight": pool.floats(weight.swapaxes(0, 1)),
                "bias": pool.floats(bias[:, None, :]),
            }
            for name, (weight, bias) in maps.items()
        },
    }


def _of_heads(value: Any) -> npt.NDArray[Any]:
    """As (head or 1, row or 1, column or 1): what an array broadcasts along has length 1."""
    array = as_numpy(value)
    return array.reshape((1, 1, 1, *array.shape)[-3:])


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _reason(explanation: Explanation) -> dict[str, Any]:
    """Why the head is shown: the words for it (``why``, ``link``), and what these speak of.

    JSON has no NaN: a score that is not a number is left out.
    """
    reason = explanation.reason
    cross = explanation.key_tokens != explanation.tokens
    linked = reason.query is not None and reason.key is not None
    why = reason.kind
    if why == "telling" and (cross or not linked):
        why = "telling.cross" if linked else "none"
    link = "cross" if cross else "such" if reason.kind == "telling" else "beyond"
    weight = reason.weight if reason.weight is not None and np.isfinite(reason.weight) else None
    return {
        "why": why,
        "among": reason.among,
        "link": link if linked else None,
        "query": reason.query,
        "key": reason.key,
        "weight": weight,
    }


def _first_cell(explanation: Explanation) -> list[int] | None:
    """The pair of tokens to start with: the reason's link, or else the largest weight."""
    reason = explanation.reason
    if reason.query is not None and reason.key is not None:
        return [reason.query, reason.key]
    weights = as_numpy(explanation.layers[explanation.layer].trace["weights"].value)
    weights = weights[explanation.head]
    if not weights.size:
        return None
    place = int(np.where(np.isnan(weights), -1, weights).argmax())
    return [place // weights.shape[1], place % weights.shape[1]]


def script_safe_json(data: Any) -> str:
    r"""JSON that can stand inside a ``<script>``: nothing in it can end or open a tag.

    ASCII only, so that lone surrogates survive as ``\ud800`` in a page that is UTF-8.
    """
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
