"""Temperature: sharper or flatter weights."""

from dataclasses import replace
from typing import Any

import numpy as np

from atento._errors import EngineError
from atento.reading.call import AttentionCall
from atento.reading.interventions.boost import positive
from atento.reading.interventions.intervention import (
    Bools,
    Intervention,
    Where,
    in_full,
    of_heads,
)

__all__ = ["Temperature"]


class Temperature(Intervention):
    """Scores divided by a temperature before the softmax.

        weights' = softmax(mask(scores / t)),   scores = softcap(Q Kᵀ · scale) + bias,   sinks / t

    t < 1 sharpens, t > 1 flattens. Queries, bias, sinks and the softcap are divided by t, which is
    the same. A layer has one softcap, so that with one all its heads have to be meant.

    Args:
        layer, heads: as in `Intervention`.
        temperature: t > 0.

    >>> Temperature(layer=0, temperature=0.5)
    Temperature(layer=0, temperature=0.5)
    """

    def __init__(
        self, layer: int | str | None = None, heads: Any = None, *, temperature: float
    ) -> None:
        super().__init__(layer, heads)
        self.temperature = positive("temperature", temperature)

    def _apply(self, call: AttentionCall, chosen: Bools, where: Where) -> AttentionCall:
        del where
        if call.softcap is not None and not chosen.all():
            raise EngineError(
                f"{self!r} is for some heads of a layer that has one softcap for all: leave heads "
                "out."
            )
        call = in_full(call)
        t = call.query.new_ones(len(chosen)).masked_fill(
            of_heads(chosen, call.query).flatten(), self.temperature
        )
        bias, softcap = call.bias, call.softcap
        if bias is not None:  # as it is, where one number does for all heads
            bias = bias / (self.temperature if chosen.all() else t[:, None, None])
        return replace(
            call,
            query=call.query / t[:, None, None],
            bias=bias,
            softcap=None if softcap is None else softcap / self.temperature,
            sinks=None if call.sinks is None else call.sinks / t,
            changed=call.changed | frozenset(np.flatnonzero(chosen).tolist()),
        )

    def _said(self) -> dict[str, Any]:
        return {"temperature": self.temperature}
