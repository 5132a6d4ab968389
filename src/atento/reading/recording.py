"""Recording: the attention layers of one or several forward passes, in the order they ran."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any, Protocol

from atento._errors import InputError
from atento.reading.comparison import Comparison, compared
from atento.reading.growth import continues, grow
from atento.reading.patches import PatchGrid, grid_among
from atento.reading.token_names import Names, TokenNames, as_ids
from atento.records import Pictured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from atento.reading.effect import Effect
    from atento.reading.layer import LayerRecord
    from atento.reading.roles import Summary
    from atento.reading.sweep import Sweep

__all__ = ["Comparison", "Recording"]


class Origin(Protocol):
    """What the model was called with; see `atento.reading.origin`."""

    def effect(self, recording: Recording, *asked: Any) -> Effect:
        """The effect of interventions."""

    def sweep(self, recording: Recording, *asked: Any) -> Sweep:
        """The effect of each head."""


class Recording(Pictured):
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

    Attributes:
        token_names: token ids of all passes, and what names them.
        origin: what the model was called with, while it is known: `effect` runs it again.
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
        self.token_names = TokenNames()
        self.origin: Any = None
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

    def rows_before(self, record: LayerRecord) -> int:
        """How many queries stand before the record's own, where `add` would append these."""
        known = self._latest.get(record.layer)
        if known is None or not continues(known, record, self._latest.values()):
            return 0
        return known.queries

    def forget(self, layer: str) -> None:
        """Let go of all that was recorded of a layer."""
        self._records = [record for record in self._records if record.layer != layer]
        self._latest.pop(layer, None)

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
        part = Recording(layers, skipped=self.skipped)
        part.token_names = self.token_names.of_pass(k, count)
        return part

    def as_it_stands(self) -> Recording:
        """A recording of what is there now: what is read after leaves it as it is.

        Arrays are shared as long as nothing is written into them.
        """
        still = copy(self)
        still._records = [record.as_it_stands() for record in self._records]
        still._latest = {record.layer: record for record in still._records}
        still.token_names = self.token_names.copy()
        still.skipped = list(self.skipped)
        return still

    @property
    def token_ids(self) -> npt.NDArray[np.int64] | None:
        """(batch, token) of the first pass, or None when they were not given."""
        ids = self.token_names.ids
        return ids[0] if ids else None

    @token_ids.setter
    def token_ids(self, ids: Any) -> None:
        self.token_names.ids = [] if ids is None else [as_ids(ids)]

    def add_token_ids(self, ids: Any, first: int = 0) -> None:
        """Note the token ids of one forward pass.

        Args:
            ids: (batch, token) or (token,).
            first: the position of the first of them. Where the ids so far end, these are appended
                (cached decoding); otherwise they are those of a further pass.
        """
        self.token_names.add(ids, first)

    @property
    def tokens(self) -> Names:
        """The tokens' texts, or their ids as text; a list for each batch item when there are more.

        Empty when neither is known.
        """
        return self.token_names.texts()

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
        self.token_names.name(names, *self._expected_tokens())

    def _expected_tokens(self) -> tuple[int | None, int | None]:
        ids = self.token_ids
        if ids is not None:
            return ids.shape
        if not self._records:
            return None, None
        return self[0].batch, max(layer.queries for layer in self)

    @property
    def patches(self) -> PatchGrid | None:
        """How the tokens lie on an image, in the first layer of which it is known.

        Found by `capture` where that is certain. Can be set, for all layers that have so many
        tokens, to (rows, columns), where further tokens stand before the patches, (rows, columns,
        tokens before) or (rows, columns, tokens before, tokens after); None: not known.

        Raises:
            InputError, ShapeError: when it is nothing of these, or fits no layer.
        """
        return next((layer.patches for layer in self if layer.patches is not None), None)

    @patches.setter
    def patches(self, said: Any) -> None:
        grid = None if said is None else grid_among(said, {layer.keys for layer in self._records})
        for record in self._records:
            if grid is None or record.keys == grid.tokens:
                record.patches = grid

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
        """How another recording of the same layers differs, head by head, in all passes.

        Raises:
            InputError: when layers, heads, lengths or the number of passes are not the same.
        """
        return compared(self, other)

    def effect(
        self,
        interventions: Any,
        token: int | str | None = None,
        position: int = -1,
        of: Callable[[Any], Any] | None = None,
        batch: int = 0,
    ) -> Effect:
        """What interventions do to the model's output.

        The model is run twice more on what it was captured with (its first call, if there were
        several), without and with the interventions, and nothing is recorded.

        Args:
            interventions: one or several, as in `capture`.
            token: whose logit and log-probability are looked at: an id, or a text that is one
                token of the tokenizer given to `name_tokens` (a class, where the model has logits
                of classes); None: what the model predicts there.
            position: in the text; negative ones count from its end.
            of: a function of the model's output that gives a tensor, looked at instead.
            batch: which batch item.

        Returns:
            An `Effect`. Models without logits, such as MiniLM: the change of their last hidden
            states, ‖after − before‖ / ‖before‖ over the batch item.

        Raises:
            InputError: when the model cannot be run again (a recording from a file, a model that is
                gone, a text generated step by step, inputs that were written to, dropout), or for
                a token, position or layer that is not there.

        >>> import torch, atento
        >>> layer = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
        >>> with atento.capture(layer) as recording:
        ...     _ = layer(torch.rand(1, 5, 8))
        >>> 0 < recording.effect(atento.KnockOut(layer=0, heads=1)).change < 1
        True
        """
        return self._model().effect(self, interventions, token, position, of, batch)

    def sweep(
        self,
        token: int | str | None = None,
        position: int = -1,
        of: Callable[[Any], Any] | None = None,
        batch: int = 0,
        with_: Callable[[str, int], Any] | None = None,
        progress: bool | Callable[[int, int], None] | None = None,
    ) -> Sweep:
        """The `effect` of each head of each layer: knocked out, or changed as asked.

        Args:
            token: as in `effect`.
            position: as in `effect`.
            of: as in `effect`.
            batch: as in `effect`.
            with_: makes the intervention of a layer's name and a head; None: `KnockOut`.
            progress: whether a bar is shown on standard error (None: where that is a terminal), or
                a function of how many heads are done and how many there are.

        Returns:
            A `Sweep`: a row for each head, the largest change first.

        Raises:
            InputError: as `effect` does.

        >>> import torch, atento
        >>> layer = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
        >>> with atento.capture(layer) as recording:
        ...     _ = layer(torch.rand(1, 5, 8))
        >>> sorted(row["head"] for row in recording.sweep())
        [0, 1]
        """
        return self._model().sweep(self, token, position, of, batch, with_, progress)

    def _model(self) -> Origin:
        if self.origin is None:
            raise InputError(
                "this recording knows no model that could be run again: it was loaded from a file, "
                "is a part of another recording, or its model has not run yet."
            )
        origin: Origin = self.origin
        return origin

    def __repr__(self) -> str:
        layers, count = self._layers, len(_by_pass(self._records))
        further = f", {count} passes" if count > 1 else ""
        skipped = f", {len(self.skipped)} skipped" if self.skipped else ""
        return f"Recording({len(layers)} layers{further}{skipped})"


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
