"""`capture(model)`: every attention call of a model is seen, and what is wanted of it is kept."""
# ruff: noqa: E402 - a missing torch is asked for in words, before anything imports it

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import fnmatchcase
from math import prod
from typing import Any

import numpy as np

from atento._optional import require

require("torch", "to capture a model")

import torch

from atento._arrays import to_numpy
from atento._errors import AtentoError, EngineError, InputError
from atento.positions.distance_bias import DistanceBias
from atento.reading.call import AttentionCall
from atento.reading.changing import ROOT, Changing
from atento.reading.image_tokens import grid_of
from atento.reading.key_prints import prints_of
from atento.reading.layer import LayerRecord
from atento.reading.layer_names import named_attention, side_of
from atento.reading.log_sum_exp import request_of
from atento.reading.mask_tensors import as_numpy, copied
from atento.reading.origin import noted
from atento.reading.pyramid import bin_width, overview_statistic
from atento.reading.recording import Recording
from atento.reading.some_heads import some_heads
from atento.reading.spare_memory import give_back
from atento.reading.token_ids import TokenIds
from atento.reading.watching import Place, Watch, watching
from atento.reading.ways import interface, own_modules
from atento.statistics.folding import fold
from atento.statistics.overview import Overview
from atento.statistics.statistic import Statistic
from atento.statistics.wishes import as_statistics

__all__ = ["capture"]

del interface, own_modules  # they have registered themselves

KEPT = ("qk", "statistics")
DTYPES = (None, "float16", "float32")
LARGE = 2**22
"""Weights of a layer from which on the memory of its statistics' blocks is given back."""


@contextmanager
def capture(
    model: torch.nn.Module,
    layers: int | str | Sequence[int | str] | None = None,
    heads: int | Sequence[int] | None = None,
    keep: str = "qk",
    statistics: Any = None,
    strict: bool = True,
    dtype: str | None = None,
    interventions: Any = (),
) -> Iterator[Recording]:
    """Record the attention of every layer that runs within the ``with`` statement.

    The model computes with its own functions; nothing is hung on it. Only calls of this thread,
    below this model, are recorded.

    Args:
        model: any `torch.nn.Module` that calls transformers' attention interface, torch's
            attention functions, `atento.attention`, or writes the formula out with a softmax.
        layers: which ones: module paths, patterns (``"model.layers.*"``) or numbers in the order
            they run; None: all.
        heads: which query heads, of all layers; None: all. They keep their numbers in the record.
        keep: "qk" (queries and keys, from which all weights can be computed) or "statistics".
        statistics: names or instances, as in `atento.survey`; None: the default ones, with an
            overview as fine as tiles need it (`atento.reading.pyramid`); (): none.
        strict: whether a layer that cannot be read exactly is an error; otherwise it is listed
            in ``recording.skipped``, with the reason, and the others are read.
        dtype: "float16" or "float32" for the queries and keys kept; None: as they were computed
            (bfloat16 becomes float32).
        interventions: changes of what heads attend to or put out, applied in order, and recorded:
            `KnockOut`, `KnockOutEdges`, `Boost`, `Replace`, `Temperature`.

    Yields:
        A `Recording`, which grows while the model runs.

    Raises:
        InputError: for arguments that cannot be used; at the end, when no attention was seen, or
            a layer asked for, or what an intervention names, was not.
        EngineError: when a layer cannot be read or changed exactly, or the model is compiled or
            without numbers (on the meta device).

    A query that may see no key (padding on the left) has weights 0 here, where eager attention of
    transformers spreads its weight over the keys that it hides.

    >>> layer = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    >>> with capture(layer) as recording:
    ...     _ = layer(torch.ones(1, 5, 8))
    >>> recording[0].layer, recording[0].shape
    ('self_attn', (1, 2, 5, 5))
    """
    _check_model(model)
    taking = _Capture(model, layers, heads, keep, statistics, strict, dtype, interventions)
    with watching(taking) as watch:
        taking.watch = watch
        yield taking.recording
    taking.finish()


def _check_model(model: Any) -> None:
    if not isinstance(model, torch.nn.Module):
        raise InputError(f"capture takes a torch.nn.Module; got {type(model).__name__}.")
    if any(parameter.is_meta for parameter in model.parameters()):
        raise EngineError(
            f"{type(model).__name__} is on the meta device, which has shapes and no numbers: load "
            "its weights (or model.to_empty(device=...)) before it is captured."
        )
    for name, module in model.named_modules():
        what = None
        if isinstance(module, torch.jit.ScriptModule):
            what = "a TorchScript module"
        elif (
            type(module).__name__ == "OptimizedModule"  # without loading the compiler
            or getattr(module, "_compiled_call_impl", None) is not None
        ):
            what = "compiled by torch.compile"
        if what is not None:
            raise EngineError(
                f"{name or type(module).__name__} is {what}, which hides its attention calls: "
                "capture the model as it was before that (torch.compile keeps it as ._orig_mod)."
            )


