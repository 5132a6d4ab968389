"""Every step of every layer's attention, while a model runs on a short text."""

from dataclasses import replace
from typing import Any

import torch

from atento.equation import trace
from atento.reading.call import AttentionCall
from atento.reading.changing import ROOT, Changing
from atento.reading.watching import Place, watching
from atento.reading.ways import interface, own_modules
from atento.records import Trace

__all__ = ["Traced", "traced"]

del interface, own_modules  # they have registered themselves


class Traced(Changing):
    """Hears the attention of a model, and traces what each layer was given.

    Attributes:
        traces: (layer, steps) of each call, in the order they ran; the axes of a step are (batch,
            head, query | key, key | feature).
    """

    records = True

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__(model, ())
        self.traces: list[tuple[str, Trace]] = []

    def observe(self, call: AttentionCall, place: Place, lse: Any) -> None:
        """Trace a call: the equation, step by step, on its queries, keys and values."""
        del lse
        layer = self.name_of(place) or ROOT
        call = self.whole(replace(call, layer=layer))
        steps = trace(
            call.query.detach(),
            call.key.detach(),
            call.value.detach(),
            mask=call.mask,
            bias=None if call.bias is None else call.bias.detach(),
            scale=call.scale,
            softcap=call.softcap,
            sinks=None if call.sinks is None else call.sinks.detach(),
        )
        self.traces.append((layer, steps))

    def _keys_of(self, layer: str) -> Any:
        del layer  # a text in one go: nothing was let go before


def traced(model: torch.nn.Module, run: Any) -> list[tuple[str, Trace]]:
    """The traces of what a model computes while ``run()`` calls it.

    All weights of all heads are held: for short texts.

    Raises:
        EngineError: for a layer that cannot be read exactly.
    """
    taking = Traced(model)
    with watching(taking):
        run()
    return taking.traces
