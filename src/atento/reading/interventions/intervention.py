"""Intervention: what all kinds have in common."""

from abc import ABC, abstractmethod
from copy import copy
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from atento._errors import InputError
from atento.reading.call import AttentionCall
from atento.reading.interventions.positions import Positions

__all__ = ["Intervention", "Where"]

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Where:
    """Where a call stands in the whole sequence.

    Attributes:
        queries: the positions of its queries.
        keys: how many keys there are; a static cache has room for more.
    """

    queries: range
    keys: int


class Intervention(ABC):
    """A change of what a model's heads attend to, or of what they put out.

    Several apply in the order given. All changes of weights come first, one upon the other; the
    outputs are made from the weights that result, and then `KnockOut` acts on the outputs.

    Args:
        layer: which layers: a module path, a pattern (``"model.layers.*"``), a number in the order
            they run (as ``capture(layers=)`` counts), or None for all.
        heads: which query heads: a number or several; negative ones count from the end; None: all.

    Heads that are changed are computed by `atento.attention` (half precision in float32, rounded
    at the end) and written over the model's own output; all others stay the model's, to the bit.
    With gradients switched on, gradients flow through what was changed. Where a changed head has a
    query that may see no key, its output is 0. With dropout (training), other weights are dropped
    in a changed head than the model would have dropped.
    """

    def __init__(self, layer: int | str | None = None, heads: Any = None) -> None:
        self.layer = _checked_layer(layer)
        self.heads = Positions("heads", heads)

    def anew(self) -> Self:
        """The same, that knows of no call yet."""
        made = copy(self)
        for name, value in vars(self).items():
            if isinstance(value, Positions):
                setattr(made, name, value.anew())
        return made

    def named(self, layer: str, number: int) -> bool:
        """Whether a layer is meant.

        Args:
            layer: its module path.
            number: in the order they run.
        """
        if self.layer is None:
            return True
        if isinstance(self.layer, int):
            return self.layer == number
        return fnmatchcase(layer, self.layer)

    def apply(self, call: AttentionCall, where: Where) -> AttentionCall:
        """The call as it is with the change.

        Raises:
            EngineError: where it cannot be made exactly.
        """
        chosen = self.heads.of(range(call.query.shape[1]))
        return self._apply(call, chosen, where) if chosen.any() else call

    @abstractmethod
    def _apply(self, call: AttentionCall, chosen: Bools, where: Where) -> AttentionCall:
        """The same, for these query heads."""

    def unmet(self) -> list[str]:
        """What was asked for and never came, each in a few words."""
        return [words for words in map(_never, self._positions()) if words is not None]

    def _positions(self) -> list[Positions]:
        return [self.heads]

    def _said(self) -> dict[str, Any]:
        """The arguments besides layer and heads, for `repr`."""
        return {}

    def __repr__(self) -> str:
        said = {"layer": self.layer, "heads": None if self.heads.all else self.heads}
        words = [f"{k}={v!r}" for k, v in {**said, **self._said()}.items() if v is not None]
        return f"{type(self).__name__}({', '.join(words)})"


class EdgeIntervention(Intervention):
    """A change of the edges from a set of queries to a set of keys.

    Args:
        layer, heads: as in `Intervention`.
        queries: positions in the whole sequence, also while a cache grows: a whole number, several,
            a slice, a range, a bool array, or None for all. Negative ones count from the end of
            what is there in each call. In a batch they are positions of the padded sequence.
        keys: the same.
    """

    def __init__(
        self,
        layer: int | str | None = None,
        heads: Any = None,
        queries: Any = None,
        keys: Any = None,
    ) -> None:
        super().__init__(layer, heads)
        self.queries, self.keys = Positions("queries", queries), Positions("keys", keys)

    def edges(self, call: AttentionCall, where: Where) -> tuple[Bools, Bools]:
        """Which queries and which keys of the call are meant."""
        rows = self.queries.of(where.queries)
        return rows, self.keys.of(range(call.key.shape[2]), where.keys)

    def _positions(self) -> list[Positions]:
        return [self.heads, self.queries, self.keys]

    def _said(self) -> dict[str, Any]:
        sets = {"queries": self.queries, "keys": self.keys}
        return {name: each for name, each in sets.items() if not each.all}


def in_full(call: AttentionCall) -> AttentionCall:
    """The call with its tensors in float32 where they are in half precision."""
    if call.query.dtype in (torch.float32, torch.float64):
        return call
    return replace(
        call,
        query=call.query.float(),
        key=call.key.float(),
        value=call.value.float(),
        bias=None if call.bias is None else call.bias.float(),
        sinks=None if call.sinks is None else call.sinks.float(),
    )


def of_heads(chosen: Bools, like: torch.Tensor) -> torch.Tensor:
    """The heads as a bool tensor (1, head, 1, 1)."""
    return torch.from_numpy(chosen).to(like.device)[None, :, None, None]


def _checked_layer(layer: Any) -> int | str | None:
    if layer is None or isinstance(layer, str):
        return layer
    if isinstance(layer, bool) or not isinstance(layer, int):
        raise InputError(f"layer must be a module path, a pattern or a number; got {layer!r}.")
    if layer < 0:
        raise InputError(
            f"layers are counted from 0 in the order they run; got {layer}, and how many there are "
            "is not known before."
        )
    return layer


def _never(positions: Positions) -> str | None:
    missing = positions.missing()
    if missing is None:
        return None
    asked = ", ".join(map(str, missing)) if missing else repr(positions)
    return f"{positions.name} {asked} (there were {positions.reached})"