class _Capture(Changing):
    """One `capture`: what it wants, and what it has seen."""

    records = True

    def __init__(
        self,
        model: torch.nn.Module,
        layers: Any,
        heads: Any,
        keep: str,
        statistics: Any,
        strict: bool,
        dtype: str | None,
        interventions: Any,
    ) -> None:
        if keep not in KEPT:
            raise InputError(f"keep must be one of {', '.join(KEPT)}; got {keep!r}.")
        if dtype not in DTYPES:
            raise InputError(f'dtype must be "float16", "float32" or None; got {dtype!r}.')
        self.model, self.keep, self.dtype, self.strict = model, keep, dtype, strict
        self.layers = _wanted_layers(layers)
        self.heads = _wanted_heads(heads)
        self.statistics = statistics
        super().__init__(model, interventions)
        self.recording = Recording()
        self.watch: Watch | None = None
        self.tokens = TokenIds(self.recording, self.paths)
        as_statistics(statistics, with_tokens=True)  # refused before the model runs

    def skip(self, layer: str, error: AtentoError) -> None:
        """Raise, or note why a layer is not read."""
        if self._wants(layer) or self.applying.concerns(layer, self.number_of(layer)):
            self.recording.forget(layer)
            if self.strict:
                raise type(error)(f"{layer}: {error}") from error
            if not self._skips(layer):
                self.recording.skipped.append((layer, str(error)))

    def intervene(self, calls: Sequence[AttentionCall], place: Place) -> Sequence[AttentionCall]:
        """The calls with the interventions that name their layer."""
        self.recording.origin = noted(self.recording.origin, self.paths, place, calls[0])
        return super().intervene(calls, place)

    def observe(self, call: AttentionCall, place: Place, lse: Any) -> None:
        """Keep what is wanted of a call."""
        layer = self.name_of(place) or ROOT
        call = replace(call, layer=layer, side=side_of(layer, self.has_both))
        wanted = self._wants(layer) and not self._skips(layer)
        try:
            call = self.whole(call)
            tokens = self.tokens.of(call, place)
            if wanted:
                record = self._record(call, lse, tokens)
                record.patches = grid_of(call, place)
                self.recording.add(record)
        except AtentoError as error:
            self.skip(layer, error)

    def _keys_of(self, layer: str) -> Any:
        if self.heads is not None:  # others than the call's
            return None
        known = [record for record in self.recording.records if record.layer == layer]
        return known[-1].key if known else None

    def _wants(self, layer: str) -> bool:
        number = self.number_of(layer)
        if self.layers is None:
            return True
        return any(
            wish == number if isinstance(wish, int) else fnmatchcase(layer, wish)
            for wish in self.layers
        )

    def _skips(self, layer: str) -> bool:
        return any(layer == name for name, _ in self.recording.skipped)

    def _record(self, call: AttentionCall, lse: torch.Tensor, tokens: Any) -> LayerRecord:
        bias = call.bias
        if self.heads is not None:
            call, lse = _of_heads(call, lse, self.heads)
        request = request_of(call)
        kept = self.keep == "qk"
        record = LayerRecord(
            layer=call.layer,
            kind=call.kind,
            side=call.side,
            way=call.way,
            query=self._stored(call.query) if kept else None,
            key=self._stored(call.key) if kept else None,
            key_prints=None if kept else prints_of(call.key),
            lse=as_numpy(lse),
            mask=request.mask,
            scale=request.scale,
            bias=self._bias(call.bias, shared=call.bias is bias),
            softcap=request.softcap,
            first_query=call.first_query,
            key_length=call.key.shape[2],
            head_numbers=() if self.heads is None else tuple(self.heads),
        )
        above = self.recording.rows_before(record)
        width = bin_width(max(above + record.queries, record.keys), kept)
        statistics = as_statistics(self.statistics, with_tokens=tokens is not None)
        if self.statistics is None:
            record.bin_width = width
            statistics = [
                overview_statistic(width, above) if isinstance(each, Overview) else each
                for each in statistics
            ]
        results, axes = _fold(request, lse, statistics, tokens, call.first_query)
        record.statistics, record.axes = results, axes
        return record

    def _stored(self, tensor: torch.Tensor) -> Any:
        if tensor.dtype == torch.float16 and self.dtype is None:
            return np.array(to_numpy(tensor.detach()), order="C")
        array = as_numpy(tensor)
        return array if self.dtype is None else array.astype(self.dtype, copy=False)

    def _bias(self, bias: Any, shared: bool) -> Any:
        if bias is None or self.watch is None:
            return None
        if isinstance(bias, DistanceBias):
            return DistanceBias(as_numpy(bias.values), bias.lengths)
        return copied(self.watch, bias) if shared else as_numpy(bias)

    def finish(self) -> None:
        """Say what was not seen.

        Raises:
            InputError: when nothing was, or a layer that was asked for.
        """
        recording = self.recording
        if recording.origin is not None:
            recording.origin.latest = None  # it would keep a cache alive
        if not self.seen and self.strict:
            raise InputError(
                f"no attention was seen in {type(self.model).__name__}. Either it did not run "
                "within the with statement (in this thread), or its attention goes another way "
                "than transformers' interface, torch's functions, atento.attention or a softmax. "
                f"Its modules are of the classes {_classes(self.model)}."
            )
        unseen = [
            wish
            for wish in self.layers or ()
            if not any(
                wish == number if isinstance(wish, int) else fnmatchcase(layer, wish)
                for layer, number in self.seen.items()
            )
        ]
        if unseen and self.strict:
            there = ", ".join(f"{number}: {layer}" for layer, number in self.seen.items())
            raise InputError(
                f"no attention was seen in {', '.join(map(str, unseen))}. There was in {there}."
            )
        self._check_interventions()
        reason = "no attention was seen in it: it did not run, or goes a way that is not known."
        recording.skipped.extend((layer, reason) for layer in _unseen(self.model, self.seen))

    def _check_interventions(self) -> None:
        try:
            self.applying.check_all_met(self.seen)
        except InputError as error:
            if self.strict:
                raise
            self.recording.skipped.append(("interventions", str(error)))


