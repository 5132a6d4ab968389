"""A model and its tokenizer, by folder or by name: weights never pickled, no code unasked."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from atento._errors import InputError, MissingLibraryError
from atento._optional import require

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["LoadedModel", "is_local", "load_model", "quiet"]

CLASSES = (
    ("ForCausalLM", "AutoModelForCausalLM"),
    ("LMHeadModel", "AutoModelForCausalLM"),
    ("ForMaskedLM", "AutoModelForMaskedLM"),
    ("ForConditionalGeneration", "AutoModelForSeq2SeqLM"),
)
"""Which of transformers' classes loads an architecture, by the end of its name; else AutoModel."""

PICKLED = (".bin", ".pt", ".pth", ".ckpt")

UNUSED = ("pooler",)
"""Parts whose weights a checkpoint may lack: no attention runs behind them."""

LOOKED_AT, TOLD = 10_000, 8
"""Characters that are looked at for those without a token, and of which so many are told."""


@dataclass(frozen=True)
class LoadedModel:
    """A model that can read a text.

    Attributes:
        model: in evaluation mode, on its device.
        tokenizer: transformers' tokenizer.
        limit: the most tokens that its positions allow, or None where they allow any number.
    """

    model: Any
    tokenizer: Any
    limit: int | None

    def encode(self, text: str, *, cut: bool = False) -> list[int]:
        """The token ids of a text, with the special tokens that the model expects.

        Args:
            text: what to read.
            cut: keep the beginning of a text that is too long, instead of refusing it.

        Raises:
            InputError: no tokens, more than fit, characters that the tokenizer has no token for, or
                ids that the model has no vectors for.
        """
        with quiet():
            ids = self._tokens(text)
            if self.limit is not None and len(ids) > self.limit:
                if not cut:
                    raise _mistake("too_long", limit=self.limit, came=len(ids))
                ids = self._tokens(text, truncation=True, max_length=self.limit)
        if not ids:
            raise _mistake("model_no_tokens")
        vectors = self.model.get_input_embeddings().weight.shape[0]
        if max(ids) >= vectors:
            raise _mistake("model_vocabulary", came=max(ids), vectors=vectors)
        return ids

    def _tokens(self, text: str, **options: Any) -> list[int]:
        try:
            return list(self.tokenizer(text, **options)["input_ids"])
        except Exception as error:  # tokenizers raise nothing narrower
            unknown = [each for each in dict.fromkeys(text[:LOOKED_AT]) if not self._knows(each)]
            if not unknown:
                raise
            told = ", ".join(f"{each!r} (U+{ord(each):04X})" for each in unknown[:TOLD])
            raise _mistake(
                "model_characters", characters=told, unknown="".join(unknown[:TOLD])
            ) from error

    def _knows(self, character: str) -> bool:
        """Whether the tokenizer has tokens for it."""
        try:
            self.tokenizer(character)
        except Exception:
            return False
        return True


def load_model(name: str, *, device: str = "cpu", trust_remote_code: bool = False) -> LoadedModel:
    """Load a model and its tokenizer with transformers.

    Args:
        name: a directory with ``config.json``, ``model.safetensors`` and a tokenizer, or a name
            on the Hugging Face hub. Weights are read from safetensors alone.
        device: where it runs, as torch names it.
        trust_remote_code: whether code that comes with the model may run.

    Raises:
        InputError: what is missing or cannot be used, in one sentence. Its ``name`` and ``facts``
            are those of the command line's words.
        MissingLibraryError: when torch or transformers is not installed.
    """
    require("torch", "to read a model")
    require("transformers", "to read a model")
    _check_device(device)
    _check_directory(name)
    options = {"trust_remote_code": trust_remote_code, "local_files_only": is_local(name)}
    with quiet():
        config = _config(name, options)
        tokenizer = _tokenizer(name, options)
        model = _model(name, config, options)
    try:
        model = model.to(device).eval()
    except (RuntimeError, ValueError) as error:  # no memory; a quantised model that stays put
        raise _mistake("model_device", device=device, why=_sentence(error)) from None
    return LoadedModel(model, tokenizer, _limit(model))


