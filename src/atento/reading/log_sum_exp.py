"""The log-sum-exp of a call, and the proof that a call says what the model computed."""

from typing import Any

import numpy as np
import torch

from atento._arrays import to_numpy
from atento.equation.on_torch import compute
from atento.equation.plan import choose
from atento.equation.request import Request, checked_request
from atento.masks import Coverage
from atento.reading.call import AttentionCall

__all__ = ["log_sum_exp", "request_of", "says_lse", "says_weights"]


def request_of(call: AttentionCall) -> Request:
    """The call as a request of the equation, without dropout: weights are those before it."""
    bias = call.bias
    return checked_request(
        call.query.detach(),
        call.key.detach(),
        call.value.detach(),
        mask=call.mask,
        bias=None if bias is None else bias.detach(),
        scale=call.scale,
        softcap=call.softcap,
        sinks=None if call.sinks is None else call.sinks.detach(),
        dropout=0.0,
        seed=None,
    )


def log_sum_exp(call: AttentionCall) -> torch.Tensor:
    """(batch, query head, query), sinks included, −inf for a query that may see no key."""
    request = request_of(call)
    engine, _ = choose(request, "auto")
    lse: torch.Tensor = compute(request, engine, True, False).lse
    return lse


def says_lse(call: AttentionCall, lse: torch.Tensor) -> bool:
    """Whether some rows of the call have the log-sum-exp that the model's kernel found.

    That of the first, a middle and the last query, for the first head of the first batch item and
    the last of the last.
    """
    for where, row, scores in _some_rows(call):
        found, expected = _logsumexp(scores), float(lse[*where, row])
        if np.isinf(found) and np.isinf(expected):
            continue
        if not abs(found - expected) <= _tolerance(call) * (1 + abs(expected)):
            return bool(np.isnan(found) and np.isnan(expected))
    return True


def says_weights(call: AttentionCall, weights: torch.Tensor) -> bool:
    """Whether some rows of the call have the weights (batch, head, query, key) of the model.

    Rows that see no key are left out: there eager attention spreads the weight over the keys that
    it hides, and a recording says 0.
    """
    if tuple(weights.shape) != (*call.query.shape[:-1], call.key.shape[-2]):
        return False
    for where, row, scores in _some_rows(call):
        total = _logsumexp(scores)
        if np.isinf(total):
            continue
        own = np.exp(scores[: weights.shape[-1]] - total)
        theirs = to_numpy(weights[*where, row].detach().double())
        if not np.allclose(own, theirs, rtol=0, atol=_tolerance(call), equal_nan=True):
            return False
    return True


def _tolerance(call: AttentionCall) -> float:
    return {torch.float64: 1e-9, torch.float32: 1e-4}.get(call.query.dtype, 3e-2)


def _some_rows(call: AttentionCall) -> list[tuple[tuple[int, int], int, Any]]:
    """((batch, head), query, scores of its keys and the sink, −inf where hidden) in float64."""
    request = request_of(call)
    batch, heads, queries, keys = request.weights_shape
    if not (batch and heads and queries and keys):
        return []
    found = []
    for where in {(0, 0), (batch - 1, heads - 1)}:
        b, h = where
        key = _double(call.key[b, h // request.group])
        for row in {0, queries // 2, queries - 1}:
            with np.errstate(invalid="ignore"):  # ∞ · 0, which is the model's own NaN
                scores = key @ _double(call.query[b, h, row]) * request.scale
            if call.softcap is not None:
                scores = call.softcap * np.tanh(scores / call.softcap)
            if call.bias is not None:
                whole = call.bias.detach().expand(request.weights_shape)
                scores = scores + _double(whole[b, h, row])
            if request.mask is not None:
                tile = request.mask.at(where).block(range(row, row + 1), range(keys))
                seen = tile.value if isinstance(tile, Coverage) else tile[0]
                scores = np.where(seen, scores, -np.inf)
            if call.sinks is not None and np.isfinite(scores).any():
                scores = np.append(scores, _double(call.sinks.expand(heads)[h]))
            found.append((where, row, scores))
    return found


def _double(tensor: torch.Tensor) -> Any:
    return to_numpy(tensor.detach().double())


def _logsumexp(scores: Any) -> float:
    top = float(scores.max())
    if np.isinf(top):
        return top
    return top + float(np.log(np.exp(scores - top).sum()))
