"""Masks inside a page: the keys that each query sees, as runs of neighbours."""

from typing import Any

import numpy as np
import numpy.typing as npt

from atento._errors import InputError
from atento.reading.key_runs import MOST_RUNS, runs_of

__all__ = ["MaskRuns"]

Ints = npt.NDArray[np.int32]


class MaskRuns:
    """The masks of a page: each is written once, however many heads and layers see through it."""

    def __init__(self) -> None:
        self.written: list[dict[str, Ints]] = []
        self._known: dict[tuple[int, ...], int] = {}
        self._same: dict[tuple[bytes, ...], int] = {}
        self._kept: list[Any] = []
        self._runs = 0

    def add(self, layer: Any, batch: int, heads: list[int]) -> list[int] | None:
        """The place in ``written`` of each head's mask; None where every query sees every key.

        Raises:
            InputError: when the masks have too many runs for a page.
        """
        mask = layer.mask
        if mask is None:
            return None
        self._kept.append(mask)  # so that no other mask gets its id
        sizes = (1,) * (2 - len(mask.leading)) + tuple(mask.leading)
        places = []
        for head in heads:
            index = tuple(0 if n == 1 else i for i, n in zip((batch, head), sizes, strict=True))
            key = (id(mask), *index, layer.queries, layer.keys)
            if key not in self._known:
                self._known[key] = self._add(mask.at(index), layer)
            places.append(self._known[key])
        return places

    def _add(self, mask: Any, layer: Any) -> int:
        runs = runs_of(mask, layer.queries, layer.keys, MOST_RUNS - self._runs)
        if runs is None:
            raise InputError(
                f"the mask of layer {layer.layer!r} is too broken for a page: the keys that its "
                f"queries see are more than {MOST_RUNS} runs of neighbours. Draw fewer layers or "
                "heads, with layers= or heads=."
            )
        content = tuple(array.tobytes() for array in runs.values())
        if content not in self._same:
            self._same[content] = len(self.written)
            self.written.append(runs)
            self._runs += len(runs["starts"])
        return self._same[content]
