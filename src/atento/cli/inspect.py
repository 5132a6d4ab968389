"""`atento inspect`: a text through a model, and what each of its attention heads does."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atento.cli.heads import TOP, check_table, print_table, to_json
from atento.cli.inspect_reading import Done, Wanted, read_with_mini, read_with_model
from atento.cli.output import say, written
from atento.cli.read_numbers import heads_of, layers_of
from atento.views.words import mistake

if TYPE_CHECKING:
    from atento.reading.recording import Recording
    from atento.views.words import Words

__all__ = ["inspect"]

MINI = "atento-mini"


def inspect(
    standard_input: Annotated[
        str | None, typer.Argument(metavar="[-]", help="- reads the text from standard input.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="PATH_OR_NAME",
            help="A model's folder, or its name on the Hugging Face hub. Default: the small model "
            "inside the package.",
        ),
    ] = None,
    text: Annotated[str | None, typer.Option(metavar="TEXT", help="What the model reads.")] = None,
    file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The same, from a UTF-8 file.")
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(
            metavar="0,3-5,NAME", help="Which layers: numbers, ranges, names with *. Default: all."
        ),
    ] = None,
    heads: Annotated[
        str | None,
        typer.Option(metavar="0-3,7", help="Which heads of each layer. Default: all."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A page (.html), a figure (.svg, .png, .pdf) or JSON."),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Keep the whole recording: .safetensors, for atento heads."
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(metavar="cpu|cuda|…", help="Where the model runs. Default: cpu.")
    ] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Allow code that comes with the model.")
    ] = False,
    chunk: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Tokens that a decoder reads at a time. Default: 1024; fewer of a long text.",
        ),
    ] = None,
    sort: Annotated[
        str, typer.Option(metavar="layer|role|NUMBER", help="The order of the heads.")
    ] = "layer",
    top: Annotated[
        int, typer.Option(metavar="N", help="At most so many heads in the table; 0: all.")
    ] = TOP,
    lang: Annotated[
        str | None, typer.Option(metavar="en|es", help="Default: from the locale.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON (all heads, as they ran), and only that.")
    ] = False,
    cut: Annotated[
        bool, typer.Option("--cut", help="Keep the beginning of a text that is too long.")
    ] = False,
) -> None:
    """Read a text with a model, and show what each attention head does.

    Any model of transformers is read while it runs, at any length that it allows: long texts go
    through a decoder in chunks. Weights are opened from safetensors alone.

        atento inspect --text "Your journey starts with one step"

        atento inspect --model ./my-llama --file book.txt --save book.safetensors
    """
    from atento._errors import InputError
    from atento.views.words import choose_language, in_words_of, words

    word = words(choose_language(lang))
    check_table(sort, top, word)
    _check_outputs(out, save, word)
    given = {"--device": device, "--trust-remote-code": trust_remote_code, "--chunk": chunk}
    _check_model_options(model, chunk, given, word)
    wanted = Wanted(
        layers=None if layers is None else layers_of(layers, word),
        heads=None if heads is None else heads_of(heads, word),
        keep=save is not None or (out is not None and out.suffix.lower() != ".json"),
        cut=cut,
    )
    content = _content(standard_input, text, file, word)
    try:
        if model is None:
            done = read_with_mini(content, wanted)
        else:
            options = {"device": device or "cpu", "trust_remote_code": trust_remote_code}
            done = read_with_model(model, content, wanted, chunk, options, word)
    except InputError as error:
        raise in_words_of(word, error) from None
    except KeyboardInterrupt:
        if save is not None:
            print(word("inspect.interrupted.none"), file=sys.stderr)
        raise
    if done.interrupted:
        _keep_what_there_is(done, save, word)
        raise KeyboardInterrupt
    _write(done.recording, out, save, word)
    if as_json:
        say(to_json(done.recording) + "\n")
    else:
        print_table(
            done.recording,
            word,
            sort=sort,
            top=top,
            title=_title(model or MINI, done, word),
            under=(done.cost(word), _next(save, word)),
        )
    for path in (out, save):
        if path is not None:
            print(written(path, word), file=sys.stderr)


# What was asked for, checked before any work.


def _check_outputs(out: Path | None, save: Path | None, word: "Words") -> None:
    from atento.views.doors import FIGURES, check_figures
    from atento.views.write_file import check_writable

    if out is not None:
        if out.suffix.lower() not in (".json", ".html", *FIGURES):
            raise mistake(word, "inspect_out", path=out)
        check_writable(out, word)
        if out.suffix.lower() in FIGURES:
            check_figures()
    if save is not None:
        if save.suffix.lower() != ".safetensors":
            raise mistake(word, "inspect_save", path=save)
        check_writable(save, word)


def _check_model_options(
    model: str | None, chunk: int | None, given: dict[str, Any], word: "Words"
) -> None:
    alone = [name for name, value in given.items() if value not in (None, False)]
    if model is None and alone:
        raise mistake(word, "inspect_with_model", given=", ".join(alone))
    if chunk is not None and chunk < 1:
        raise mistake(word, "chunk", came=chunk)


def _content(standard_input: str | None, text: str | None, file: Path | None, word: "Words") -> str:
    if standard_input not in (None, "-"):
        raise mistake(word, "inspect_argument", came=repr(standard_input))
    given = {"-": standard_input, "--text": text, "--file": file}
    named = [name for name, value in given.items() if value is not None]
    if not named:
        raise mistake(word, "inspect_nothing")
    if len(named) > 1:
        raise mistake(word, "inspect_both", given=word("and").join(named))
    if text is not None:
        # Python hands over bytes that are not UTF-8 as lone surrogates
        if any("\udc80" <= character <= "\udcff" for character in text):
            raise mistake(word, "text_argument")
        content = text
    elif file is not None:
        from atento.cli.read_text import check_file

        check_file(file, word)
        content = _decoded(file.read_bytes(), word, "not_utf8_line", path=file)
    else:
        content = _decoded(sys.stdin.buffer.read(), word, "stdin_line")
    if not content.strip():
        raise mistake(word, "inspect_empty")
    return content


def _decoded(content: bytes, word: "Words", name: str, **place: object) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # a byte order mark is not counted by the decoder
        at = error.start + 3 * content.startswith(b"\xef\xbb\xbf")
        line = content.count(b"\n", 0, at) + 1
        raise mistake(word, name, **place, line=line, byte=at + 1) from None


# Telling.


def _title(model: str, done: Done, word: "Words") -> str:
    from atento.views.terminal_text import visible

    layers = list(done.recording)
    heads = sum(layer.heads for one in done.recording.passes for layer in one)
    return word(
        "inspect.title",
        model=visible(model),
        tokens=word.count("tokens", done.tokens),
        layers=word.count("layers", len(layers)),
        heads=word.count("heads", heads),
    )


def _next(save: Path | None, word: "Words") -> str:
    from atento.views.terminal_text import visible

    if save is None:
        return word("inspect.next")
    return word("inspect.next.saved", path=visible(str(save)))


def _write(recording: "Recording", out: Path | None, save: Path | None, word: "Words") -> None:
    if save is not None:
        recording.save(save)
    if out is None:
        return
    if out.suffix.lower() == ".json":
        from atento.views.write_file import write_file

        write_file(out, to_json(recording) + "\n", word)
    else:
        from atento.views import save as draw

        draw(recording, out, lang=word.lang)


def _keep_what_there_is(done: Done, save: Path | None, word: "Words") -> None:
    if save is None:
        return
    done.recording.save(save)
    from atento.views.terminal_text import visible

    kept = {"tokens": done.tokens, "total": done.total}
    print(word("inspect.interrupted", path=visible(str(save)), **kept), file=sys.stderr)
