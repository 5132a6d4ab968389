"""Measure: what is looked at in a model's output, before and after a change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from atento._arrays import to_numpy
from atento._errors import InputError
from atento.reading.effect import Effect, Prediction, change_of
from atento.reading.interventions.applying import Applying
from atento.reading.running_again import run_again
from atento.reading.spans import position as item_at

if TYPE_CHECKING:
    from collections.abc import Callable

    from atento.reading.interventions.intervention import Intervention
    from atento.reading.origin import Origin
    from atento.reading.recording import Recording

__all__ = ["Measure", "effect_of"]


def effect_of(
    recording: Recording,
    origin: Origin,
    interventions: Any,
    token: int | str | None,
    position: int,
    of: Callable[[Any], Any] | None,
    batch: int,
) -> Effect:
    """The effect of interventions on the model that was recorded; see `Recording.effect`."""
    several = Applying(interventions).interventions  # refused before the model runs
    plain = run_again(origin)
    measure = Measure(recording, plain, token, position, of, batch)
    return measure.effect(several, run_again(origin, several, recording.names))


class Measure:
    """What is looked at in a model's output, and how it was without interventions.

    Args:
        recording: whose model it is.
        output: of the model as it is.
        token, position, of, batch: as in `Recording.effect`.
    """

    def __init__(
        self,
        recording: Recording,
        output: Any,
        token: int | str | None,
        position: int,
        of: Callable[[Any], Any] | None,
        batch: int,
    ) -> None:
        self.of, self.batch = of, batch
        self.token: int | None = None
        self.position: int | None = None
        if of is None:
            logits = _logits(output, token is not None)
            if logits is not None:
                self._take(recording, logits, token, position)
            elif token is not None:
                raise InputError(
                    f"{type(output).__name__} has no logits of which a token could be looked at: "
                    "leave token out, or say with of= what to look at."
                )
        self.before = self.value(output)

    def _take(
        self, recording: Recording, logits: torch.Tensor, token: int | str | None, position: int
    ) -> None:
        """The position and the token's id."""
        if logits.ndim == 3:
            self.position = _from_the_end(position, logits.shape[1], recording)
        own = self._row(logits)
        self.token = int(own.argmax()) if token is None else _token_id(recording, token, logits)
        if not 0 <= self.token < len(own):
            raise InputError(
                f"there is no token {self.token}: the model has logits of {len(own)} tokens."
            )

    def _row(self, logits: torch.Tensor, batch: int | None = None) -> torch.Tensor:
        batch = self.batch if batch is None else batch
        item = _item(logits, batch)
        return (item if self.position is None else item[self.position]).double()

    def value(self, output: Any, batch: int | None = None) -> Any:
        """What is looked at, a `Prediction`, a number or an array.

        Args:
            output: of the model.
            batch: of which item, another than that asked for where items are copies of it.
        """
        if self.of is not None:
            return _as_value(self.of(output))
        if self.token is None:
            return to_numpy(_item(_states(output), self.batch if batch is None else batch).double())
        logits = _logits(output, always=True)
        if logits is None:
            raise InputError("the model's output has no logits any more.")
        row = self._row(logits, batch)
        return Prediction(float(row[self.token]), float(row.log_softmax(-1)[self.token]))

    def effect(
        self, interventions: tuple[Intervention, ...], output: Any, batch: int | None = None
    ) -> Effect:
        """How a changed model's output differs."""
        after = self.value(output, batch)
        change = change_of(self.before, after)
        return Effect(interventions, self.before, after, change, self.token, self.position)


def _logits(output: Any, always: bool) -> torch.Tensor | None:
    """(batch, token, vocabulary) or (batch, class); with ``always`` a bare tensor is taken too."""
    if isinstance(output, torch.Tensor):
        return output if always and output.ndim in (2, 3) else None
    found = getattr(output, "logits", None)
    if found is None and isinstance(output, dict):
        found = output.get("logits")
    return found if isinstance(found, torch.Tensor) and found.ndim in (2, 3) else None


def _states(output: Any) -> torch.Tensor:
    """The last hidden states, or the first tensor of numbers in the output."""
    found = getattr(output, "last_hidden_state", None)
    if isinstance(found, torch.Tensor):
        return found
    values = list(output.values()) if isinstance(output, dict) else output
    for each in values if isinstance(values, list | tuple) else [values]:
        if isinstance(each, torch.Tensor) and each.is_floating_point() and each.ndim:
            return each
    raise InputError(
        f"no tensor was found in the model's output, a {type(output).__name__}: say with of= what "
        "to look at."
    )


def _item(tensor: torch.Tensor, batch: int) -> torch.Tensor:
    return tensor[item_at("batch", batch, tensor.shape[0], "batch items")]


def _from_the_end(position: Any, length: int, recording: Recording) -> int:
    """A position as it is counted from the end of the logits, which may be the last ones only."""
    if isinstance(position, bool) or not hasattr(position, "__index__"):
        raise InputError(f"position must be a whole number; got {position!r}.")
    position = int(position)
    ids, total = recording.token_ids, length
    if ids is not None and "logits_to_keep" in recording.origin.kwargs:  # of the last tokens only
        total = max(length, ids.shape[1])
    found: int = position if position < 0 else position - total
    if not -length <= found < 0:
        raise InputError(
            f"the model has logits of {length} positions, the last of {total} tokens; got position "
            f"{position}."
        )
    return found


def _token_id(recording: Recording, token: Any, logits: torch.Tensor) -> int:
    if isinstance(token, str):
        return _class_id(recording, token) if logits.ndim == 2 else _id_of(recording, token)
    if isinstance(token, bool) or not hasattr(token, "__index__"):
        raise InputError(f"token must be an id or a text; got {token!r}.")
    return int(token)


def _class_id(recording: Recording, name: str) -> int:
    model = recording.origin.module
    known: dict[str, int] = getattr(getattr(model, "config", None), "label2id", None) or {}
    if name not in known:
        raise InputError(
            f"there is no class {name!r}; there are {', '.join(known) or 'none with names'}. Or "
            "give its number."
        )
    return int(known[name])


def _id_of(recording: Recording, text: str) -> int:
    tokenizer = recording.token_names.tokenizer
    if tokenizer is None or not hasattr(tokenizer, "encode"):
        raise InputError(
            f"the token {text!r} is a text, and no tokenizer is known: give the token's id, or "
            "recording.name_tokens(tokenizer) first."
        )
    try:
        ids = tokenizer.encode(text, add_special_tokens=False)
    except TypeError:  # a tokenizer without special tokens
        ids = tokenizer.encode(text)
    ids = list(getattr(ids, "ids", ids))
    if len(ids) != 1:
        raise InputError(
            f"the text {text!r} is {len(ids)} tokens for the tokenizer, {ids}: give one token, or "
            "its id. A space in front often counts."
        )
    return int(ids[0])


def _as_value(found: Any) -> float | npt.NDArray[Any]:
    if isinstance(found, torch.Tensor):
        found = to_numpy(found.detach().double())
    if isinstance(found, int | float) and not isinstance(found, bool):
        return float(found)
    if not isinstance(found, np.ndarray) or not found.size:
        raise InputError(
            f"of= must return a tensor of numbers; it returned {type(found).__name__}."
        )
    return float(found.reshape(())) if found.size == 1 else found