def _check_device(device: str) -> None:
    torch = require("torch", "to read a model")
    try:
        kind = torch.device(device)
        if kind.type == "meta":
            raise _mistake("device", device=device, why="there are no numbers on it")
        torch.empty(1, device=kind)
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        raise _mistake("device", device=device, why=_sentence(error)) from None


def _check_directory(name: str) -> None:
    """See that a directory holds what is needed, before anything of it is opened."""
    path = Path(name).expanduser()
    if not name.strip() or path.is_file():
        raise _mistake("model_file" if name.strip() else "model_name", path=name)
    if not path.is_dir():
        if name.startswith((".", "/", "~", "\\")) or name.count("/") > 1 or "\\" in name:
            raise _mistake("model_missing", path=name)
        return
    files = [file.name for file in path.iterdir()]
    if "config.json" not in files:
        raise _mistake("model_config", path=name)
    if any(file.endswith(".safetensors") for file in files):
        return
    pickled = sorted(file for file in files if file.endswith(PICKLED))
    if pickled:
        raise _mistake("model_pickled", path=name, file=pickled[0])
    raise _mistake("model_weights", path=name)


def is_local(name: str) -> bool:
    """Whether to look on this machine alone: a directory, or the hub cannot be reached.

    Asked once, because transformers would try each file for half a minute.
    """
    if Path(name).expanduser().is_dir():
        return True
    if getproxies():  # the name is looked up elsewhere
        return False
    hub = require("huggingface_hub", "to find a model by name")
    if hub.constants.HF_HUB_OFFLINE:
        return True
    address = urlsplit(hub.constants.ENDPOINT)
    try:
        socket.getaddrinfo(address.hostname, address.port or 443)
    except OSError:
        return True
    return False


def _config(name: str, options: dict[str, Any]) -> Any:
    transformers = require("transformers", "to read a model")
    with _told(name, options):
        return transformers.AutoConfig.from_pretrained(_place(name), **options)


def _tokenizer(name: str, options: dict[str, Any]) -> Any:
    transformers = require("transformers", "to read a model")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(_place(name), **options)
    except MissingLibraryError:
        raise
    except Exception as error:  # each tokenizer has its own way to miss a file
        if "trust_remote_code" in str(error):
            raise _mistake("model_code", path=name) from None
        raise _mistake("model_tokenizer", path=name, why=_sentence(error)) from None
    # Without files, transformers makes one that knows its special tokens alone.
    if tokenizer.vocab_size <= len(tokenizer.all_special_tokens):
        raise _mistake("model_no_tokenizer", path=name)
    return tokenizer


def _model(name: str, config: Any, options: dict[str, Any]) -> Any:
    transformers = require("transformers", "to read a model")
    kind = getattr(transformers, _class_name(config))
    if type(config) not in kind._model_mapping and not hasattr(config, "auto_map"):
        kind = transformers.AutoModel
    with _told(name, options):
        model, found = kind.from_pretrained(
            _place(name), config=config, use_safetensors=True, output_loading_info=True, **options
        )
    missing = sorted(
        key for key in found["missing_keys"] if not any(part in key for part in UNUSED)
    )
    body = f"{model.base_model_prefix}."
    missing = [key for key in missing if key.startswith(body) or model is model.base_model]
    if missing:  # transformers would go on with random numbers
        raise _mistake("model_incomplete", path=name, count=len(missing), first=missing[0])
    return model


def _class_name(config: Any) -> str:
    for architecture in getattr(config, "architectures", None) or ():
        for ending, name in CLASSES:
            if architecture.endswith(ending):
                return name
    return "AutoModel"


