"""train: a corpus in, a run out."""

from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from atento._errors import InputError
from atento._locking import writing
from atento.lm.checkpoints import save_model
from atento.lm.config import TransformerConfig
from atento.lm.generating.generate import END
from atento.lm.tokenizers import BPETokenizer, CharTokenizer, load_tokenizer
from atento.lm.training.checkpoint import write_checkpoint
from atento.lm.training.corpus import read_corpus
from atento.lm.training.loop import Loop
from atento.lm.training.optimizer import adamw
from atento.lm.training.run import CHECKPOINTS, NAME, TRAINING, VALIDATION, Run, open_run, start_run
from atento.lm.training.settings import TrainingSettings
from atento.lm.training.team import teamed
from atento.lm.training.token_file import write_tokens
from atento.lm.transformer import Transformer

__all__ = ["train"]

SHARE = 0.1
"""Of the corpus, its end, that is never trained on."""


def train(
    corpus: str | Path | Iterable[str] | None = None,
    *,
    out: str | Path,
    preset: str = "small",
    config: TransformerConfig | None = None,
    model: Transformer | None = None,
    tokenizer: Any = "char",
    vocabulary_size: int = 4096,
    resume: bool = False,
    device: str | torch.device = "cpu",
    progress: bool = True,
    **settings: Any,
) -> Run:
    """Train a language model on a text.

    Each step draws rows of the corpus at random, and lowers the mean of −log p(next token). The
    last tenth of the corpus is kept for validation. A run can be killed at any moment: resumed, it
    goes on from its last checkpoint, on a CPU bit for bit as if nothing had happened.

    Args:
        corpus: a text file, a folder of them, a .jsonl with "text" in each line, or texts.
        out: the folder of the run; see `Run`.
        preset: of `TransformerConfig.preset`.
        config: the shape itself, instead of a preset; its vocabulary_size is the tokenizer's.
        model: one to go on with, instead of a new one; its tokenizer is used.
        tokenizer: "char", the characters of the corpus; "bpe", byte pairs learnt from it; or one.
        vocabulary_size: of "bpe".
        resume: go on with the run in `out`; what else is given must be as it was.
        device: where it is computed.
        progress: show a bar (where there is a terminal) and samples.
        settings: the fields of `TrainingSettings`.

    Returns:
        the run.

    Raises:
        InputError: for a corpus that is empty, too short or not UTF-8; options that contradict each
            other or the run; a folder in which another training is at work.
        TrainingError: the loss is no number any more.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = train(["to be or not to be. " * 50], out=folder, preset="toy", steps=3)
    ...     run.ended, run.model().config.context
    ('steps', 25)
    """
    folder, place = Path(out), _device(device)
    with teamed(place) as team:
        if team.leads:
            _make(folder)
        team.wait()
        with writing(folder, 0) if team.leads else nullcontext():
            if resume:
                chosen = _as_begun(folder, settings)
            else:
                chosen = _settings(settings)
                if team.leads:
                    given = (corpus, preset, config, model, tokenizer, vocabulary_size)
                    _begin(folder, chosen, *given)
            team.wait()
            ended = Loop(folder, chosen, team, place, progress=progress).go()
    return Run(folder, ended)


def _begin(
    folder: Path,
    settings: TrainingSettings,
    corpus: Any,
    preset: str,
    config: TransformerConfig | None,
    model: Transformer | None,
    tokenizer: Any,
    vocabulary_size: int,
) -> None:
    """Write the corpus' ids, the model before its first step, and what the run was started with."""
    if (folder / NAME).exists():
        raise InputError(
            f"{folder} holds a run already: say resume=True to go on with it, or choose another "
            "folder."
        )
    if model is not None and config is not None:
        raise InputError("train: config= makes a new model; leave it out, or leave out model=.")
    texts = list(_texts(corpus))
    if model is not None and model.tokenizer is not None:
        tokenizer = model.tokenizer
    tokenizer = _tokenizer(tokenizer, texts, vocabulary_size)
    torch.manual_seed(settings.seed)
    if model is None:
        size = tokenizer.vocabulary_size
        shape = config or TransformerConfig.preset(preset, size)
        model = Transformer(shape if config is None else replace(shape, vocabulary_size=size))
    if model.config.vocabulary_size < tokenizer.vocabulary_size:
        raise InputError(
            f"train: the tokenizer has {tokenizer.vocabulary_size:,} tokens, and the model "
            f"{model.config.vocabulary_size:,}: they do not belong together."
        )
    model.tokenizer = tokenizer
    _write_ids(folder, texts, tokenizer, model.config.context)
    progress: dict[str, Any] = {"step": 0, "best": None, "worse": 0, "losses": []}
    write_checkpoint(folder / CHECKPOINTS, model, adamw(model, settings), progress, settings.keep)
    save_model(model, folder)
    start_run(folder, settings)  # last: what is there now is a run


