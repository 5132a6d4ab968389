"""Encoders of transformers and sentence-transformers, read as their own files say.

``modules.json`` names the steps of a sentence-transformers model: the encoder, how the states of
the tokens become one vector (``1_Pooling``), and scaling to length 1. Without that file the vector
is the mean of the last states. Weights are read from safetensors alone; no code of a model is run.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from atento._errors import InputError
from atento._optional import require
from atento.reading.loading import is_local, load_model, quiet
from atento.retrieval.embedders import hash_of
from atento.retrieval.embedding import TextReader

if TYPE_CHECKING:
    from atento.retrieval.embedding import Cut, Vectors

__all__ = ["EncoderEmbedder"]

READ_OUT = "encoder 1"
"""Part of every version: raised when the same files would give other vectors here."""

SETTINGS = ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json")
TOKENIZERS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
)

POOLINGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}

LONG = 100_000  # characters: longer texts are looked at from their beginning
SURROGATES = re.compile("[\ud800-\udfff]")  # tokenizers refuse lone ones


class EncoderEmbedder(TextReader):
    """An encoder by folder or name: mean, first token, … of its last states, of length 1.

    Attributes:
        limit: the most tokens of a text that it reads, or None.
        pooling: how the states of the tokens become one: several stand behind one another.
    """

    batch = 32

    def __init__(self, name: str) -> None:
        self._torch = require("torch", f"to embed texts with {name}")
        loaded = load_model(name)
        folder = Path(name).expanduser()
        self.name = str(folder.resolve()) if folder.is_dir() else name
        files = _Files(name)
        self._prompt = _prompt(files)
        self.pooling = _pooling(files, self._prompt)
        prepared = files.json("sentence_bert_config.json")
        self._lower = bool(prepared.get("do_lower_case"))
        self._tokenizer = _with_padding(loaded.tokenizer, name)
        self._model = loaded.model.base_model
        if self._model.config.is_encoder_decoder:
            self._model = self._model.get_encoder()
        limits = (loaded.limit, prepared.get("max_seq_length"), self._tokenizer.model_max_length)
        self.limit = min((int(n) for n in limits if n and n < 10**9), default=None)
        self.version = hash_of(files.present(), kind=READ_OUT)
        self.dim = self.read_batch(["atento"])[0].shape[1]

    def read_batch(self, texts: list[str]) -> tuple[Vectors, Cut]:
        """One row per text, and which were cut."""
        prepared = [self._prepared(text) for text in texts]
        with quiet():
            lengths = [len(ids) for ids in self._tokenizer(prepared)["input_ids"]]
            tokens = self._tokenizer(
                prepared,
                truncation=self.limit is not None,
                max_length=self.limit,
                padding=True,
                return_tensors="pt",
            )
        cut = np.array([self.limit is not None and n > self.limit for n in lengths], bool)
        with self._torch.inference_mode():
            states = self._model(**tokens)[0].float()  # (text, token, feature)
            mask = tokens["attention_mask"].to(states.dtype)[..., None]  # (text, token, 1)
            pooled = [_POOL[kind](states, mask) for kind in self.pooling]
            return self._torch.cat(pooled, dim=-1).numpy(), cut

    def _prepared(self, text: str) -> str:
        text = SURROGATES.sub("\ufffd", self._prompt + text)
        if len(text) > LONG and self.limit is not None:
            beginning = text[:LONG]
            with quiet():
                if len(self._tokenizer(beginning)["input_ids"]) > 2 * self.limit:
                    text = beginning
        return text.lower() if self._lower else text


class _Files:
    """The files beside a model's weights, in its folder or in the hub's cache."""

    def __init__(self, name: str) -> None:
        folder = Path(name).expanduser()
        self.name = name
        self._folder = folder if folder.is_dir() else None
        self._offline = self._folder is None and is_local(name)

    def find(self, path: str) -> Path | None:
        """Where the file is, or None."""
        if self._folder is not None:
            file = self._folder / path
            return file if file.is_file() else None
        hub = require("transformers", "to read a model").utils.hub
        with quiet():
            found = hub.cached_file(
                self.name,
                path,
                local_files_only=self._offline,
                _raise_exceptions_for_missing_entries=False,
                _raise_exceptions_for_connection_errors=False,
            )
        return None if found is None else Path(found)

    def json(self, path: str) -> dict[str, Any]:
        """The settings in a file; none where it is not there."""
        content = self._read(path)
        return content if isinstance(content, dict) else {}

    def modules(self) -> list[dict[str, str]] | None:
        """The steps of a sentence-transformers model, or None."""
        content = self._read("modules.json")
        return content if isinstance(content, list) else None

    def present(self) -> list[Path]:
        """Everything that the vectors depend on."""
        poolings = [f"{m.get('path')}/config.json" for m in self.modules() or () if m.get("path")]
        names = ("config.json", *SETTINGS, *TOKENIZERS, *poolings)
        found = [file for name in names if (file := self.find(name)) is not None]
        return found + sorted(found[0].parent.glob("*.safetensors"))

    def _read(self, path: str) -> Any:
        file = self.find(path)
        if file is None:
            return None
        try:
            return json.loads(file.read_text("utf-8"))
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{path} of the model {self.name} is not JSON: {error}. Copy or save it again."
            ) from None


def _pooling(files: _Files, prompt: str) -> tuple[str, ...]:
    modules = files.modules()
    if modules is None:
        return ("mean",)
    pooling: tuple[str, ...] = ("mean",)
    for module in modules:
        kind = str(module.get("type", "")).rpartition(".")[2]
        if kind == "Pooling":
            config = files.json(f"{module.get('path')}/config.json")
            pooling = _kinds(config, files.name, prompt)
        elif kind not in ("Transformer", "Normalize"):
            raise InputError(
                f"The model {files.name} has a step {kind or '?'} that is not known here: "
                "Transformer, Pooling and Normalize are. Give its own encode function instead."
            )
    return pooling


def _kinds(config: dict[str, Any], name: str, prompt: str) -> tuple[str, ...]:
    said = config.get("pooling_mode")
    kinds = [said] if isinstance(said, str) else list(said or ())
    kinds = kinds or [kind for key, kind in POOLINGS.items() if config.get(key)]
    unknown = [kind for kind in kinds if kind not in _POOL]
    if unknown or not kinds:
        raise InputError(
            f"The model {name} pools by {', '.join(map(str, unknown)) or 'nothing'}; known here "
            f"are {', '.join(_POOL)}. Give its own encode function instead."
        )
    if config.get("include_prompt") is False and prompt:
        raise InputError(
            f"The model {name} leaves its prompt out of the mean, which is not known here. Give "
            "its own encode function instead."
        )
    return tuple(kinds)


def _prompt(files: _Files) -> str:
    """What the model wants before every text, where it names one for all."""
    settings = files.json("config_sentence_transformers.json")
    prompts, chosen = settings.get("prompts") or {}, settings.get("default_prompt_name")
    return str(prompts.get(chosen, "")) if chosen else ""


def _with_padding(tokenizer: Any, name: str) -> Any:
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if tokenizer.pad_token is None:
        raise InputError(
            f"The tokenizer of {name} has no token to fill up shorter texts with. Set pad_token."
        )
    return tokenizer


def _last(states: Any, mask: Any) -> Any:
    last = mask.squeeze(-1).sum(dim=1).long().clamp(min=1) - 1
    return states[range(len(states)), last]


def _weighted(states: Any, mask: Any) -> Any:
    place = mask.cumsum(dim=1) * mask  # 1, 2, 3, …: later tokens count more
    return (states * place).sum(dim=1) / place.sum(dim=1).clamp(min=1)


_POOL = {
    "cls": lambda states, _mask: states[:, 0],
    "mean": lambda states, mask: (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1),
    "max": lambda states, mask: states.masked_fill(mask == 0, float("-inf")).amax(dim=1),
    "mean_sqrt_len_tokens": lambda states, mask: (
        (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1).sqrt()
    ),
    "weightedmean": _weighted,
    "lasttoken": _last,
}
"""How (text, token, feature) becomes (text, feature), by sentence-transformers' names."""
