"""`atento generate`: a model goes on with a text."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from atento.cli.output import say

__all__ = ["generate"]


def generate(
    model: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="A run, or a directory of GPT-2 or Llama.")
    ],
    prompt: Annotated[
        list[str], typer.Option(metavar="TEXT", help="What it goes on with; may be said again.")
    ],
    max_tokens: Annotated[int, typer.Option(metavar="N", help="Tokens at most.")] = 100,
    temperature: Annotated[
        float, typer.Option(metavar="T", help="Below 1: surer. 0: the likeliest each time.")
    ] = 0.8,
    top_k: Annotated[int, typer.Option(metavar="N", help="Among so many tokens; 0: all.")] = 0,
    top_p: Annotated[float, typer.Option(metavar="P", help="Among the likeliest, of P.")] = 1.0,
    min_p: Annotated[
        float, typer.Option(metavar="P", help="Among those at least P times the likeliest.")
    ] = 0.0,
    repetition_penalty: Annotated[
        float, typer.Option(metavar="X", help="Above 1: what is there already is less likely.")
    ] = 1.0,
    seed: Annotated[int | None, typer.Option(metavar="N", help="The same text again.")] = None,
    stop: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="It ends here; may be said again.")
    ] = None,
    stream: Annotated[
        bool | None, typer.Option("--stream/--no-stream", help="Word by word; on a terminal, yes.")
    ] = None,
    lang: Annotated[
        str | None, typer.Option(metavar="en|es", help="Default: from the locale.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and only that.")] = False,
) -> None:
    """Let a model of your own go on with a text.

    atento generate runs/mine --prompt "Hola" --max-tokens 100 --temperature 0.8
    """
    from atento._errors import AtentoError
    from atento._optional import require
    from atento.views.words import choose_language, in_words_of, words

    word = words(choose_language(lang))
    require("torch", "to generate")
    options: dict[str, Any] = {
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
        "seed": seed,
        "stop": stop or (),
    }
    try:
        _write(model, prompt, options, stream=stream, as_json=as_json)
    except AtentoError as error:
        raise in_words_of(word, error) from None


def _write(
    folder: Path,
    prompt: list[str],
    options: dict[str, Any],
    *,
    stream: bool | None,
    as_json: bool,
) -> None:
    """The texts, on standard output."""
    from atento.lm import generate as written_by
    from atento.lm import load_model

    loaded = load_model(folder)
    if as_json:
        texts = written_by(loaded, prompt, **options)
        made = [{"prompt": one, "text": text} for one, text in zip(prompt, texts, strict=True)]
        say(json.dumps(made) + "\n")
    elif len(prompt) == 1 and (sys.stdout.isatty() if stream is None else stream):
        pieces = written_by(loaded, prompt[0], stream=True, **options)
        say(_plain(prompt[0]))
        for piece in pieces:
            say(_plain(piece))
        say("\n")
    else:
        for one, text in zip(prompt, written_by(loaded, prompt, **options), strict=True):
            say(_plain(one + text) + "\n")


def _plain(text: str) -> str:
    """The text with line ends and tabs, and without what a terminal would obey."""
    from atento.views.terminal_text import visible

    return "".join(one if one in "\n\t" else visible(one) for one in text)