def _write_ids(folder: Path, texts: list[str], tokenizer: Any, context: int) -> None:
    end = tokenizer.id_of(END) if hasattr(tokenizer, "id_of") else None
    ids: list[int] = []
    for text in texts:
        ids += tokenizer.encode(text)
        if end is not None:
            ids.append(end)
    held = int(len(ids) * SHARE)
    if held <= context:  # too little for one row: it would be a validation of nothing
        held = 0
    if len(ids) - held <= context:
        raise InputError(
            f"train: the corpus has {len(ids):,} tokens, and one row takes {context + 1:,} (the "
            "context and the token after it): give a longer text, or a config with a shorter "
            "context."
        )
    write_tokens(folder / TRAINING, ids[: len(ids) - held], tokenizer.vocabulary_size)
    write_tokens(folder / VALIDATION, ids[len(ids) - held :], tokenizer.vocabulary_size)


def _texts(corpus: Any) -> Iterable[str]:
    if corpus is None:
        raise InputError("train: corpus is missing: a text file, a folder, a .jsonl, or texts.")
    texts = read_corpus(corpus) if isinstance(corpus, str | Path) else corpus
    seen: set[str] = set()
    for text in texts:
        if not isinstance(text, str):
            raise InputError(f"train: a corpus is of texts; got {type(text).__name__}.")
        if len(seen) < 2:
            seen |= set(text[:1000]) if len(set(text[:1000])) > 1 else set(text)
        yield text
    if len(seen) < 2:
        what = f"the one character {seen.pop()!r} again and again" if seen else "nothing"
        raise InputError(f"train: the corpus holds {what}: there is nothing to learn.")


def _tokenizer(given: Any, texts: list[str], vocabulary_size: int) -> Any:
    if given == "char":
        return CharTokenizer.from_text("".join(texts))
    if given == "bpe":
        return BPETokenizer.train(texts, vocabulary_size)
    if isinstance(given, str | Path):
        return load_tokenizer(given)
    if not all(hasattr(given, name) for name in ("encode", "decode", "vocabulary_size", "save")):
        raise InputError(
            'train: tokenizer must be "char", "bpe", a tokenizer.json, or a tokenizer of '
            f"atento.lm; got {given!r}."
        )
    return given


def _settings(given: dict[str, Any]) -> TrainingSettings:
    fields = TrainingSettings.__dataclass_fields__
    unknown = [name for name in given if name not in fields]
    if unknown:
        raise InputError(
            f"train: there is no setting {', '.join(unknown)}; there are {', '.join(fields)}."
        )
    return TrainingSettings(**given)


def _as_begun(folder: Path, given: dict[str, Any]) -> TrainingSettings:
    """The settings of the run that is resumed; those that are given must be the same.

    Raises:
        InputError: naming the first that is another.
    """
    _settings(given)
    begun = open_run(folder)["settings"] | {}
    begun["betas"] = tuple(begun["betas"])
    for name, value in given.items():
        if begun[name] != value:
            raise InputError(
                f"train: the run in {folder} was started with {name} = {begun[name]!r}, and this "
                f"asks for {value!r}: leave it out, or start another run."
            )
    return TrainingSettings(**begun)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be made: {error.strerror}.") from None


def _device(given: str | torch.device) -> torch.device:
    try:
        return torch.zeros((), device=given).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        said = str(error).split("\n")[0]
        raise InputError(f"train: the device {str(given)!r} is not there: {said}.") from None
