"""Comparison: how two recordings of the same layers differ, head by head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from atento._errors import InputError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from atento.reading.layer import LayerRecord
    from atento.reading.recording import Recording
    from atento.reading.spans import Span

__all__ = ["Comparison", "compared"]


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """The difference of two recordings of the same shape, first minus second.

    Iterating gives a dict for each pass, layer, head and statistic (log-sum-exp among them, "lse"):
    ``pass`` (counted from 0), ``layer``, ``head`` (its number in the model; None for a statistic
    without heads), ``statistic``, ``mean`` (of the absolute differences), ``max`` and ``where``,
    its index in the remaining axes, batch first. Whole numbers, such as the key of a maximum,
    differ by 1 where they are not the same.
    """

    first: Recording
    second: Recording

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for number, both in enumerate(zip(self.first.passes, self.second.passes, strict=True)):
            for mine, theirs in zip(*both, strict=True):
                for row in _differences(mine, theirs):
                    yield {"pass": number, **row}

    def weights(
        self,
        layer: int | str,
        head: int,
        rows: Span = None,
        cols: Span = None,
        batch: int = 0,
    ) -> npt.NDArray[Any]:
        """The difference of the weights of one head, in the first pass: (rows, cols).

        See `LayerRecord.weights`.
        """
        mine, theirs = (
            recording[layer].weights(head, rows, cols, batch)
            for recording in (self.first, self.second)
        )
        difference: npt.NDArray[Any] = mine - theirs
        return difference

    def to_dict(self) -> dict[str, Any]:
        """The rows as a list."""
        return {"rows": list(self)}

    def __repr__(self) -> str:
        return f"Comparison({len(self.first)} layers)"


def compared(first: Recording, second: Any) -> Comparison:
    """The comparison of two recordings; see `Recording.compare`.

    Raises:
        InputError: when layers, heads, lengths or the number of passes are not the same.
    """
    _check_recordings(first, second)
    for mine, theirs in zip(first.passes, second.passes, strict=True):
        for mine_of, theirs_of in zip(mine, theirs, strict=True):
            _check_layers(mine_of, theirs_of)
    return Comparison(first, second)


def _check_recordings(first: Recording, second: Any) -> None:
    from atento.reading.recording import Recording

    if not isinstance(second, Recording):
        raise InputError(f"compare takes another Recording; got {type(second).__name__}.")
    passes = len(first.passes), len(second.passes)
    if passes[0] != passes[1]:
        raise InputError(
            f"compare: the layers ran {passes[0]} times here and {passes[1]} times there. Compare "
            "recording.passes[k] of each."
        )
    for mine, theirs in zip(first.passes, second.passes, strict=True):
        if mine.names != theirs.names:
            here = [name for name in mine.names if name not in theirs.names]
            there = [name for name in theirs.names if name not in mine.names]
            raise InputError(
                "compare needs recordings of the same layers, in one order. Only here: "
                f"{', '.join(here) or 'none'}. Only there: {', '.join(there) or 'none'}."
            )


def _check_layers(mine: LayerRecord, theirs: LayerRecord) -> None:
    if mine.shape != theirs.shape:
        raise ShapeError(
            f"compare: layer {mine.layer!r} has weights (batch, head, query, key) = "
            f"{mine.shape} here and {theirs.shape} there. Record both on texts of the "
            "same length."
        )
    if mine.head_numbers != theirs.head_numbers:
        raise InputError(
            f"compare: layer {mine.layer!r} has the heads {mine.head_numbers} here and "
            f"{theirs.head_numbers} there. Record the same heads of both."
        )


def _differences(mine: LayerRecord, theirs: LayerRecord) -> Iterator[dict[str, Any]]:
    common = [name for name in mine.statistics if name in theirs.statistics]
    yield from _difference(mine, "lse", ("head", "query"), mine.lse, theirs.lse)
    for name in common:
        axes, own = mine.axes[name], (mine.statistics[name], theirs.statistics[name])
        if own[0].shape == own[1].shape:
            yield from _difference(mine, name, axes, *own)


def _difference(
    record: LayerRecord, name: str, axes: tuple[str, ...], mine: Any, theirs: Any
) -> Iterator[dict[str, Any]]:
    if mine.dtype.kind == "f":
        with np.errstate(invalid="ignore"):  # ∞ − ∞, replaced by 0 where both are the same
            difference = np.abs(np.subtract(mine, theirs, dtype=np.float64))
        difference[mine == theirs] = 0
    else:
        difference = (mine != theirs).astype(np.float64)
    by_head = "head" in axes
    heads = np.moveaxis(difference, 1 + axes.index("head"), 0) if by_head else difference[None]
    for head, own in enumerate(heads):
        where = np.unravel_index(int(np.argmax(own)), own.shape) if own.size else None
        yield {
            "layer": record.layer,
            "head": record.head_numbers[head] if by_head else None,
            "statistic": name,
            "mean": float(own.mean()) if own.size else 0.0,
            "max": 0.0 if where is None else float(own[where]),
            "where": None if where is None else tuple(int(i) for i in where),
        }
