"""train: a corpus in, a run out."""

import os
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from atento._errors import InputError
from atento.lm.checkpoints import save_model
from atento.lm.config import TransformerConfig
from atento.lm.generating.generate import END
from atento.lm.tokenizers import BPETokenizer, CharTokenizer, load_tokenizer
from atento.lm.training.checkpoint import write_checkpoint
from atento.lm.training.corpus import read_corpus
from atento.lm.training.folder import made, only_training, written
from atento.lm.training.loop import Loop
from atento.lm.training.run import (
    CHECKPOINTS,
    NAME,
    TRAINING,
    VALIDATION,
    Run,
    begun_with,
    start_run,
)
from atento.lm.training.settings import TrainingSettings
from atento.lm.training.speed import is_worth_compiling, precision_for
from atento.lm.training.team import teamed
from atento.lm.training.token_file import write_tokens
from atento.lm.transformer import Transformer
from atento.lm.watching.plan import check_as_planned, check_every, plan_of, write_plan
from atento.lm.watching.repeats import RECIPE, repeated_corpus, repeated_prompts

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
    shard: bool = False,
    progress: bool = True,
    watch: str | Path | Iterable[str] | None = None,
    watch_every: int | None = None,
    **settings: Any,
) -> Run:
    """Train a language model on a text.

    Each step draws rows of the corpus at random, and lowers the mean of −log p(next token). The
    last tenth of the corpus is kept for validation. A run can be killed at any moment: resumed, it
    goes on from its last checkpoint, on a CPU bit for bit as if nothing had happened.

    Args:
        corpus: a text file, a folder of them, a .jsonl with "text" in each line, or texts. The
            preset "induction" needs none: it makes random runs of characters, each written four
            times, from the seed, watches two such prompts, and has settings of its own (`RECIPE` of
            `atento.lm.watching.repeats`).
        out: the folder of the run; see `Run`.
        preset: of `TransformerConfig.preset`.
        config: the shape itself, instead of a preset; its vocabulary_size is the tokenizer's.
        model: one to go on with, instead of a new one; its tokenizer is used.
        tokenizer: "char", the characters of the corpus; "bpe", byte pairs learnt from it; or one.
        vocabulary_size: of "bpe".
        resume: go on with the run in `out`; what else is given must be as it was.
        device: where it is computed; "cuda" is the process' own GPU where torchrun starts several.
        shard: keep a part of the weights in each of torchrun's processes (`fully_shard`), for a
            model beyond one device. Checkpoints are whole: a run goes on with or without it.
        progress: show a bar (where there is a terminal) and samples.
        watch: prompts on which all heads are looked at while the model learns: a text, several, or
            the `pathlib.Path` of a file with one in each line; `load_watch` reads what was seen.
            Not a bit of the training changes by it.
        watch_every: steps between two looks; None: some 45 looks, the more the earlier.
        settings: the fields of `TrainingSettings`.

    Returns:
        the run.

    Raises:
        InputError: for a corpus that is empty, too short or not UTF-8; options that contradict each
            other or the run; a folder in which another training is at work, or that cannot be
            written (its checkpoints stay).
        TrainingError: the loss is no number any more.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = train(["to be or not to be. " * 50], out=folder, preset="toy", steps=3)
    ...     run.ended, run.model().config.context
    ('steps', 25)
    """
    folder, place = Path(out), _device(device)
    check_every(watch_every)
    shape = {"preset": preset, "tokenizer": tokenizer, "vocabulary_size": vocabulary_size}
    usual = train.__kwdefaults__ or {}
    shape = {name: None if value == usual[name] else value for name, value in shape.items()}
    _check_resumed(resume, corpus=corpus, config=config, model=model, **shape)
    alone = corpus is None and preset == "induction" and model is None
    if alone and not resume:
        settings = RECIPE | settings
    with teamed(place, shard=shard) as team:
        new = False
        if team.leads:
            folder, new = made(out)
        team.wait()
        with only_training(folder, new) if team.leads else nullcontext():
            if resume:
                chosen = _as_begun(folder, settings)
                check_as_planned(folder, watch, watch_every)
            else:
                chosen = _settings(settings)
                if alone:
                    corpus = [repeated_corpus(chosen.seed)]
                    watch = repeated_prompts(chosen.seed) if watch is None else watch
                if team.leads:
                    given = (corpus, preset, config, model, tokenizer, vocabulary_size)
                    _begin(folder, chosen, place, watch, watch_every, *given)
            team.wait()
            if not resume:
                chosen = _as_begun(folder, {})  # what "auto" has become
            with written(folder):
                ended = Loop(folder, chosen, team, place, progress=progress).go()
    return Run(folder, ended)


