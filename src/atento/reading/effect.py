"""Effect: what interventions do to a model's output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from atento._errors import InputError

__all__ = ["Effect", "Prediction", "change_of"]


class Prediction(NamedTuple):
    """What a model says of one token: its logit, and log softmax of it."""

    logit: float
    log_probability: float


@dataclass(frozen=True, eq=False, repr=False)
class Effect:
    """What interventions do to a model's output.

    Attributes:
        interventions: what was changed.
        before, after: a `Prediction` of the token, without and with them; or what was looked at
            instead: a number, or an array.
        change: after − before, as a `Prediction` or number; for arrays of more than one number
            ‖after − before‖ / ‖before‖.
        token: its id, or None.
        position: counted from the end of the logits, −1 the last, or None.
    """

    interventions: tuple[Any, ...]
    before: Any
    after: Any
    change: Any
    token: int | None = None
    position: int | None = None

    @property
    def number(self) -> float:
        """The change as one number; of a token that of its log-probability."""
        return number_of(self.change)

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain Python values."""
        return {
            "interventions": [repr(each) for each in self.interventions],
            "token": self.token,
            "position": self.position,
            "before": _plain(self.before),
            "after": _plain(self.after),
            "change": _plain(self.change),
        }

    def __repr__(self) -> str:
        if not isinstance(self.change, Prediction):
            return f"Effect({', '.join(map(repr, self.interventions))}: change {self.change:+.4g})"
        said = [
            f"{name.replace('_', '-')} {was:.4g} → {now:.4g} ({by:+.4g})"
            for name, was, now, by in zip(
                Prediction._fields, self.before, self.after, self.change, strict=True
            )
        ]
        named = ", ".join(map(repr, self.interventions))
        return f"Effect({named}: token {self.token}, {', '.join(said)})"


def change_of(before: Any, after: Any) -> Any:
    """After − before, or the relative distance of arrays of more than one number."""
    if isinstance(before, Prediction):
        return Prediction(*(now - was for was, now in zip(before, after, strict=True)))
    if isinstance(before, float):
        return after - before
    if before.shape != after.shape:
        raise InputError(
            f"the output has the shape {after.shape} with the interventions and {before.shape} "
            "without."
        )
    distance, size = np.linalg.norm(after - before), np.linalg.norm(before)
    return float(distance / size) if size else float("inf") if distance else 0.0


def number_of(change: Any) -> float:
    """A change as one number."""
    return float(change.log_probability if isinstance(change, Prediction) else change)


def _plain(value: Any) -> Any:
    if isinstance(value, Prediction):
        return value._asdict()
    return value.tolist() if isinstance(value, np.ndarray) else value
