"""A model's folder: config.json, model.safetensors, tokenizer.json; read without pickle or code."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from atento._errors import InputError
from atento._files import write_whole
from atento.lm.checkpoints.family import Family
from atento.lm.checkpoints.gpt2 import GPT2
from atento.lm.checkpoints.llama import Llama, Mistral
from atento.lm.checkpoints.own import Own
from atento.lm.config import TransformerConfig
from atento.lm.tokenizers import load_tokenizer
from atento.lm.tokenizers.stored import NAME as TOKENIZER
from atento.lm.transformer import Transformer

__all__ = ["CONFIG", "WEIGHTS", "family_of", "load_model", "save_model"]

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

FAMILIES: tuple[Family, ...] = (GPT2(), Llama(), Mistral(), Own())
"""The first that computes a Transformer names its weights."""

HEAD = "lm_head.weight"
EMBEDDING = ("token_embedding.weight",)

UNREAD = (
    *(OSError, SafetensorError, ValueError, RecursionError),
    *(KeyError, AttributeError, TypeError),
)
"""What files that are damaged, or of another form, may raise."""

SHOWN = 6
"""Names that a message lists."""


def family_of(config: TransformerConfig) -> Family:
    """The family under whose names a Transformer is saved.

    Raises:
        InputError: where there is none.
    """
    for family in FAMILIES:
        if not family.lacks(config):
            return family
    raise InputError(
        "save_model: no family of models computes this: "
        + "; ".join(f"{family.model_type} has no {family.lacks(config)[0]}" for family in FAMILIES)
        + "."
    )


def save_model(model: Transformer, folder: str | Path, tokenizer: Any = None) -> None:
    """Write a model as a Hugging Face directory.

    GPT-2's, Llama's and Mistral's shapes are written so that
    ``transformers.AutoModelForCausalLM.from_pretrained(folder)`` computes the same logits; what
    none of them computes is written for `load_model`, and for `atento inspect`, `explain` and
    `serve`. Each file is written aside and renamed.

    Args:
        model: whose weights and shape are written.
        folder: made where it is not there.
        tokenizer: written beside it; the model's own when left out.

    Raises:
        InputError: when the folder cannot be written.

    >>> import tempfile
    >>> model = Transformer(TransformerConfig.preset("toy", vocabulary_size=100))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_model(model, folder)
    ...     again = load_model(folder)
    >>> ids = torch.tensor([[1, 2, 3]])
    >>> torch.equal(model(ids), again(ids))
    True
    """
    folder = Path(folder)
    family = family_of(model.config)
    state = model.state_dict()
    weights = {
        theirs: _theirs(family, theirs, [state[name] for name in ours])
        for theirs, ours in family.names(model.config).items()
    }
    tokenizer = model.tokenizer if tokenizer is None else tokenizer
    settings = family.settings(model.config) | {"dtype": str(model.norm.weight.dtype)[6:]}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / WEIGHTS, [save(weights, metadata={"format": "pt"})])
        if tokenizer is not None:
            tokenizer.save(folder / TOKENIZER)
            kind = {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "model_max_length": model.config.context,
                "clean_up_tokenization_spaces": False,
            }
            write_whole(folder / "tokenizer_config.json", [_json(kind)])
        write_whole(folder / CONFIG, [_json(settings)])
    except OSError as error:
        raise InputError(
            f"save_model: {folder} cannot be written: {error.strerror}.",
            name="lm_unwritten",
            folder=folder,
            why=error.strerror,
        ) from None


def load_model(folder: str | Path) -> Transformer:
    """A model, and its tokenizer where there is one, from a Hugging Face directory.

    Args:
        folder: with ``config.json`` and ``model.safetensors`` (or its parts and their index) of a
            GPT-2, a Llama, a Mistral, or what `save_model` wrote.

    Returns:
        in float32, ready to compute (``eval()``); ``model.tokenizer`` is None where there is no
        ``tokenizer.json``.

    Raises:
        InputError: for another family, weights that are missing, left over or of another shape
            (each named), weights in pickle, or files that cannot be read.

    >>> import tempfile
    >>> from atento.lm import Transformer, TransformerConfig, save_model
    >>> model = Transformer(TransformerConfig(11, context=8, d_model=8, num_heads=2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = save_model(model, folder)
    ...     load_model(folder).config.d_model
    8
    """
    folder = Path(folder)
    settings = _settings(folder)
    family = next((f for f in FAMILIES if f.model_type == settings.get("model_type")), None)
    if family is None:
        raise InputError(
            f"load_model: {folder} holds a model of type {settings.get('model_type')!r}; loaded "
            f"here are {', '.join(f.model_type for f in FAMILIES)}. (atento.capture reads the "
            "attention of any of transformers' models.)",
            name="lm_family",
            folder=folder,
            came=repr(settings.get("model_type")),
            known=", ".join(f.model_type for f in FAMILIES),
        )
    try:
        config = family.config(settings)
    except (KeyError, TypeError) as error:
        raise InputError(
            f"load_model: {folder / CONFIG} lacks what is needed: {error}.",
            name="lm_config_lacks",
            path=folder / CONFIG,
            what=error,
        ) from None
    stored = _weights(folder)
    config = _as_stored(family, config, stored)
    with torch.device("meta"):
        model = Transformer(config)
    state = _ours(family, config, stored, model)
    model.load_state_dict(state, assign=True)
    model.requires_grad_(requires_grad=True)
    if (folder / TOKENIZER).exists():
        model.tokenizer = load_tokenizer(folder)
    return model.eval()


def _theirs(family: Family, name: str, ours: list[Tensor]) -> Tensor:
    weight = torch.cat(ours) if len(ours) > 1 else ours[0]
    return (weight.mT if family.turned(name) else weight).detach().cpu().contiguous()


def _as_stored(
    family: Family, config: TransformerConfig, stored: Mapping[str, Tensor]
) -> TransformerConfig:
    """Untied where the file has another matrix for the scores; so transformers reads it."""
    head, names = stored.get(HEAD), family.names(config)
    if head is None or not config.tied:
        return config
    embeddings = (stored[n] for n in stored if names.get(family.known(n) or "") == EMBEDDING)
    same = all(head.shape == one.shape and torch.equal(head, one) for one in embeddings)
    return config if same else replace(config, tied=False)


def _ours(
    family: Family, config: TransformerConfig, stored: Mapping[str, Tensor], model: Transformer
) -> dict[str, Tensor]:
    """Their weights under our names, all of them, and no others."""
    wanted = family.names(config)
    found = {known: name for name in stored if (known := family.known(name)) is not None}
    tied = {HEAD} if config.tied else set()
    missing = [name for name in wanted if name not in found]
    extra = [found[name] for name in found if name not in wanted and name not in tied]
    if missing or extra:
        said = [f"without {_listed(missing)}"] if missing else []
        said += [f"with {_listed(extra)}, unknown here"] if extra else []
        raise InputError(
            f"load_model: the weights do not fit config.json: {'; '.join(said)}.",
            name="lm_weights_other",
            missing=_listed(missing) or "–",
            extra=_listed(extra) or "–",
        )
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    state: dict[str, Tensor] = {}
    for theirs, ours in wanted.items():
        weight = stored[found[theirs]].float()
        weight = weight.mT if family.turned(theirs) else weight
        sizes = [shapes[name][0] for name in ours]
        expected = (sum(sizes), *shapes[ours[0]][1:])
        if tuple(weight.shape) != expected:
            came = tuple(stored[found[theirs]].shape)
            wanted_shape = expected[::-1] if family.turned(theirs) else expected
            raise InputError(
                f"load_model: {found[theirs]} has shape {came}; by config.json it would be "
                f"{wanted_shape}.",
                name="lm_weights_shape",
                weight=found[theirs],
                came=came,
                expected=wanted_shape,
            )
        parts = torch.split(weight, sizes)
        whole = (
            torch.contiguous_format
        )  # torch's fused AdamW pairs numbers by their place in memory
        state |= {n: p.clone(memory_format=whole) for n, p in zip(ours, parts, strict=True)}
    return state


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        settings = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        what = "there is no such folder" if not folder.exists() else f"it has no {CONFIG}"
        raise InputError(
            f"load_model: {folder} is no model: {what}. Give the folder that save_model, training "
            "or transformers' save_pretrained wrote.",
            name="lm_no_config" if folder.exists() else "lm_no_folder",
            folder=folder,
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"load_model: {path} cannot be read: {error}.", name="lm_unread", path=path, why=error
        ) from None
    if not isinstance(settings, dict):
        raise InputError(
            f"load_model: {path} is no configuration: it must be a JSON object.",
            name="lm_config_lacks",
            path=path,
            what="a JSON object",
        )
    return settings


def _weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of the folder; only safetensors is read."""
    path = folder / WEIGHTS
    try:
        if path.exists():
            return dict(load_file(path))
        if (folder / INDEX).exists():
            parts = json.loads((folder / INDEX).read_text("utf-8"))["weight_map"]
            files = sorted({Path(name).name for name in parts.values()})
            return {n: t for file in files for n, t in load_file(folder / file).items()}
    except UNREAD as error:
        raise InputError(
            f"load_model: the weights in {folder} cannot be read: {error}.",
            name="lm_weights_unread",
            folder=folder,
            why=error,
        ) from None
    pickled = sorted(file.name for end in ("bin", "pt", "pth") for file in folder.glob(f"*.{end}"))
    if pickled:
        raise InputError(
            f"load_model: {folder} holds {pickled[0]}, a pickle, which can run code when it is "
            "read. Write it as safetensors with transformers: "
            "model.save_pretrained(folder).",
            name="model_pickled",
            path=folder,
            file=pickled[0],
        )
    raise InputError(f"load_model: {folder} has no {WEIGHTS}.", name="model_weights", path=folder)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _json(record: Mapping[str, Any]) -> bytes:
    return (json.dumps(record, indent=2) + "\n").encode()