def _wanted_layers(layers: Any) -> tuple[int | str, ...] | None:
    if layers is None:
        return None
    several = (layers,) if isinstance(layers, int | str) else tuple(layers)
    for layer in several:
        if isinstance(layer, bool) or not isinstance(layer, int | str):
            raise InputError(f"layers are module paths or numbers; got {layer!r}.")
        if isinstance(layer, int) and layer < 0:
            raise InputError(
                f"layers are counted from 0 in the order they run; got {layer}, and how many there "
                "are is not known before."
            )
    return several


def _wanted_heads(heads: Any) -> list[int] | None:
    if heads is None:
        return None
    several = [heads] if isinstance(heads, int) else list(heads)
    if not several:
        raise InputError("heads is empty: name some, or leave it out for all.")
    for head in several:
        if isinstance(head, bool) or not hasattr(head, "__index__") or int(head) < 0:
            raise InputError(f"heads are whole numbers from 0 on; got {head!r}.")
    numbers = [int(head) for head in several]
    if len(set(numbers)) < len(numbers):
        raise InputError(f"heads names a head twice; got {numbers}.")
    return numbers


def _fold(
    request: Any, lse: torch.Tensor, statistics: list[Statistic], tokens: Any, first_query: int
) -> tuple[dict[str, Any], dict[str, tuple[str, ...]]]:
    """Results as NumPy arrays, and the axes of each without batch."""
    if not statistics:
        return {}, {}
    made = fold(request, lse, statistics, tokens=tokens, first_query=first_query)
    axes = {name: own for each in statistics for name, own in each.results.items()}
    found = {name: to_numpy(array) for name, array in made.items()}
    del made
    if prod(request.weights_shape) >= LARGE:
        give_back()
    return found, axes


def _of_heads(
    call: AttentionCall, lse: torch.Tensor, heads: list[int]
) -> tuple[AttentionCall, torch.Tensor]:
    """The call of some query heads, each with a key head of its own."""
    count = call.query.shape[1]
    if max(heads) >= count:
        raise InputError(f"there is no head {max(heads)}: the layer has {count} query heads.")
    return some_heads(call, heads), lse[:, heads]


def _classes(model: torch.nn.Module) -> str:
    return ", ".join(sorted({type(module).__name__ for module in model.modules()}))


def _unseen(model: torch.nn.Module, seen: Iterable[str]) -> list[str]:
    """Modules that are named an attention, hold none that is, and in which none was seen."""
    named = [path for path, module in model.named_modules() if named_attention(module)]
    seen = list(seen)
    return [
        path or ROOT
        for path in named
        if not any(other != path and _is_within(other, path) for other in [*named, *seen])
        and not any(_is_within(path, layer) for layer in seen)
    ]


def _is_within(path: str, outer: str) -> bool:
    return not outer or path == outer or path.startswith(f"{outer}.")
