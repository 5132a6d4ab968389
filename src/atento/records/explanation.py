"""Explanation: the attention of one text (or of given arrays) in every layer, ready to be drawn."""

from dataclasses import dataclass
from typing import Any

from atento.records.pictured import Pictured
from atento.records.trace import Trace

__all__ = ["AttentionLayer", "Explanation", "Projection", "Reason"]


@dataclass(frozen=True, eq=False, repr=False)
class Projection:
    """The linear map that makes queries, keys or values: ``input @ weight + bias``.

    Attributes:
        weight: (input feature, head, feature) float32.
        bias: (head, feature) float32.
    """

    weight: Any
    bias: Any

    def __repr__(self) -> str:
        return f"Projection(weight {tuple(self.weight.shape)}, bias {tuple(self.bias.shape)})"


@dataclass(frozen=True, eq=False, repr=False)
class AttentionLayer:
    """The attention of one layer.

    Attributes:
        trace: its steps for all heads; the axes of each are (head, query | key, key | feature).
        input: (token, feature), what the projections read; None when queries, keys and values
            were given rather than projected.
        projections: the maps for "query", "key" and "value"; empty when they were given.
    """

    trace: Trace
    input: Any
    projections: dict[str, Projection]

    @property
    def heads(self) -> int:
        """How many query heads there are."""
        return int(self.trace["queries"].value.shape[0])

    def __repr__(self) -> str:
        heads, queries, keys = self.trace["weights"].value.shape
        return f"AttentionLayer({heads} heads, query={queries}, key={keys})"


@dataclass(frozen=True)
class Reason:
    """Why a head was chosen to be shown first.

    Attributes:
        kind: "asked" (the caller named it), "only" (there is one) or "telling" (it looks most
            sharply at something other than the first token, the token before and itself).
        among: how many heads were compared.
        score: how telling, from 0 to 1: sharpness × share of weight away from those places.
        query, key, weight: the strongest such link of the head, as token positions and a weight;
            None when the head has no such link.
    """

    kind: str
    among: int
    score: float | None = None
    query: int | None = None
    key: int | None = None
    weight: float | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Explanation(Pictured):
    """Attention explained: tokens, every layer's steps, and the head to look at first.

    Attributes:
        tokens: a name for each query position.
        key_tokens: a name for each key position; the same as ``tokens`` in self-attention.
        layers: the attention layers, in the order in which they ran.
        layer, head: which one to show first, counted from 0.
        reason: why that one.
        model: the name of the model that read the text; None when arrays were given.

    >>> import atento
    >>> explanation = atento.explain("one step")
    >>> explanation.tokens, len(explanation.layers), explanation.model
    (('one', 'step'), 3, 'atento-mini')
    >>> explanation
    Explanation(atento-mini: layer=3, head=4, query=2, key=2; layer ... shows every step)
    >>> explanation.layers[0]
    AttentionLayer(4 heads, query=2, key=2)
    """

    tokens: tuple[str, ...]
    key_tokens: tuple[str, ...]
    layers: tuple[AttentionLayer, ...]
    layer: int
    head: int
    reason: Reason
    model: str | None = None

    def __repr__(self) -> str:
        heads = "–".join(map(str, sorted({layer.heads for layer in self.layers})))
        sizes = f"layer={len(self.layers)}, head={heads}"
        sizes += f", query={len(self.tokens)}, key={len(self.key_tokens)}"
        made = f"{self.model}: " if self.model else ""
        return (
            f"Explanation({made}{sizes}; layer {self.layer}, head {self.head} first; "
            "atento.show shows every step)"
        )
