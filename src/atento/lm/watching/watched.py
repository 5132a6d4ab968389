"""Watched: how the heads of a model formed while it was trained."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from atento._errors import InputError
from atento.lm.watching.look import STATISTICS
from atento.lm.watching.plan import Prompt
from atento.reading.roles import OTHER, ROLES, role_of
from atento.records import Pictured

__all__ = ["Watched"]

Array = npt.NDArray[Any]

DECIDING = {role.name: role for role in ROLES}


@dataclass(frozen=True, eq=False, repr=False)
class Watched(Pictured):
    """The statistics of every head on fixed prompts, at some steps of a training.

    ``watched["induction"]`` is an array (step, layer, head). The numbers are means over a prompt's
    queries, and then over the prompts:

    - ``induction``, the prefix-matching score: weight on the tokens that followed earlier
      occurrences of the query's token, over the queries whose token stood earlier in the prompt
      (Olsson et al. 2022, arXiv 2209.11895); ``duplicate``: on the earlier occurrences themselves,
      over the same queries. NaN where no prompt repeats a token.
    - ``previous``, ``self``, ``first``: weight on the key before the query, its own, the first
      (a sink); ``uniform``: entropy by the logarithm of the keys that are seen; ``entropy``, in
      nats: over the queries after the first four, as in the table of heads (`Recording.summary`).

    Attributes:
        steps: (step,) after how many updates.
        total: steps of the whole training.
        layers: names of the layers.
        heads: numbers of the heads.
        numbers: (step, statistic, layer, head), in the order of `names`.
        losses: (step, prompt), the mean of −log p(next token) over a prompt.
        prompts: on which.
        maps: of the first prompts, (step, pool, layer, head, row, column) in float16: overviews of
            the weights by mean and maximum, or the weights themselves where these are few enough.
        log: rows of the training's own log: step, loss, validation.

    Raises:
        InputError: for a statistic that is not there.

    >>> heads, numbers = (0, 1), np.zeros((3, len(STATISTICS), 1, 2))
    >>> steps, losses = np.array([0, 5, 9]), np.ones((3, 1))
    >>> watched = Watched(steps, 9, ("attention",), heads, numbers, losses, (), ())
    >>> watched["induction"].shape, watched.loss
    ((3, 1, 2), array([1., 1., 1.]))
    """

    steps: npt.NDArray[np.int64]
    total: int
    layers: tuple[str, ...]
    heads: tuple[int, ...]
    numbers: Array
    losses: Array
    prompts: tuple[Prompt, ...]
    maps: tuple[Array, ...]
    log: tuple[dict[str, Any], ...] = field(default=())

    @property
    def names(self) -> tuple[str, ...]:
        """The statistics that there are."""
        return STATISTICS

    def __getitem__(self, name: str) -> Array:
        if name not in STATISTICS:
            raise InputError(f"there is no statistic {name!r}; there are {', '.join(STATISTICS)}.")
        found: Array = self.numbers[:, STATISTICS.index(name)]
        return found

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def loss(self) -> Array:
        """(step,) the mean of `losses` over the prompts."""
        found: Array = self.losses.mean(axis=1)
        return found

    def role(self, step: int, layer: int, head: int) -> str:
        """The role of a head at one of the steps, by the thresholds of the table of heads.

        Args:
            step: a place in `steps`.
            layer: a place in `layers`.
            head: a place in `heads`.
        """
        numbers = self.numbers[step, :, layer, head]
        there = {
            name: float(number)
            for name, number in zip(STATISTICS, numbers, strict=True)
            if not np.isnan(number)
        }
        return role_of({name: there.get(name) for name in STATISTICS})

    def formed(self) -> list[dict[str, Any]]:
        """When each head became what it is at the last step that was looked at.

        Returns:
            A row for each head: ``layer`` (its name), ``head``, ``role``, ``number`` (the statistic
            that decides the role) with its last ``value``, and ``step``, the first at which it
            reached the role's ``threshold``. Heads without a role have None from ``number`` on.
        """
        return [
            self._formed(layer, head)
            for layer in range(len(self.layers))
            for head in range(len(self.heads))
        ]

    def _formed(self, layer: int, head: int) -> dict[str, Any]:
        name = self.role(-1, layer, head)
        row = {"layer": self.layers[layer], "head": self.heads[head], "role": name}
        if name == OTHER:
            return row | dict.fromkeys(("number", "value", "threshold", "step"))
        role = DECIDING[name]
        course = self[role.number][:, layer, head]
        reached = int(np.argmax(course >= role.threshold))
        return row | {
            "number": role.number,
            "value": float(course[-1]),
            "threshold": role.threshold,
            "step": int(self.steps[reached]),
        }

    def to_dict(self) -> dict[str, Any]:
        """Everything but the maps, as plain Python values; None for what is not a number."""
        return {
            "steps": self.steps.tolist(),
            "total": self.total,
            "layers": list(self.layers),
            "heads": list(self.heads),
            "statistics": {name: _plain(self[name].tolist()) for name in STATISTICS},
            "loss": _plain(self.losses.tolist()),
            "prompts": [one.text for one in self.prompts],
            "formed": self.formed(),
            "log": [dict(row) for row in self.log],
        }

    def __iter__(self) -> Iterator[str]:
        return iter(STATISTICS)

    def __repr__(self) -> str:
        heads = len(self.layers) * len(self.heads)
        return f"Watched({len(self)} steps up to {int(self.steps[-1]):,}, {heads} heads)"


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value if np.isfinite(value) else None
