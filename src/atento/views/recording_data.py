"""A Recording as what its page carries: q, k, log-sum-exp and masks, and small pictures.

No (query, key) matrix of a long text is written: the page computes the weights of what it shows
from q, k, log-sum-exp and the runs of keys that each query sees. Pooled pictures come from the
record, `LayerRecord.tile`.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from atento._errors import InputError
from atento.views.mask_runs import MaskRuns
from atento.views.page_arrays import ArrayPool, as_numpy
from atento.views.page_numbers import queries_and_keys

__all__ = ["FORMAT", "coded", "recording_data"]

Array = npt.NDArray[Any]

FORMAT = "atento.recording/1"

SMALL = 48
"""Cells a side of a head's small picture, at most."""

OVERVIEW_FROM = 2048
"""Longer layers carry an overview as well, so that the map need not compute its coarse levels."""

OVERVIEW = 1024
"""Cells a side of an overview, at most: 2 MB for each of its two pictures."""

FINEST = 5
"""The finest zoom of an overview: records have bins of 2^5."""

MOST_BIAS = 2**24
"""A bias that is no function of the distance has one number for each pair."""

STRIPS = {"entropy": ("head", "query"), "received": ("head", "key")}


def recording_data(
    recording: Any,
    *,
    batch: int = 0,
    layers: Iterable[int | str] | None = None,
    heads: Iterable[int] | None = None,
    other: Any = None,
) -> dict[str, Any]:
    """Build the data of a recording's page.

    Args:
        recording: a `Recording`.
        batch: which batch item.
        layers: which layers, by number or name; None: all.
        heads: which heads, by their numbers in the model; None: all.
        other: a second recording to compare with, taken in the same way.

    Returns:
        Plain dicts, lists and numbers: tokens, layers, masks, and ``arrays``, the pool that these
        point into. The field ``format`` is "atento.recording/1".

    Raises:
        InputError: for a layer, head or batch item that is not there, a recording without layers,
            or a mask or bias that is too large for a page.
    """
    chosen = [recording[name] for name in (range(len(recording)) if layers is None else layers)]
    if not chosen:
        skipped = "; ".join(f"{layer}: {reason}" for layer, reason in recording.skipped)
        raise InputError(f"there is no layer to draw.{' Skipped: ' * bool(skipped)}{skipped}")
    numbers = None if heads is None else _whole_numbers(heads, chosen)
    pool, masks = ArrayPool(), MaskRuns()
    rows = _summary(recording)
    data: dict[str, Any] = {
        "format": FORMAT,
        "tokens": _tokens(recording, batch),
        "skipped": [[str(layer), str(reason)] for layer, reason in recording.skipped],
        "layers": [_layer(layer, batch, numbers, pool, masks, rows) for layer in chosen],
        "masks": [
            {name: pool.typed(array) for name, array in runs.items()} for runs in masks.written
        ],
        "arrays": pool.entries,
        "other": None,
    }
    if other is not None:
        data["other"] = recording_data(other, batch=batch, layers=layers, heads=heads)
    return data


def _whole_numbers(heads: Iterable[int], layers: Sequence[Any]) -> list[int]:
    numbers = list(heads)
    there = {number for layer in layers for number in layer.head_numbers}
    if not numbers or any(isinstance(n, bool) or n not in there for n in numbers):
        raise InputError(
            f"heads must be numbers of heads that were recorded, from {min(there)} to "
            f"{max(there)}; got {numbers}."
        )
    return numbers


def _tokens(recording: Any, batch: int) -> list[str]:
    tokens = recording.tokens
    if tokens and isinstance(tokens[0], list):
        tokens = tokens[batch if batch < len(tokens) else 0]
    return [str(text) for text in tokens]


def _summary(recording: Any) -> dict[tuple[str, int], dict[str, Any]]:
    return {
        (row["layer"], row["head"]): {
            name: float(f"{value:.6g}") if isinstance(value, float) else value
            for name, value in row.items()
            if name != "layer" and value is not None and value == value
        }
        for row in recording.summary()
    }


