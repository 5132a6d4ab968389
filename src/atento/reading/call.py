"""One attention call of a model, as a way in saw it, in the terms of the equation."""

from dataclasses import dataclass
from typing import Any

import torch

from atento.masks import Mask

__all__ = ["AttentionCall", "KnockedOut"]


@dataclass(frozen=True)
class KnockedOut:
    """Heads whose output is not what their weights make of the values.

    Attributes:
        heads: query heads.
        by: "zero", or "mean": over the queries of the call, for each batch item.
        item: of which batch item; None: of all.
    """

    heads: tuple[int, ...]
    by: str
    item: int | None = None


@dataclass(frozen=True, eq=False)
class AttentionCall:
    """The arguments of `atento.attention` that stand for what a model's layer computes.

    Attributes:
        layer: the module path, as in ``model.layers.3.self_attn``; several calls of one forward
            pass may have the same.
        kind: "self" or "cross".
        side: "encoder", "decoder", or None where the model has one stack.
        way: the way in that saw it: "interface", "sdpa", "mha", "softmax" or "atento".
        query: (batch, query head, query, feature).
        key, value: (batch, key head, key, feature); key heads not repeated for groups.
        mask: a rule that fits, True = attends; None: everybody sees everybody.
        bias: added to the scores, broadcasts to (batch, head, query, key); or None.
        scale: multiplies the products.
        softcap: or None.
        sinks: (query head,), or None.
        dropout: the probability in this call (0 in evaluation).
        first_query: the position of query 0 on the keys' axis.
        whole: whether it has all keys, those that a sliding cache has let go among them.
        changed: the query heads whose weights an intervention has changed.
        knocked_out: what interventions do to the heads' outputs, in order.
    """

    layer: str
    kind: str
    side: str | None
    way: str
    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    mask: Mask | None = None
    bias: torch.Tensor | None = None
    scale: float | None = None
    softcap: float | None = None
    sinks: Any = None
    dropout: float = 0.0
    first_query: int = 0
    whole: bool = False
    changed: frozenset[int] = frozenset()
    knocked_out: tuple[KnockedOut, ...] = ()