def _limit(model: Any) -> int | None:
    """The most positions that the model has; RoBERTa's begin behind its padding."""
    config = model.config.get_text_config()
    limit = getattr(config, "max_position_embeddings", None)
    if not isinstance(limit, int) or limit < 1:
        return None
    for name, module in model.named_modules():
        if name.endswith("position_embeddings"):
            padding = getattr(module, "padding_idx", None)
            if padding is not None:
                limit = min(limit, module.num_embeddings - padding - 1)
    return limit


def _place(name: str) -> str:
    path = Path(name).expanduser()
    return str(path) if path.is_dir() else name


@contextmanager
def _told(name: str, options: dict[str, Any]) -> Iterator[None]:
    """What goes wrong while a model is loaded becomes one sentence."""
    try:
        yield
    except MissingLibraryError:
        raise
    except Exception as error:
        text = str(error)
        if "trust_remote_code" in text or "custom code" in text:
            raise _mistake("model_code", path=name) from None
        if isinstance(error, OSError) and not Path(name).expanduser().is_dir():
            if ".safetensors" in text:
                raise _mistake("model_hub_pickled", path=name) from None
            reached = "model_hub" if not options["local_files_only"] else "model_offline"
            raise _mistake(reached, path=name, why=_sentence(error)) from None
        raise _mistake("model_load", path=name, why=_sentence(error)) from None


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' own messages and bars, which are put back after."""
    logging = require("transformers", "to read a model").utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _sentence(error: Exception) -> str:
    """The first line of what a library said, without its full stop."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".:")


MESSAGES = {
    "too_long": "The model reads at most {limit} tokens and the text has {came}. Shorten it, or "
    "keep its first {limit} with cut=True (--cut).",
    "device": "There is no device {device} here: {why}. Name another, such as cpu.",
    "model_code": "{path} comes with code of its own, which is not run unless you allow it: read "
    "it first, then say trust_remote_code=True (--trust-remote-code).",
    "model_config": "{path} has no config.json, so it is no model directory of transformers. Name "
    "the folder that save_pretrained wrote.",
    "model_characters": "The model has no token for {characters}. Take them out of the text.",
    "model_device": "The model cannot go to {device}: {why}. Try another device.",
    "model_file": "{path} is a file; a model is a directory with config.json and "
    "model.safetensors, or a name on the Hugging Face hub. Name its folder.",
    "model_hub": "{path} is no folder here and could not be loaded from the Hugging Face hub: "
    "{why}. Check the name.",
    "model_hub_pickled": "{path} has no safetensors weights, and pickled ones are never opened: "
    "they can run code. Choose a model with model.safetensors.",
    "model_incomplete": "The weights of {path} are incomplete: {count} are missing, {first} among "
    "them. Copy or save the model again.",
    "model_load": "The model in {path} cannot be loaded: {why}.",
    "model_missing": "The folder {path} does not exist. Check the name and the folder.",
    "model_name": "The model's name is empty. Name a folder or a model on the Hugging Face hub.",
    "model_no_tokenizer": "{path} has no tokenizer, so it cannot read a text. Save one beside it "
    "with tokenizer.save_pretrained.",
    "model_no_tokens": "The text has no token for this model. Write a sentence.",
    "model_offline": "{path} is no folder here, is not in the local cache, and the Hugging Face "
    "hub cannot be reached. Go online, or name a folder.",
    "model_pickled": "{path} holds its weights only as {file}, which is pickled and never opened: "
    "it can run code. Convert it where you trust it: AutoModel.from_pretrained(folder)"
    ".save_pretrained(folder) writes model.safetensors.",
    "model_tokenizer": "The tokenizer of {path} cannot be loaded: {why}.",
    "model_vocabulary": "The tokenizer gives the token {came} and the model has vectors for "
    "{vectors} tokens. Do they belong together?",
    "model_weights": "{path} holds no weights. Expected model.safetensors beside config.json.",
}


def _mistake(name: str, **facts: object) -> InputError:
    return InputError(MESSAGES[name].format(**facts), name=name, **facts)
