"""`atento train`: a language model out of a text."""

from pathlib import Path
from typing import Annotated, Any

import typer

from atento.cli.output import say

__all__ = ["train"]

INTERRUPTED = 130


def train(
    corpus: Annotated[
        Path | None,
        typer.Argument(
            metavar="CORPUS",
            help='A text file, a folder of them, or a .jsonl with "text" in each line.',
        ),
    ] = None,
    out: Annotated[
        str, typer.Option(metavar="FOLDER", help="Where the run is written; the model with it.")
    ] = "runs/mine",
    preset: Annotated[
        str, typer.Option(metavar="NAME", help="toy, small, gpt2, llama or induction.")
    ] = "small",
    tokenizer: Annotated[
        str, typer.Option(metavar="char|bpe|FILE", help="Characters, byte pairs, or a file.")
    ] = "char",
    vocabulary: Annotated[int, typer.Option(metavar="N", help="Tokens of bpe.")] = 4096,
    context: Annotated[int | None, typer.Option(metavar="N", help="Tokens of a row.")] = None,
    steps: Annotated[int | None, typer.Option(metavar="N", help="Updates; 2000.")] = None,
    batch: Annotated[int | None, typer.Option(metavar="N", help="Rows of an update; 12.")] = None,
    accumulate: Annotated[
        int | None, typer.Option(metavar="N", help="Parts in which a batch is computed.")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(metavar="RATE", help="The highest; 0.001.")
    ] = None,
    evaluate_every: Annotated[
        int | None, typer.Option(metavar="N", help="Steps between two checkpoints; 250.")
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(metavar="N", help="End after so many validations without a better one."),
    ] = None,
    keep: Annotated[int | None, typer.Option(metavar="N", help="Checkpoints that stay; 2.")] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Of everything drawn; 0.")] = None,
    device: Annotated[str, typer.Option(metavar="NAME", help="cpu, cuda, mps, ...")] = "cpu",
    shard: Annotated[
        bool, typer.Option("--shard", help="A part of the model in each of torchrun's processes.")
    ] = False,
    precision: Annotated[
        str | None,
        typer.Option(metavar="auto|float32|bfloat16", help="Of products; auto: the faster."),
    ] = None,
    compiled: Annotated[
        bool | None,
        typer.Option("--compile/--no-compile", help="Use torch.compile. Default: where it pays."),
    ] = None,
    watch: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Prompts, one a line, on which heads are watched."),
    ] = None,
    watch_every: Annotated[
        int | None, typer.Option(metavar="N", help="Steps between two looks; some 45 looks.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in FOLDER.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
    lang: Annotated[
        str | None, typer.Option(metavar="en|es", help="Default: from the locale.")
    ] = None,
) -> None:
    """Train a language model on a text. Ctrl-C saves it; --resume goes on as if nothing had been.

    atento train corpus.txt --out runs/mine --steps 2000

    atento train --preset induction --out runs/induction

    torchrun --nproc-per-node 2 -m atento train corpus.txt --out runs/mine
    """
    from atento._errors import AtentoError
    from atento._optional import require
    from atento.views.words import choose_language, in_words_of, mistake, words

    word = words(choose_language(lang))
    if resume and corpus is not None:
        raise mistake(word, "train_resume")
    if resume and context is not None:
        raise mistake(word, "lm_resume", given="context")
    if corpus is None and not resume and preset != "induction":
        raise mistake(word, "train_nothing")
    require("torch", "to train")
    from atento.lm import TransformerConfig
    from atento.lm import train as run_training

    asked: dict[str, Any] = {
        "steps": steps,
        "batch": batch,
        "accumulate": accumulate,
        "learning_rate": learning_rate,
        "evaluate_every": evaluate_every,
        "patience": patience,
        "keep": keep,
        "seed": seed,
        "precision": precision,
        "compile": compiled,
    }
    config = None
    try:
        if context is not None and not resume:
            config = TransformerConfig.preset(preset, 1, context=context)
        run = run_training(
            corpus,
            out=out,
            preset=preset,
            config=config,
            tokenizer=tokenizer,
            vocabulary_size=vocabulary,
            resume=resume,
            device=device,
            shard=shard,
            progress=not quiet,
            watch=watch,
            watch_every=watch_every,
            **{name: value for name, value in asked.items() if value is not None},
        )
    except AtentoError as error:
        raise in_words_of(word, error) from None
    if run.ended == "interrupted":
        say(word("train.stopped", out=out) + "\n")
        raise typer.Exit(INTERRUPTED)
    say(word("train.done", out=out) + "\n")
    if (run.folder / "watch").is_dir():
        say(word("train.watched", out=out) + "\n")
