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
        Path, typer.Option(metavar="FOLDER", help="Where the run is written; the model with it.")
    ] = Path("runs/mine"),
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
    autocast: Annotated[bool, typer.Option("--autocast", help="Compute in bfloat16.")] = False,
    compiled: Annotated[bool, typer.Option("--compile", help="Use torch.compile.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in FOLDER.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Train a language model on a text. Ctrl-C saves it; --resume goes on as if nothing had been.

    atento train corpus.txt --out runs/mine --steps 2000

    torchrun --nproc-per-node 2 -m atento train corpus.txt --out runs/mine
    """
    from atento._errors import InputError
    from atento._optional import require

    if resume and corpus is not None:
        raise InputError(
            "--resume goes on with the corpus that the run was started with: leave CORPUS out."
        )
    if corpus is None and not resume:
        raise InputError(
            "name a corpus: a text file, a folder or a .jsonl; or --resume, with --out."
        )
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
        "autocast": autocast or None,
        "compile": compiled or None,
    }
    config = None
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
        progress=not quiet,
        **{name: value for name, value in asked.items() if value is not None},
    )
    if run.ended == "interrupted":
        say(f"stopped; to go on: atento train --resume --out {out}\n")
        raise typer.Exit(INTERRUPTED)
    say(f"{out} holds the model: atento generate {out} --prompt ...\n")
