"""Recording: the attention layers of one or several forward passes, in the order they ran."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from atento._arrays import to_numpy
from atento._errors import InputError, ShapeError
from atento.reading.growth import continues, grow

if TYPE_CHECKING:
    from pathlib import Path

    from atento.reading.layer import LayerRecord, Span
    from atento.reading.roles import Summary

__all__ = ["Comparison", "Recording"]

Names = list[str] | list[list[str]]


class Recording:
    """What was kept of a model's attention.

    ``recording[3]`` or ``recording["model.layers.3.self_attn"]`` is a `LayerRecord`; the layers
    come in the order in which they first ran.

    A model may run a layer several times. A step of cached decoding continues the layer's record:
    its rows are appended. A call that starts anew opens a further pass: the k-th time that each
    layer ran belongs to ``recording.passes[k]``, a Recording of its own. The recording itself
    shows the first pass. (A model whose layers share one module runs it several times in one
    forward pass: there ``passes`` are the depths.)

    Args:
        layers: the records, in the order they ran, as they are.
        token_ids: (batch, token) or (token,) whole numbers, or None.
        skipped: (layer, reason) of what was not recorded.
        tokens: the tokens' texts, as `name_tokens` takes them.
    """

    def __init__(
        self,
        layers: Iterable[LayerRecord] = (),
        token_ids: Any = None,
        skipped: Iterable[tuple[str, str]] = (),
        tokens: Any = None,
    ) -> None:
        self._records = list(layers)
        self._latest = {record.layer: record for record in self._records}
        self.skipped = list(skipped)
        self._ids: list[npt.NDArray[np.int64]] = []
        self._names: Names | None = None
        self._tokenizer: Any = None
        if token_ids is not None:
            self.token_ids = token_ids
        if tokens is not None:
            self.name_tokens(tokens)

    def add(self, record: LayerRecord) -> None:
        """Take in one call of a layer: a new layer, the continuation of one, or a further pass.

        Raises:
            ShapeError: when the record's arrays do not fit together.
        """
        record.check()
        known = self._latest.get(record.layer)
        if known is not None and continues(known, record, self._latest.values()):
            grow(known, record)
        else:
            self._records.append(record)
            self._latest[record.layer] = record

    @property
    def records(self) -> list[LayerRecord]:
        """The records of all passes, in the order they ran."""
        return list(self._records)

    @property
    def passes(self) -> list[Recording]:
        """One recording for each time that the layers ran; [0] is what this one shows."""
        grouped = _by_pass(self._records)
        return [self._one_pass(k, layers, len(grouped)) for k, layers in enumerate(grouped)]

    def _one_pass(self, k: int, layers: list[LayerRecord], count: int) -> Recording:
        ids = None
        if self._ids and count % len(self._ids) == 0:
            ids = self._ids[k * len(self._ids) // count]
        part = Recording(layers, ids, self.skipped)
        part._tokenizer = self._tokenizer
        part._names = self._names if k == 0 else None
        return part

    @property
    def token_ids(self) -> npt.NDArray[np.int64] | None:
        """(batch, token) of the first pass, or None when they were not given."""
        return self._ids[0] if self._ids else None

    @token_ids.setter
    def token_ids(self, ids: Any) -> None:
        self._ids = [] if ids is None else [_token_ids(ids)]

    def add_token_ids(self, ids: Any, first: int = 0) -> None:
        """Note the token ids of one forward pass.

        Args:
            ids: (batch, token) or (token,).
            first: the position of the first of them. Where the ids so far end, these are appended
                (cached decoding); otherwise they are those of a further pass.
        """
        ids = _token_ids(ids)
        last = self._ids[-1] if self._ids else None
        if last is not None and first == last.shape[1] > 0 and len(last) == len(ids):
            self._ids[-1] = np.concatenate([last, ids], axis=1)
        else:
            self._ids.append(ids)

    @property
    def tokens(self) -> Names:
        """The tokens' texts, or their ids as text; a list for each batch item when there are more.

        Empty when neither is known.
        """
        if self._names is not None:
            return self._names
        ids = self.token_ids
        if ids is None:
            return []
        named = [_named(self._tokenizer, row.tolist()) for row in ids]
        return named[0] if len(named) == 1 else named

    def name_tokens(self, names: Any) -> None:
        """Give tokens their texts.

        Args:
            names: a list of texts, one per token (a list of such lists for a batch), or a
                tokenizer: anything with ``convert_ids_to_tokens(ids)``, ``id_to_token(id)`` or
                ``decode([id])``.

        Raises:
            ShapeError: when there are more or fewer texts than tokens.
            InputError: for anything else, or a tokenizer without token ids.
        """
        if isinstance(names, Sequence) and not isinstance(names, str):
            self._names = self._checked_names(list(names))
            return
        if not any(hasattr(names, way) for way in TOKENIZER_WAYS):
            raise InputError(
                "name_tokens takes a list of texts or a tokenizer (with one of "
                f"{', '.join(TOKENIZER_WAYS)}); got {type(names).__name__}."
            )
        if self.token_ids is None:
            raise InputError(
                "this recording has no token ids that the tokenizer could name: give the texts "
                "as a list, or set recording.token_ids first."
            )
        self._tokenizer, self._names = names, None

    def _checked_names(self, names: list[Any]) -> Names:
        rows = [list(row) for row in names] if _is_nested(names) else [names]
        batch, length = self._expected_tokens()
        if not all(isinstance(text, str) for row in rows for text in row):
            raise InputError("name_tokens: every token's text must be a str.")
        if batch is not None and len(rows) not in (1, batch):
            raise ShapeError(f"name_tokens: {len(rows)} lists of texts for {batch} batch items.")
        for row in rows:
            if length is not None and len(row) != length:
                raise ShapeError(
                    f"name_tokens: {len(row)} texts for {length} tokens. Special tokens and "
                    "padding need a text too."
                )
        return rows[0] if len(rows) == 1 else rows

    def _expected_tokens(self) -> tuple[int | None, int | None]:
        if self._ids:
            return self._ids[0].shape
        if not self._records:
            return None, None
        first = self[0]
        return first.batch, max(layer.queries for layer in self)

    @property
    def names(self) -> list[str]:
        """The layers' names, in order."""
        return [record.layer for record in self]

    def __len__(self) -> int:
        return len(self._layers)

    def __iter__(self) -> Iterator[LayerRecord]:
        return iter(self._layers)

    def __contains__(self, layer: object) -> bool:
        return layer in self.names

    @property
    def _layers(self) -> list[LayerRecord]:
        passes = _by_pass(self._records)
        return passes[0] if passes else []

    def __getitem__(self, layer: int | str) -> LayerRecord:
        layers = self._layers
        if isinstance(layer, str):
            for record in layers:
                if record.layer == layer:
                    return record
            raise InputError(f"there is no layer {layer!r}. {_there_are(layers)}")
        if isinstance(layer, bool) or not hasattr(layer, "__index__"):
            raise InputError(
                f"a layer is asked for by its number or its name; got {layer!r}. "
                f"{_there_are(layers)}"
            )
        if not -len(layers) <= layer < len(layers):
            # An IndexError would end a loop over numbers in silence.
            raise InputError(f"there is no layer {int(layer)}. {_there_are(layers)}")
        return layers[layer]

    def summary(self) -> Summary:
        """What each head does: a row per head, with its role and the numbers that decide it."""
        from atento.reading.roles import summarise

        return summarise(self)

    def to_dict(self) -> dict[str, Any]:
        """The summary's rows, the tokens and what was skipped, as plain Python values."""
        ids = self.token_ids
        return {
            "layers": self.names,
            "tokens": self.tokens,
            "token_ids": None if ids is None else ids.tolist(),
            "skipped": [list(pair) for pair in self.skipped],
            "heads": self.summary().to_dict()["rows"],
        }

    def to_pandas(self) -> Any:
        """The summary as a pandas data frame."""
        return self.summary().to_pandas()

    def save(self, path: str | Path) -> None:
        """Write all of it to a safetensors file; see `load_recording`."""
        from atento.reading.saving import save_recording

        save_recording(self, path)

    def compare(self, other: Recording) -> Comparison:
        """How another recording of the same layers differs, head by head.

        Raises:
            InputError: when layers, heads or lengths are not the same.
        """
        _check_comparable(self, other)
        return Comparison(self, other)

    def __repr__(self) -> str:
        layers, count = self._layers, len(_by_pass(self._records))
        further = f", {count} passes" if count > 1 else ""
        skipped = f", {len(self.skipped)} skipped" if self.skipped else ""
        return f"Recording({len(layers)} layers{further}{skipped})"


