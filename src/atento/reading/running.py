"""A text through a model while its attention is read: in chunks where the model has a cache."""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, Any

from atento._errors import EngineError, InputError
from atento._optional import require
from atento.masks import Coverage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from atento.reading.recording import Recording
    from atento.records import Trace

__all__ = ["Reading", "chunk_for", "model_inputs", "read_tokens", "trace_tokens"]

MOST, FEWEST = 1024, 128
"""Tokens in a chunk, unless said otherwise."""

PAIRS = 2**23
"""Pairs of a chunk's tokens with all others: transformers makes a mask of them, and torch makes
numbers of that, so that each costs some ten bytes for a while."""

LOOKED_AT = 2
"""So many tokens run first, to see which layers there are and whether they look ahead."""

LISTED = 12
"""So many layers are all named in a message."""


@dataclass(frozen=True)
class Reading:
    """What a model's attention was while it read.

    Attributes:
        recording: of the tokens read.
        tokens: how many were read.
        chunks: in how many chunks.
        interrupted: whether Ctrl-C ended it before the text did. Then ``tokens`` are those of the
            chunks that were finished.
    """

    recording: Recording
    tokens: int
    chunks: int
    interrupted: bool = False


def read_tokens(
    model: Any,
    ids: Sequence[int],
    *,
    layers: Sequence[int | str] | None = None,
    heads: Sequence[int] | None = None,
    keep: str = "qk",
    statistics: Any = None,
    chunk: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> Reading:
    """Read the attention of a model of transformers over one sequence of tokens.

    A decoder that keeps its keys and values in a cache reads chunk after chunk, so that what it
    computes on the way stays as small as one chunk; what is recorded is the same. An encoder, or a
    model of an encoder and a decoder, reads all in one go; its decoder reads the same tokens, moved
    on by one.

    Args:
        model: in evaluation mode.
        ids: token ids.
        layers: as in `capture`.
        heads: as in `capture`.
        keep: as in `capture`.
        statistics: as in `capture`.
        chunk: tokens in a chunk; None: `chunk_for` the text.
        progress: called with the share that is done, from 0 to 1.

    Raises:
        InputError: for a model that reads no tokens or has no attention, or layers and heads that
            are not there.
        KeyboardInterrupt: when Ctrl-C came before any chunk was finished.
    """
    torch = require("torch", "to read a model")
    from atento.reading.capturing import capture

    if "input_ids" not in _parameters(model):
        raise _mistake("model_no_text", model=type(model).__name__)
    sequence = torch.tensor([list(ids)], device=model.device)
    with torch.no_grad():
        first = _look(model, sequence[:, :LOOKED_AT])
        _check(first, layers, heads)
        run = _Run(
            model,
            sequence,
            partial(capture, model, layers, heads, keep, statistics, strict=False),
            _Steps(model, first.names, progress),
        )
        reading, chunk = None, chunk or chunk_for(len(ids))
        if len(ids) > chunk and _may_be_cut(model, first):
            reading = run.in_chunks(chunk)
        reading = reading or run.in_one_go()
    if not len(reading.recording):
        layer, reason = next(iter(reading.recording.skipped))
        raise _mistake("model_unread", why=f"{layer}: {reason}".rstrip("."))
    return reading


def trace_tokens(model: Any, ids: Sequence[int]) -> list[tuple[str, Trace]]:
    """Every step of the attention of a model over one short sequence, layer by layer.

    Layers whose queries or keys are other tokens than these are left out: they cannot stand on one
    page with the rest.

    Args:
        model: of transformers, in evaluation mode.
        ids: token ids.

    Raises:
        InputError: for a model that reads no tokens, or in which no such attention was seen.
        EngineError: for a layer that cannot be read exactly.
    """
    torch = require("torch", "to read a model")
    from atento.reading.tracing import traced

    if "input_ids" not in _parameters(model):
        raise _mistake("model_no_text", model=type(model).__name__)
    sequence = torch.tensor([list(ids)], device=model.device)
    with torch.no_grad():
        found = traced(model, lambda: model(**model_inputs(model, sequence)))
    square = [(n, one) for n, one in found if one["weights"].value.shape[-2:] == (len(ids),) * 2]
    if not square:
        raise _mistake("model_no_attention", model=type(model).__name__)
    return square


def chunk_for(tokens: int) -> int:
    """How many tokens of a text to read at a time, so that what is made of them stays small.

    >>> [chunk_for(tokens) for tokens in (4096, 20_000, 131_072)]
    [1024, 256, 128]
    """
    chunk = MOST
    while chunk > FEWEST and chunk * tokens > PAIRS:
        chunk //= 2
    return chunk


@dataclass(frozen=True)
class _Run:
    """One sequence and the model that is to read it."""

    model: Any
    ids: Any
    captured: Callable[[], Any]
    steps: _Steps

    def in_one_go(self) -> Reading:
        with self.steps.of(1), self.captured() as recording:
            self.model(**model_inputs(self.model, self.ids))
        return Reading(recording, self.ids.shape[1], 1)

    def in_chunks(self, chunk: int) -> Reading | None:
        """Chunk by chunk; None when the model turns out to hand back no cache."""
        total = self.ids.shape[1]
        starts = range(0, total, chunk)
        finished, cache = None, None
        try:
            with self.steps.of(len(starts)), self.captured() as recording:
                for count, start in enumerate(starts, 1):
                    part = self.ids[:, start : start + chunk]
                    cache = self._step(part, cache)
                    done = start + part.shape[1]
                    if not _reaches(cache, done):
                        return None
                    finished = Reading(recording.as_it_stands(), done, count, interrupted=True)
                    self.steps.finished(count)
        except KeyboardInterrupt:
            if finished is None:
                raise
            return finished
        return Reading(recording, total, len(starts))

    def _step(self, part: Any, cache: Any) -> Any:
        output = self.model(
            input_ids=part, past_key_values=cache, use_cache=True, **_last_alone(self.model)
        )
        return getattr(output, "past_key_values", None)


class _Steps:
    """How far a run has come, told as attention layers end."""

    def __init__(
        self, model: Any, layers: Sequence[str], progress: Callable[[float], None] | None
    ) -> None:
        modules = dict(model.named_modules())
        self.modules = [modules[layer] for layer in layers if layer in modules]
        self.progress = progress
        self.chunks, self.before, self.seen = 1, 0, 0

    @contextmanager
    def of(self, chunks: int) -> Iterator[None]:
        """While the model runs so many times. Without anybody to tell, nothing is looked at."""
        self.chunks, self.before, self.seen = chunks, 0, 0
        handles = []
        if self.progress is not None:
            handles = [module.register_forward_hook(self._one) for module in self.modules]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def finished(self, chunks: int) -> None:
        self.before, self.seen = chunks, 0
        self._tell()

    def _one(self, *_: Any) -> None:
        self.seen = min(self.seen + 1, len(self.modules))
        self._tell()

    def _tell(self) -> None:
        if self.progress is not None:
            within = self.seen / max(len(self.modules), 1)
            self.progress(min(1.0, (self.before + within) / self.chunks))


def _look(model: Any, ids: Any) -> Recording:
    """The layers that a few tokens run through: their names, heads and masks."""
    from atento.reading.capturing import capture

    inputs = model_inputs(model, ids)
    with capture(model, keep="statistics", statistics=(), strict=False) as recording:
        model(**inputs)
    if len(recording):
        return recording
    try:  # what is wrong is said where nothing may be left out
        with capture(model, keep="statistics", statistics=()):
            model(**inputs)
    except EngineError as error:
        raise _mistake("model_unread", why=str(error).rstrip(".")) from None
    except InputError:
        raise _mistake("model_no_attention", model=type(model).__name__) from None
    return recording


def _check(
    first: Recording, layers: Sequence[int | str] | None, heads: Sequence[int] | None
) -> None:
    """That the layers and heads asked for are there."""
    names = [*first.names, *(layer for layer, _ in first.skipped)]
    for wish in layers or ():
        there = wish < len(names) if isinstance(wish, int) else _matches(names, wish)
        if not there:
            raise _mistake("layer_unknown", came=wish, count=len(names), layers=_listed(names))
    for number, record in enumerate(first):
        wanted = layers is None or any(
            wish == number if isinstance(wish, int) else _matches([record.layer], wish)
            for wish in layers
        )
        if wanted and heads and max(heads) >= record.heads:
            raise _mistake(
                "head_unknown", came=max(heads), layer=record.layer, last=record.heads - 1
            )


def _listed(names: Sequence[str]) -> str:
    """The layers with their numbers; of many, the first ones and the last."""
    named = [f"{number}: {name}" for number, name in enumerate(names)]
    if len(named) > LISTED:
        named[3:-1] = ["…"]
    return ", ".join(named)


def _matches(names: Sequence[str], wish: str) -> bool:
    return any(fnmatchcase(name, wish) for name in names)


def _may_be_cut(model: Any, first: Recording) -> bool:
    """Whether the model can read a text chunk by chunk: it takes a cache, and never looks ahead."""
    if not {"past_key_values", "use_cache"} <= _parameters(model):
        return False
    if model.config.is_encoder_decoder or first.skipped:
        return False
    return not any(_looks_ahead(record) for record in first)


def _looks_ahead(record: Any) -> bool:
    """Whether the first token sees the second."""
    if record.mask is None:
        return bool(record.keys > 1)
    tile = record.mask.block(range(1), range(1, 2))
    return tile.value if isinstance(tile, Coverage) else bool(tile.any())


def _reaches(cache: Any, tokens: int) -> bool:
    return hasattr(cache, "get_seq_length") and cache.get_seq_length() == tokens


def model_inputs(model: Any, ids: Any) -> dict[str, Any]:
    """The arguments of a whole run."""
    inputs = {"input_ids": ids, **_last_alone(model)}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = _moved_on(model.config, ids)
    if "use_cache" in _parameters(model):
        inputs["use_cache"] = False
    return inputs


def _moved_on(config: Any, ids: Any) -> Any:
    """What a decoder reads when it is to write these tokens: its start, then all but the last."""
    moved = ids.roll(1, dims=1)
    names = ("decoder_start_token_id", "bos_token_id", "pad_token_id")
    known = (getattr(config, name, None) for name in names)
    moved[:, 0] = next((token for token in known if token is not None), 0)
    return moved


def _last_alone(model: Any) -> dict[str, Any]:
    """Logits of the last token alone: a vocabulary of numbers for each token is never looked at."""
    return {"logits_to_keep": 1} if "logits_to_keep" in _parameters(model) else {}


def _parameters(model: Any) -> set[str]:
    return set(inspect.signature(model.forward).parameters)


MESSAGES = {
    "head_unknown": "there is no head {came} in layer {layer}: its heads are 0 to {last}.",
    "layer_unknown": "there is no layer {came}. There are {count}: {layers}.",
    "model_no_attention": "no attention was seen in {model}: it has none, or computes it in a way "
    "that atento does not know.",
    "model_no_text": "{model} reads no token ids (its forward has no input_ids), so it cannot read "
    "a text.",
    "model_unread": "none of the layers could be read exactly. {why}.",
}


def _mistake(name: str, **facts: object) -> InputError:
    return InputError(MESSAGES[name].format(**facts), name=name, **facts)
