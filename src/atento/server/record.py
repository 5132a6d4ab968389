"""A reading as its page reads it: what it is made of at once, arrays one by one when asked for.

The structure is that of a recording's page (`atento.views.recording_data`), with two differences.
An array is not inside: its place in ``makers`` stands for it, and it is made when it is fetched. Of
a long layer each head has arrays of its own, so that the page fetches those of the heads that it
shows, and the server pools the map's tiles.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from atento._errors import InputError
from atento.reading.key_runs import runs_of
from atento.reading.layer import LayerRecord
from atento.reading.recording import Recording
from atento.server.mistakes import wrong
from atento.views.page_arrays import as_numpy
from atento.views.recording_data import FORMAT, STRIPS, coded

__all__ = ["LONG", "ServedRecord"]

Array = npt.NDArray[Any]

LONG = 2**24
"""Layers of more pairs have arrays by head, and tiles that the server pools."""

SMALL, OVERVIEW = 48, 1024
"""Cells a side of a head's small picture and of its overview, at most."""

MOST_BIAS = 2**24
"""Numbers of one head's bias that a page takes, where it is no function of the distance."""


class ServedRecord:
    """What the page is told of a recording.

    Attributes:
        described: plain data, as JSON has it.
        makers: a function for each array that ``described`` names by its place here.
    """

    def __init__(self, recording: Recording) -> None:
        self.makers: list[Callable[[], Array]] = []
        self._masks: list[dict[str, int]] = []
        rows = {(row["layer"], row["head"]): _finite(row) for row in recording.summary()}
        tokens = recording.tokens
        self.described: dict[str, Any] = {
            "format": FORMAT,
            "tokens": tokens[0] if tokens and isinstance(tokens[0], list) else tokens,
            "skipped": [[str(layer), str(reason)] for layer, reason in recording.skipped],
            "layers": [self._layer(layer, rows) for layer in recording],
            "masks": self._masks,
            "other": None,
        }

    def array(self, place: int) -> Array:
        """The array at a place: u1, i4 or f4, (head, …)."""
        return self.makers[place]()

    def _add(self, make: Callable[[], Array]) -> int:
        self.makers.append(make)
        return len(self.makers) - 1

    def _layer(self, layer: LayerRecord, rows: dict[Any, dict[str, Any]]) -> dict[str, Any]:
        heads, long = range(layer.heads), layer.queries * layer.keys > LONG
        group = layer.heads // layer.key.shape[1] if layer.key is not None else 1

        def by_head(make: Callable[[list[int]], Array], count: int = layer.heads) -> Any:
            """One array for all heads, or one for each."""
            if not long:
                return self._add(lambda: make(list(range(count))))
            return [self._add(lambda at=at: make([at])) for at in range(count)]  # type: ignore[misc]

        def of(array: Any) -> Callable[[list[int]], Array]:
            return lambda at: _numbers(as_numpy(array[0, at]))

        kept = layer.query is not None and layer.key is not None
        grid = layer.patches
        return {
            "name": str(layer.layer),
            "kind": layer.kind,
            "side": layer.side,
            "way": layer.way,
            "heads": layer.heads,
            "headNumbers": list(layer.head_numbers),
            "keyHeads": layer.heads // group,
            "keyOf": [at // group for at in heads],
            "features": int(layer.query.shape[-1]) if kept else 0,
            "queries": layer.queries,
            "keys": layer.keys,
            "scale": float(layer.scale),
            "softcap": None if layer.softcap is None else float(layer.softcap),
            "firstQuery": layer.first_query,
            "patches": grid
            and {
                "rows": grid.rows,
                "cols": grid.columns,
                "before": grid.leading,
                "after": grid.trailing,
            },
            "query": by_head(of(layer.query)) if kept else None,
            "key": by_head(of(layer.key), layer.heads // group) if kept else None,
            "lse": by_head(of(layer.lse)),
            "sees": self._sees(layer) if kept else None,
            "bias": _bias(layer, by_head) if kept else None,
            "strips": {
                name: by_head(of(layer.statistics[name]))
                for name, axes in STRIPS.items()
                if name in layer.statistics and layer.axes.get(name) == axes
            },
            "small": self._pictures(layer, SMALL, False),
            "overview": self._pictures(layer, OVERVIEW, True) if long else None,
            "summary": [rows[layer.layer, number] for number in layer.head_numbers],
            "served": long,
        }

    def _sees(self, layer: LayerRecord) -> list[int] | None:
        """Which mask each head sees through."""
        mask = layer.mask
        if mask is None:
            return None
        leading = (1,) * (2 - len(mask.leading)) + tuple(mask.leading)
        count = leading[1]
        first = len(self._masks)
        for at in range(count):
            own = mask.at((0, at)[2 - len(mask.leading) :])
            make = _runs(own, layer)
            self._masks.append({"runs": self._add(make)})
        return [first + (0 if count == 1 else at) for at in range(layer.heads)]

    def _pictures(self, layer: LayerRecord, cells: int, by_head: bool) -> dict[str, Any] | None:
        """Both pictures of the heads, pooled to so many cells a side at most."""
        longest = max(layer.queries, layer.keys)
        if not layer.queries or not layer.keys:
            return None
        zoom = (-(-longest // cells) - 1).bit_length()
        size = (longest >> zoom) + 1
        if layer.query is None and not _has_tile(layer, zoom):
            return None

        def make(pool: str, numbers: tuple[int, ...]) -> Array:
            tiles = np.stack([layer.tile(n, 0, 0, zoom, size, pool) for n in numbers])
            return tiles.astype("<f4") if by_head else coded(tiles)

        def add(pool: str, numbers: tuple[int, ...]) -> int:
            return self._add(lambda: make(pool, numbers))

        numbers = layer.head_numbers
        return {"width": 1 << zoom} | {
            pool: [add(pool, (n,)) for n in numbers] if by_head else add(pool, numbers)
            for pool in ("mean", "max")
        }


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the summary: numbers to six digits, those that are none left out."""
    return {
        name: float(f"{value:.6g}") if isinstance(value, float) else value
        for name, value in row.items()
        if name != "layer" and value is not None and not _is_no_number(value)
    }


def _is_no_number(value: Any) -> bool:
    return isinstance(value, float) and not np.isfinite(value)


def _numbers(array: Array) -> Array:
    return array.astype("<f4", copy=False)


def _has_tile(layer: LayerRecord, zoom: int) -> bool:
    try:
        layer.tile(layer.head_numbers[0], 0, 0, zoom, 1)
    except InputError:
        return False
    return True


def _bias(layer: LayerRecord, by_head: Callable[..., Any]) -> dict[str, Any] | None:
    """A bias by distance as its diagonals, any other by its pairs."""
    bias = layer.bias
    if bias is None:
        return None
    if hasattr(bias, "lengths"):  # a DistanceBias
        values = np.asarray(bias.values)
        values = values.reshape((1,) * (3 - values.ndim) + values.shape)[0]
        return {"distance": by_head(lambda at: _numbers(values[_among(values, at)]))}
    if hasattr(bias, "at"):
        spans = range(layer.queries), range(layer.keys)

        def pairs(at: list[int]) -> Array:
            _check_bias(layer, layer.queries * layer.keys)
            return _numbers(np.stack([np.asarray(bias.at(0, head)(*spans)) for head in at]))

        return {"pairs": by_head(pairs)}
    array = as_numpy(bias)
    array = array.reshape((1,) * (4 - array.ndim) + array.shape)[0]

    def some(at: list[int]) -> Array:
        _check_bias(layer, array[0].size)
        return _numbers(array[_among(array, at)])

    return {"pairs": by_head(some)}


def _among(array: Array, heads: list[int]) -> list[int]:
    return [0] if array.shape[0] == 1 else heads


def _check_bias(layer: LayerRecord, size: int) -> None:
    if size > MOST_BIAS:
        raise wrong("array_bias", layer=repr(layer.layer), came=size, most=MOST_BIAS)


def _runs(mask: Any, layer: LayerRecord) -> Callable[[], Array]:
    """Makes one array of a head's mask: Tq + 1 offsets, then starts, then stops of the runs."""

    def make() -> Array:
        runs = runs_of(mask, layer.queries, layer.keys)
        if runs is None:
            raise wrong("mask_broken", layer=repr(layer.layer))
        return np.concatenate([runs["offsets"], runs["starts"], runs["stops"]])

    return make