TOKENIZER_WAYS = ("convert_ids_to_tokens", "id_to_token", "decode")


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """The difference of two recordings of the same shape, first minus second.

    Iterating gives a dict for each layer, head and statistic (log-sum-exp among them, "lse"):
    ``layer``, ``head`` (None for a statistic without heads), ``statistic``, ``mean`` (of the
    absolute differences), ``max`` and ``where``, its index in the remaining axes, batch first.
    Whole numbers, such as the key of a maximum, differ by 1 where they are not the same.
    """

    first: Recording
    second: Recording

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for mine, theirs in zip(self.first, self.second, strict=True):
            yield from _differences(mine, theirs)

    def weights(
        self,
        layer: int | str,
        head: int,
        rows: Span = None,
        cols: Span = None,
        batch: int = 0,
    ) -> npt.NDArray[Any]:
        """The difference of the weights of one head: (rows, cols); see `LayerRecord.weights`."""
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
            "head": head if by_head else None,
            "statistic": name,
            "mean": float(own.mean()) if own.size else 0.0,
            "max": 0.0 if where is None else float(own[where]),
            "where": None if where is None else tuple(int(i) for i in where),
        }


def _check_comparable(first: Recording, second: Recording) -> None:
    if not isinstance(second, Recording):
        raise InputError(f"compare takes another Recording; got {type(second).__name__}.")
    if first.names != second.names:
        mine = [name for name in first.names if name not in second.names]
        theirs = [name for name in second.names if name not in first.names]
        raise InputError(
            "compare needs recordings of the same layers, in one order. Only here: "
            f"{', '.join(mine) or 'none'}. Only there: {', '.join(theirs) or 'none'}."
        )
    for mine_of, theirs_of in zip(first, second, strict=True):
        if mine_of.shape != theirs_of.shape:
            raise ShapeError(
                f"compare: layer {mine_of.layer!r} has weights (batch, head, query, key) = "
                f"{mine_of.shape} here and {theirs_of.shape} there. Record both on texts of the "
                "same length."
            )