def _begin(
    folder: Path,
    settings: TrainingSettings,
    device: torch.device,
    watch: Any,
    watch_every: int | None,
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
            "folder.",
            name="lm_run_there",
            folder=folder,
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
            f"{model.config.vocabulary_size:,}: they do not belong together.",
            name="lm_too_many_tokens",
            tokens=tokenizer.vocabulary_size,
            vectors=model.config.vocabulary_size,
        )
    model.tokenizer = tokenizer
    plan = plan_of(watch, watch_every, settings.steps, tokenizer, model.config.context)
    decided = _decided(settings, model, device)
    progress: dict[str, Any] = {"step": 0, "best": None, "worse": 0, "losses": []}
    with written(folder):
        _write_ids(folder, texts, tokenizer, model.config.context)
        write_checkpoint(folder / CHECKPOINTS, model, {}, progress, settings.keep)
        save_model(model, folder)
        write_plan(folder, plan)
        start_run(folder, decided)  # last: what is there now is a run


def _decided(
    settings: TrainingSettings, model: Transformer, device: torch.device
) -> TrainingSettings:
    """The settings with what "auto" stands for on this machine: a run keeps to it."""
    tokens = settings.steps * settings.batch * model.config.context
    worth = is_worth_compiling(settings.compile, device, model.num_parameters, tokens)
    precision = precision_for(settings.precision, device, model.config.d_model)
    return replace(settings, precision=precision, compile=worth)


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
            "context.",
            name="lm_corpus_short",
            came=len(ids),
            needed=context + 1,
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
        only = seen.pop() if seen else ""
        what = f"the one character {only!r} again and again" if only else "nothing"
        raise InputError(
            f"train: the corpus holds {what}: there is nothing to learn.",
            name="lm_corpus_one" if only else "lm_corpus_empty",
            character=repr(only),
        )


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


def _check_resumed(resume: bool, **begun: Any) -> None:
    """A run goes on with what it was started with.

    Raises:
        InputError: naming what was given beside resume.
    """
    given = [name for name, value in begun.items() if value is not None]
    if resume and given:
        raise InputError(
            f"train: resume=True goes on with the {given[0]} that the run was started with: leave "
            f"{given[0]}= out.",
            name="lm_resume",
            given=given[0],
        )


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
    begun = begun_with(folder)
    for name, value in given.items():
        was = getattr(begun, name)
        if value != "auto" and was != value:
            raise InputError(
                f"train: the run in {folder} was started with {name} = {was!r}, and this "
                f"asks for {value!r}: leave it out, or start another run.",
                name="lm_run_other",
                folder=folder,
                setting=name,
                was=repr(was),
                came=repr(value),
            )
    return begun


def _device(given: str | torch.device) -> torch.device:
    """Where this process computes.

    Raises:
        InputError: it is not there.
    """
    own = os.environ.get("LOCAL_RANK")
    if str(given) == "cuda" and own is not None:  # torchrun's processes have a GPU each
        given = f"cuda:{own}"
    try:
        found = torch.zeros((), device=given)
        found.item()  # a device without numbers is none to train on
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        said = str(error).split("\n")[0].split(". ")[0].rstrip(".")
        raise InputError(
            f"train: the device {str(given)!r} is not there: {said}.",
            name="device",
            device=repr(str(given)),
            why=said,
        ) from None
    return found.device
