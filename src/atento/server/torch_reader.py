"""Models of transformers as readers: one text at a time for each model."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from atento._errors import AtentoError, InputError
from atento._optional import require
from atento.server.mistakes import wrong
from atento.server.readers import sampled
from atento.views.terminal_text import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from atento.reading.loading import LoadedModel
    from atento.reading.recording import Recording
    from atento.server.readers import Off
    from atento.server.work import Stop

__all__ = ["TorchReader"]

PATIENCE = 0.1
"""Seconds after which one that waits for a model asks whether anybody still waits for it."""

FEW = 8
"""Tokens of a text that are read to know the model's layers and heads."""

MOST_TOKENS = 131_072
"""The longest text that is read here, in tokens."""


class TorchReader:
    """A model that `load_model` loads.

    Args:
        name: a directory or a name on the hub, as `load_model` takes it.

    Attributes:
        name: what the page calls it: the directory's last part, or the name on the hub.
        loaded: the model and its tokenizer.

    Raises:
        InputError, MissingLibraryError: as `load_model`.
    """

    def __init__(self, name: str) -> None:
        from atento.lm.checkpoints.for_transformers import known_to_transformers
        from atento.reading.loading import load_model

        known_to_transformers()
        path = Path(name).expanduser()
        self.name = path.resolve().name if path.is_dir() else name
        self.loaded: LoadedModel = load_model(name)
        model = self.loaded.model
        self.foretells = bool(model.can_generate()) and not model.config.is_encoder_decoder
        self._free = Lock()
        self._layers: list[tuple[str, tuple[int, ...]]] = []  # their names, and their heads

    def read(self, text: str, off: Off, stop: Stop) -> tuple[Recording, Any]:
        """As `Reader.read`; an encoder has no logits of a next token."""
        from atento.reading.loading import quiet

        ids = self._encoded(text)
        if off:
            self._check_heads(off, ids, stop)
        with self._alone(stop), quiet(), _last_logits(self.loaded.model) as seen:
            recording = self._changed(ids, off, stop) if off else self._plain(ids, stop)
        recording.name_tokens(self.loaded.tokenizer)
        recording.origin = None  # the model is not run again from a page
        return recording, seen[-1] if self.foretells and seen else None

    def generate(
        self, text: str, off: Off, options: dict[str, Any], stop: Stop
    ) -> Iterator[dict[str, Any]]:
        """As `Reader.generate`, with the model's own cache; ends at its end-of-text token."""
        if not self.foretells:
            raise InputError(
                f"{self.name} writes no text: it says nothing of a next token. Choose a model "
                "that does.",
                name="live_writes_no_text",
                model=self.name,
            )
        ids = self._encoded(text)
        self._check_heads([*off, options["watch"]], ids, stop)
        room = (self.loaded.limit or len(ids) + options["tokens"]) - len(ids)
        ends = _ends(self.loaded.model)
        rng = np.random.default_rng(options["seed"])
        tokenizer = self.loaded.tokenizer
        first: dict[str, Any] = {"tokens": tokenizer.convert_ids_to_tokens(ids)}
        new, cache, part = list[int](), None, ids
        for _ in range(min(options["tokens"], room)):
            stop.check()
            logits, looks, cache = self._step(part, cache, options["watch"], off, stop)
            token, chance = sampled(logits, options, rng)
            new.append(token)
            part = [token] if cache is not None else ids + new
            shown = self.text_of(token)
            yield first | {"id": token, "token": shown, "probability": chance, "weights": looks}
            first = {}
            if token in ends:
                break
        yield first | {"text": text + tokenizer.decode(new, skip_special_tokens=True)}

    def text_of(self, token: int) -> str:
        """As `Reader.text_of`."""
        text: str = self.loaded.tokenizer.decode([token])
        return text

    def _encoded(self, text: str) -> list[int]:
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise wrong("half_character")
        try:
            ids = self.loaded.encode(text)
        except AtentoError as error:
            if error.name == "too_long":  # there, it advises an option of the command line
                raise wrong("live_too_long", **error.facts) from None
            if error.name == "model_characters":
                told = " ".join(map(visible, str(error.facts["unknown"])))
                raise wrong("characters", model=self.name, characters=told) from None
            raise
        if len(ids) > MOST_TOKENS:
            raise wrong("tokens_long", came=len(ids), most=MOST_TOKENS)
        return ids

    def _plain(self, ids: list[int], stop: Stop) -> Recording:
        from atento.reading.running import read_tokens

        recording = read_tokens(self.loaded.model, ids, progress=stop.check).recording
        heads = [layer.head_numbers for layer in recording]
        self._layers = list(zip(recording.names, heads, strict=True))
        return recording

    def _check_heads(self, pairs: Iterable[tuple[int, int]], ids: list[int], stop: Stop) -> None:
        """Tell of a head that the model has not, as the page numbers them."""
        from atento.reading.loading import quiet

        if not self._layers:  # nothing has been read yet
            with self._alone(stop), quiet():
                self._plain(ids[:FEW], stop)
        for layer, head in pairs:
            if layer >= len(self._layers):
                raise wrong("no_layer", layer=layer, last=len(self._layers) - 1)
            name, heads = self._layers[layer]
            if head not in heads:
                raise wrong("no_head", head=head, layer=name)

    def _changed(self, ids: list[int], off: Off, stop: Stop) -> Recording:
        """With heads off, in one go."""
        torch = require("torch", "to read a model")
        from atento.reading.capturing import capture
        from atento.reading.running import model_inputs

        stop.check()
        model = self.loaded.model
        with torch.no_grad():
            inputs = model_inputs(model, torch.tensor([ids], device=model.device))
            with capture(model, strict=False, interventions=self._knocked_out(off)) as recording:
                model(**inputs)
        return recording

    def _step(
        self, part: list[int], cache: Any, watch: tuple[int, int], off: Off, stop: Stop
    ) -> tuple[Any, list[float], Any]:
        """One call of the model: the last token's logits and weights, and the cache.

        Each call captures anew, for the next may run on another thread.
        """
        torch = require("torch", "to read a model")
        from atento.reading.capturing import capture

        layer, head = watch
        model = self.loaded.model
        with self._alone(stop), torch.no_grad():
            captured = capture(
                model,
                self._named(layer),
                head,
                statistics=(),
                strict=False,
                interventions=self._knocked_out(off),
            )
            with captured as recording:
                output = model(
                    input_ids=torch.tensor([part], device=model.device),
                    past_key_values=cache,
                    use_cache=True,
                )
        record = recording[0]
        looks = record.weights(record.head_numbers[0], -1)[0]
        logits = output.logits[0, -1].float().cpu().numpy()
        return logits, looks.tolist(), getattr(output, "past_key_values", None)

    def _knocked_out(self, off: Off) -> list[Any]:
        from atento.reading.interventions import KnockOut

        return [KnockOut(self._named(layer), head) for layer, head in off]

    def _named(self, layer: int) -> str:
        """The layer's name: numbers of a recording leave out what could not be read."""
        return self._layers[layer][0]

    @contextmanager
    def _alone(self, stop: Stop) -> Iterator[None]:
        """While no other thread has the model; the wait ends with the client."""
        while not self._free.acquire(timeout=PATIENCE):
            stop.check()
        try:
            stop.check()
            yield
        finally:
            self._free.release()


@contextmanager
def _last_logits(model: Any) -> Iterator[list[Any]]:
    """The last token's logits of each call of the model, as NumPy's float32."""
    seen: list[Any] = []

    def look(_: Any, __: Any, output: Any) -> None:
        logits = getattr(output, "logits", None)
        if logits is not None and logits.ndim == 3:
            seen[:] = [logits[0, -1].float().cpu().numpy()]

    handle = model.register_forward_hook(look)
    try:
        yield seen
    finally:
        handle.remove()


def _ends(model: Any) -> set[int]:
    """The tokens with which the model ends a text."""
    ends: Any = getattr(model.generation_config, "eos_token_id", None)
    return {end for end in (ends if isinstance(ends, list) else [ends]) if end is not None}