def _by_pass(records: Iterable[LayerRecord]) -> list[list[LayerRecord]]:
    """The k-th record of every layer, for each k."""
    runs: dict[str, int] = {}
    passes: list[list[LayerRecord]] = []
    for record in records:
        k = runs.get(record.layer, 0)
        runs[record.layer] = k + 1
        if k == len(passes):
            passes.append([])
        passes[k].append(record)
    return passes


def _there_are(layers: list[LayerRecord]) -> str:
    if not layers:
        return "Nothing was recorded yet."
    named = ", ".join(f"{i}: {record.layer}" for i, record in enumerate(layers))
    return f"There are {len(layers)}: {named}."


def _token_ids(ids: Any) -> npt.NDArray[np.int64]:
    array = to_numpy(ids)
    if array.dtype.kind not in "iu":
        raise InputError(f"token_ids must be whole numbers; got {array.dtype}.")
    if array.ndim == 1:
        array = array[None]
    if array.ndim != 2:
        raise ShapeError(f"token_ids must be (batch, token) or (token,); got {array.shape}.")
    return array.astype(np.int64)


def _is_nested(names: list[Any]) -> bool:
    return bool(names) and all(isinstance(row, list | tuple) for row in names)


def _named(tokenizer: Any, ids: list[int]) -> list[str]:
    if tokenizer is None:
        return [str(i) for i in ids]
    if hasattr(tokenizer, "convert_ids_to_tokens"):
        return [str(text) for text in tokenizer.convert_ids_to_tokens(ids)]
    if hasattr(tokenizer, "id_to_token"):
        return [_or_id(tokenizer.id_to_token(i), i) for i in ids]
    return [str(tokenizer.decode([i])) for i in ids]


def _or_id(text: str | None, i: int) -> str:
    return str(i) if text is None else text
