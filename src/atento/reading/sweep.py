"""Sweep: a row for each head of a model, and what changing it does to the output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from atento._optional import require
from atento.reading.effect import Effect, Prediction

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Sweep", "sweep_from"]


@dataclass(frozen=True, eq=False, repr=False)
class Sweep:
    """A row for each head: ``layer``, ``head``, ``change``, the largest change first.

    The change is that of the token's log-probability (its ``logit`` has a column besides), of the
    number that ``of=`` gave, or a relative distance; see `Effect`.

    Attributes:
        rows: dicts.
        layers: the layers' names, in the order they ran.
        effects: the `Effect` of each row, in the rows' order.
        array: the changes (layer, head), heads by their numbers; NaN where there is none.
    """

    rows: tuple[dict[str, Any], ...]
    layers: tuple[str, ...]
    effects: tuple[Effect, ...]
    array: npt.NDArray[np.float64]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return self.rows[row]

    def to_dict(self) -> dict[str, Any]:
        """The rows, the layers and the token, as plain Python values."""
        first = self.effects[0] if self.effects else None
        return {
            "rows": [dict(row) for row in self.rows],
            "layers": list(self.layers),
            "token": None if first is None else first.token,
            "position": None if first is None else first.position,
        }

    def to_pandas(self) -> Any:
        """The rows as a pandas data frame.

        Raises:
            MissingLibraryError: when pandas is not installed.
        """
        return require("pandas", "for sweep().to_pandas()").DataFrame(list(self.rows))

    def __str__(self) -> str:
        """A table in plain text."""
        if not self.rows:
            return "no heads were changed"
        lines = [list(self.rows[0])]
        lines += [
            [f"{cell:+.4g}" if isinstance(cell, float) else str(cell) for cell in row.values()]
            for row in self.rows
        ]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(
                cell.rjust(width) if i else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
            for line in lines
        )

    def __repr__(self) -> str:
        return f"Sweep({len(self.rows)} heads)"


def sweep_from(names: list[str], heads: list[tuple[str, int]], found: list[Effect]) -> Sweep:
    """The table of the effects that were found.

    Args:
        names: of the layers, in order.
        heads: (layer, head) of each effect.
        found: the effects.
    """
    array = np.full((len(names), 1 + max(head for _, head in heads)), np.nan)
    for (layer, head), effect in zip(heads, found, strict=True):
        array[names.index(layer), head] = effect.number
    order = sorted(range(len(heads)), key=lambda i: -abs(found[i].number))
    rows = tuple(_row(*heads[i], found[i]) for i in order)
    return Sweep(rows, tuple(names), tuple(found[i] for i in order), array)


def _row(layer: str, head: int, effect: Effect) -> dict[str, Any]:
    row = {"layer": layer, "head": int(head), "change": effect.number}
    return row | {"logit": effect.change.logit} if isinstance(effect.change, Prediction) else row
