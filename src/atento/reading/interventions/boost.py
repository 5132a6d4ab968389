"""Boost: edges with more weight, or less."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from atento._errors import EngineError, InputError
from atento.reading.call import AttentionCall
from atento.reading.interventions.intervention import (
    Bools,
    EdgeIntervention,
    Where,
    in_full,
    of_heads,
)

__all__ = ["Boost", "positive"]

MOST = 2**28
"""So many numbers a bias may have: 1 GB in float32."""


class Boost(EdgeIntervention):
    """Edges from a set of queries to a set of keys, their weight times a factor.

        weights' = weights · f / Σ   on the edges, weights / Σ elsewhere,   Σ the sum of each row

    which is log f added to the scores: softmax(mask(softcap(Q Kᵀ · scale) + bias + log f)). With a
    sink Σ includes its share. It is held as one more feature, log f / scale in the queries and 1 in
    the keys, which takes no matrix. Behind a softcap that does not hold: there it is a bias, of one
    row where all queries are meant, otherwise as large as the weights of one batch item.

    Args:
        layer, heads, queries, keys: as in `EdgeIntervention`.
        factor: f > 0; below 1 it weakens.

    While a cache grows, keys cannot be counted from the end: which these are would change with
    every call, and a recording has the keys once.

    >>> Boost(layer="*", queries=[-1], keys=[4], factor=3.0)
    Boost(layer='*', queries=[-1], keys=[4], factor=3.0)
    """

    def __init__(
        self,
        layer: int | str | None = None,
        heads: Any = None,
        queries: Any = None,
        keys: Any = None,
        *,
        factor: float,
    ) -> None:
        super().__init__(layer, heads, queries, keys)
        self.factor = positive("factor", factor)

    def _apply(self, call: AttentionCall, chosen: Bools, where: Where) -> AttentionCall:
        rows, keys = self.edges(call, where)
        if where.queries.start and call.kind == "self" and self.keys.from_the_end:
            raise EngineError(
                f"{self!r} counts keys from the end, and these change with every call while a "
                "cache grows: count them from 0."
            )
        call = in_full(call)
        scale = call.query.shape[-1] ** -0.5 if call.scale is None else call.scale
        call = replace(
            call,
            scale=scale,
            changed=call.changed | frozenset(np.flatnonzero(chosen).tolist()),
        )
        if call.softcap is None and scale:
            return self._as_feature(call, chosen, rows, keys, scale)
        return self._as_bias(call, chosen, rows, keys)

    def _as_feature(
        self, call: AttentionCall, chosen: Bools, rows: Bools, keys: Bools, scale: float
    ) -> AttentionCall:
        query, key = call.query, call.key
        # (1, head, query, 1) and (1, 1, key, 1)
        asking = of_heads(chosen, query) * _tensor(rows, query)[None, None, :, None]
        asked = _tensor(keys, key)[None, None, :, None]
        of_query = (asking * (math.log(self.factor) / scale)).expand(*query.shape[:3], 1)
        return replace(
            call,
            query=torch.cat([query, of_query], dim=-1),
            key=torch.cat([key, asked.expand(*key.shape[:3], 1)], dim=-1),
        )

    def _as_bias(
        self, call: AttentionCall, chosen: Bools, rows: Bools, keys: Bools
    ) -> AttentionCall:
        rows, keys = (each[:1] if each.all() else each for each in (rows, keys))
        size = len(chosen) * len(rows) * len(keys)
        if size > MOST:
            raise EngineError(
                f"{self!r} behind a softcap is a bias as large as the weights, here "
                f"{size / 2**28:.0f} GB: boost for all queries (queries=None), or run a shorter "
                "text."
            )
        query = call.query
        edges = _tensor(rows, query)[:, None] * _tensor(keys, query)  # (query, key)
        added = of_heads(chosen, query) * edges * math.log(self.factor)
        return replace(call, bias=added if call.bias is None else call.bias + added)

    def _said(self) -> dict[str, Any]:
        return {**super()._said(), "factor": self.factor}


def _tensor(which: Bools, like: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(which).to(like)


def positive(name: str, number: Any) -> float:
    """A finite number above 0.

    Raises:
        InputError: for anything else.
    """
    try:
        value = float(number)
    except (TypeError, ValueError):
        value = math.nan
    if isinstance(number, bool | str) or not (math.isfinite(value) and value > 0):
        raise InputError(f"{name} must be a finite number above 0; got {number!r}.")
    return value