def _layer(
    layer: Any,
    batch: int,
    numbers: list[int] | None,
    pool: ArrayPool,
    masks: MaskRuns,
    rows: dict[tuple[str, int], dict[str, Any]],
) -> dict[str, Any]:
    if not 0 <= batch < layer.batch:
        raise InputError(
            f"batch must be from 0 to {layer.batch - 1}, an item of layer {layer.layer!r}; got "
            f"{batch}."
        )
    own = list(layer.head_numbers)
    at = [i for i, number in enumerate(own) if numbers is None or number in numbers]
    group = layer.heads // layer.key.shape[1] if layer.key is not None else 1
    key_heads = sorted({i // group for i in at})
    drawn = [own[i] for i in at]
    query, key = queries_and_keys(layer, batch, at, key_heads, pool)
    grid = layer.patches
    return {
        "name": str(layer.layer),
        "kind": str(layer.kind),
        "side": None if layer.side is None else str(layer.side),
        "way": str(layer.way),
        "heads": len(at),
        "headNumbers": drawn,
        "keyHeads": len(key_heads),
        "keyOf": [key_heads.index(i // group) for i in at],
        "features": 0 if layer.query is None else int(layer.query.shape[-1]),
        "queries": layer.queries,
        "keys": layer.keys,
        "scale": float(layer.scale),
        "softcap": None if layer.softcap is None else float(layer.softcap),
        "firstQuery": layer.first_query,
        "patches": None
        if grid is None
        else {
            "rows": grid.rows,
            "cols": grid.columns,
            "before": grid.leading,
            "after": grid.trailing,
        },
        "query": query,
        "key": key,
        "lse": pool.typed(as_numpy(layer.lse)[batch, at].astype("<f4")),
        "sees": None if query is None else masks.add(layer, batch, at),
        "bias": None if query is None else _bias(layer, batch, at, pool),
        "strips": {
            name: pool.typed(_short(as_numpy(layer.statistics[name])[batch, at]))
            for name, axes in STRIPS.items()
            if name in layer.statistics and layer.axes.get(name) == axes
        },
        "small": _pictures(layer, batch, drawn, _zoom(layer, SMALL), pool, coded),
        "overview": _overview(layer, batch, drawn, pool),
        "summary": [rows[layer.layer, number] for number in drawn],
    }


def _bias(layer: Any, batch: int, at: list[int], pool: ArrayPool) -> dict[str, int] | None:
    """A bias by distance as its diagonals, any other with an axis of 1 where it does not vary."""
    bias = layer.bias
    if bias is None:
        return None
    if hasattr(bias, "lengths"):  # a DistanceBias
        values = np.asarray(bias.values)
        return {"distance": pool.typed(_of_heads(values, 1, batch, at).astype("<f4"))}
    if hasattr(bias, "at"):
        _check_bias(layer, len(at) * layer.queries * layer.keys)
        spans = range(layer.queries), range(layer.keys)
        pairs = np.stack([np.asarray(bias.at(batch, head)(*spans)) for head in at])
    else:
        array = as_numpy(bias)
        pairs = _of_heads(array.reshape((1,) * (2 - array.ndim) + array.shape), 2, batch, at)
        _check_bias(layer, pairs.size)
    return {"pairs": pool.typed(pairs.astype("<f4"))}


def _of_heads(array: Array, own: int, batch: int, at: list[int]) -> Array:
    """(…, own axes) of one batch item and some heads: (head or 1, own axes)."""
    array = array.reshape((1,) * (2 + own - array.ndim) + array.shape)
    array = array[batch if array.shape[0] > 1 else 0]
    return array if array.shape[0] == 1 else array[at]


def _check_bias(layer: Any, size: int) -> None:
    if size > MOST_BIAS:
        raise InputError(
            f"the bias of layer {layer.layer!r} has {size} numbers, and a page takes "
            f"{MOST_BIAS}: draw fewer heads, with heads=."
        )


def _short(values: Array) -> Array:
    """Numbers of a picture or strip: float16 where they fit into it."""
    fits = np.abs(values, where=np.isfinite(values), out=np.zeros(values.shape)).max(initial=0)
    return values.astype("<f2" if fits < 6e4 else "<f4")


def _zoom(layer: Any, cells: int) -> int:
    """The first zoom at which there are no more cells than these."""
    longest: int = max(layer.queries, layer.keys, 1)
    return (-(-longest // cells) - 1).bit_length()


def _overview(layer: Any, batch: int, drawn: list[int], pool: ArrayPool) -> dict[str, Any] | None:
    if max(layer.queries, layer.keys) <= OVERVIEW_FROM:
        return None
    return _pictures(layer, batch, drawn, max(FINEST, _zoom(layer, OVERVIEW)), pool, _short)


def _pictures(
    layer: Any,
    batch: int,
    drawn: list[int],
    zoom: int,
    pool: ArrayPool,
    write: Callable[[Array], Array],
) -> dict[str, Any] | None:
    """Both pictures of each head with cells of 2**zoom, (head, row, column)."""
    if not layer.queries or not layer.keys:
        return None
    size = -(-max(layer.queries, layer.keys) >> zoom) + 1
    try:
        pictures = {
            way: np.stack([write(layer.tile(n, 0, 0, zoom, size, way, batch)) for n in drawn])
            for way in ("mean", "max")
        }
    except InputError:
        if layer.query is not None:
            raise
        return None  # only statistics were kept, and no overview among them that is fine enough
    return {"width": 1 << zoom} | {way: pool.typed(cells) for way, cells in pictures.items()}


def coded(weights: Array) -> npt.NDArray[np.uint8]:
    """Weights as bytes: 0 is 0, and u stands for 2^((u − 255) / 12), steps of 6 %.

    >>> coded(np.array([0, 2.0**-10, 0.5, 1.0]))
    array([  0, 135, 243, 255], dtype=uint8)
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        codes = np.rint(255 + 12 * np.log2(weights))
    return np.where(codes >= 1, np.minimum(codes, 255), 0).astype(np.uint8)
