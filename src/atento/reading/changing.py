"""Changing: a model's attention is changed while it runs, and nothing is kept of it."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from atento._errors import AtentoError, EngineError
from atento.reading.call import AttentionCall
from atento.reading.interventions.applying import Applying
from atento.reading.layer_names import named_attention, side_of
from atento.reading.sliding_cache import SlidingCaches
from atento.reading.watching import Place

__all__ = ["ROOT", "Changing"]

ROOT = "(model)"
"""The layer's name where the model itself calls attention, not one of its modules."""

CHECKPOINTED = (
    "it is checkpointed: the backward pass runs it once more, as it is without interventions. "
    "Switch that off (model.gradient_checkpointing_disable()), or run the model in evaluation mode."
)


class Changing:
    """What hears the attention of a model and applies interventions to it.

    Args:
        model: whose modules give the layers their names.
        interventions: one or several, in order.
        layers: the names of those that are looked at, where that is known; all others run alone.
    """

    records = False

    def __init__(
        self, model: torch.nn.Module, interventions: Any, layers: Iterable[str] | None = None
    ) -> None:
        self.applying = Applying(interventions)
        self.paths = {module: name for name, module in model.named_modules()}
        self.has_both = _has_both(self.paths)
        self.looked_at = None if layers is None else set(layers)
        self.seen: dict[str, int] = {}
        self.caches = SlidingCaches()

    def name_of(self, place: Place) -> str | None:
        """The path of the innermost module of this model that is being called."""
        for module, _, _ in reversed(place.modules):
            if module in self.paths:
                name = self.paths[module] or ROOT
                return name if self.looked_at is None or name in self.looked_at else None
        return None

    def number_of(self, layer: str) -> int:
        """The number of a layer, in the order they run."""
        return self.seen.setdefault(layer, len(self.seen))

    def skip(self, layer: str, error: AtentoError) -> None:
        """Raise where a layer that cannot be read was to be changed."""
        if self.applying.concerns(layer, self.number_of(layer)):
            raise type(error)(f"{layer}: {error}") from error

    def intervene(self, calls: Sequence[AttentionCall], place: Place) -> Sequence[AttentionCall]:
        """The calls with the interventions that name their layer."""
        layer = self.name_of(place) or ROOT
        side, number = side_of(layer, self.has_both), self.number_of(layer)
        try:
            made = self.applying.changed(calls, layer, side, number, self.whole)
            if place.checkpointed and (made[-1].changed or made[-1].knocked_out):
                raise EngineError(CHECKPOINTED)
        except AtentoError as error:
            self.skip(layer, error)
            return calls
        return made

    def whole(self, call: AttentionCall) -> AttentionCall:
        """The call with the keys that a sliding cache has let go."""
        return self.caches.whole(call, partial(self._keys_of, call.layer))

    def _keys_of(self, layer: str) -> Any:
        del layer

    def observe(self, call: AttentionCall, place: Place, lse: Any) -> None:
        """Nothing is kept."""


def _has_both(paths: Mapping[torch.nn.Module, str]) -> bool:
    """Whether there is an encoder and a decoder: two stacks, each with attention in it."""
    attending = [path for module, path in paths.items() if named_attention(module)]
    parts = {part for path in attending or paths.values() for part in path.split(".")}
    return {"encoder", "decoder"} <= parts
