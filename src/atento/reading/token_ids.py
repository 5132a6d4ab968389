"""The token ids that come in with the calls of a model while it is captured."""

import inspect
from typing import Any

import torch

from atento._arrays import to_numpy
from atento.reading.call import AttentionCall
from atento.reading.key_prints import came_from, latest_prints, prints_of
from atento.reading.recording import Recording
from atento.reading.token_names import UNKNOWN
from atento.reading.watching import Place

__all__ = ["TokenIds"]


class TokenIds:
    """What is known of the tokens under the keys, each side's by itself.

    Args:
        recording: takes the ids of each forward pass.
        paths: the modules of the model.
    """

    def __init__(self, recording: Recording, paths: dict[torch.nn.Module, str]) -> None:
        self.recording, self.paths = recording, paths
        self.latest: dict[str | None, torch.Tensor] = {}
        self.so_far: dict[str | None, torch.Tensor] = {}
        self.prints: dict[str | None, tuple[str, Any]] = {}

    def of(self, call: AttentionCall, place: Place) -> Any:
        """Those of the call's keys, (batch, token), UNKNOWN where nobody said; None: none are."""
        ids = self._given(place, call.side)
        if call.kind != "self" or ids is None or ids.ndim != 2:
            return None
        (batch, _, Tq, _), Tk = call.query.shape, call.key.shape[2]
        if tuple(ids.shape) != (batch, Tq) or Tk < Tq:  # keys may be pooled: not of one token each
            return None
        if self.latest.get(call.side) is not ids:
            self.latest[call.side] = ids
            self._note(call, ids)
        keys = self.so_far[call.side]
        if Tk > keys.shape[1]:  # room in a cache for tokens to come
            keys = _padded(keys, Tk - keys.shape[1])
        return keys[:, keys.shape[1] - Tk :]

    def _note(self, call: AttentionCall, ids: torch.Tensor) -> None:
        """The ids of a further forward pass, behind those of the keys that its cache holds."""
        side, first = call.side, call.first_query
        before, moved = self.so_far.get(side), self._moved(call)
        goes_on = bool(first) and before is not None and before.shape[0] == ids.shape[0]
        if before is None or not goes_on:
            before = ids[:, :0]
        # Guesses were taken back, or beams changed places: a further pass.
        anew = not goes_on or moved is not None or first < before.shape[1]
        start = 0 if anew else before.shape[1]
        held = before[:, :first] if moved is None else before[moved, :first]
        missing = first - held.shape[1]  # they passed while nobody looked on
        whole = torch.cat([_padded(held, missing), ids.to(before.device)], dim=1)
        self.so_far[side] = whole
        if side != "decoder" or None in self.latest:
            self.recording.add_token_ids(to_numpy(whole[:, start:]), start)

    def _moved(self, call: AttentionCall) -> list[int] | None:
        """Which item's keys each item goes on from; None where all stay, or it cannot be told."""
        side, first = call.side, call.first_query
        layer, old = self.prints.get(side, (call.layer, None))
        new = prints_of(call.key[:, :, : first + call.query.shape[2]])
        moved = None
        if first and old is not None and layer == call.layer and len(old) == len(new):
            moved = came_from(old, new[:, :first])
            new = latest_prints(old if moved is None else old[moved], new)
        self.prints[side] = call.layer, new
        return moved

    def _given(self, place: Place, side: str | None) -> torch.Tensor | None:
        """What the outermost module of the model was called with."""
        for module, args, kwargs in place.modules:
            if module in self.paths:
                ids = _argument(module, args, kwargs, side)
                integer = isinstance(ids, torch.Tensor) and not (
                    ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool
                )
                return ids if integer else None
        return None


def _padded(ids: torch.Tensor, missing: int) -> torch.Tensor:
    return torch.nn.functional.pad(ids, (0, missing), value=UNKNOWN)


def _argument(
    module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], side: str | None
) -> Any:
    try:
        named = inspect.signature(module.forward).bind_partial(*args, **kwargs).arguments
    except (TypeError, ValueError):
        named = {}
    given = {**named, **named.get("kwargs", {}), **kwargs}
    if side == "decoder" and "decoder_input_ids" in given:
        return given["decoder_input_ids"]
    if "input_ids" in given:
        return given["input_ids"] if side != "decoder" or "decoder_input_ids" not in named else None
    return args[0] if args and isinstance(args[0], torch.Tensor) else None
