"""`atento explain`: a text, or arrays, to every step of attention."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atento.cli.output import say, written
from atento.views.words import mistake

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from atento.records import Explanation
    from atento.views.words import Words

__all__ = ["explain", "page_target"]

# a page is written unless something else was asked for: it is where every number can be seen
DEFAULT_PAGE = Path("attention.html")


def explain(
    text: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TEXT",
            help="What the model reads; several words are one text, - is standard input.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="PATH_OR_NAME",
            help="Who reads the text: a run, a model's folder, or a name on the Hugging Face hub. "
            "Default: the small model inside the package.",
        ),
    ] = None,
    query: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Queries: .npy, .csv or .json.")
    ] = None,
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="Keys.")] = None,
    value: Annotated[Path | None, typer.Option(metavar="FILE", help="Values.")] = None,
    causal: Annotated[bool, typer.Option("--causal", help="No query looks ahead.")] = False,
    align: Annotated[
        str | None,
        typer.Option(
            metavar="start|end",
            help="With --causal and unequal lengths: where the first (start) or the last (end) "
            "query and key stand side by side.",
        ),
    ] = None,
    scale: Annotated[
        float | None, typer.Option(metavar="NUMBER", help="Instead of 1/sqrt(features).")
    ] = None,
    names: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Query names, one a line.")
    ] = None,
    key_names: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The same for the keys.")
    ] = None,
    layer: Annotated[int | None, typer.Option(metavar="N", help="Which layer, from 0.")] = None,
    head: Annotated[
        int | None,
        typer.Option(metavar="N", help="Which head, from 0. Default: the most telling one."),
    ] = None,
    cut: Annotated[
        bool, typer.Option("--cut", help="Keep the beginning of a text that is too long.")
    ] = False,
    lang: Annotated[
        str | None, typer.Option(metavar="en|es", help="Default: from the locale.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where to write: .html, .json, or a figure: .svg, .png, .pdf. Default: "
            "attention.html, here.",
        ),
    ] = None,
    no_page: Annotated[bool, typer.Option("--no-page", help="Write no page.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and only that.")] = False,
) -> None:
    """Show every step of attention for a text, or for your own arrays.

    A text is read by the small model inside the package, or by --model. The steps go to the
    terminal and, with every number and its arithmetic, into a page that needs no network.

        atento explain "Your journey starts with one step"

        atento explain "Once upon a time" --model runs/mine

        atento explain --query q.npy --key k.npy --value v.npy --causal
    """
    from atento._errors import InputError
    from atento.views.words import choose_language, in_words_of, words

    word = words(choose_language(lang))
    target = page_target(out, word, no_page=no_page, as_json=as_json)
    try:
        explanation = _explanation(
            word,
            text=_joined(text, word),
            model=model,
            arrays={"query": query, "key": key, "value": value},
            causal=causal,
            align=align,
            scale=scale,
            names=names,
            key_names=key_names,
            options={"layer": layer, "head": head, "cut": cut},
        )
    except InputError as error:
        raise in_words_of(word, error) from None
    if target is not None:
        from atento.views import save

        save(explanation, target, lang=word.lang)
    if as_json:
        from atento.views.json_export import to_json

        say(to_json(explanation) + "\n")
    else:
        from rich.console import Console

        from atento.views.terminal import render_terminal

        console = Console(file=sys.stdout, markup=False, highlight=False, emoji=False)
        with console.capture() as rendered:
            render_terminal(explanation, lang=word.lang, console=console)
        say(rendered.get())
    if target is not None:
        note = written(target, word)
        if as_json:
            print(note, file=sys.stderr)
        else:
            say(f"\n{note}\n")


def page_target(out: Path | None, word: "Words", *, no_page: bool, as_json: bool) -> Path | None:
    """Where to write, checked before anything is computed; None for nowhere."""
    from atento.views.doors import FIGURES, check_figures
    from atento.views.write_file import check_writable, is_our_page

    if out is None:
        if no_page or as_json:
            return None
        if DEFAULT_PAGE.is_file() and not is_our_page(DEFAULT_PAGE):
            raise mistake(word, "not_ours", path=DEFAULT_PAGE)
        check_writable(DEFAULT_PAGE, word)
        return DEFAULT_PAGE
    if no_page:
        raise mistake(word, "out_and_no_page")
    if out.suffix.lower() not in (".html", ".json", *FIGURES):
        raise mistake(word, "out_ending", path=out)
    check_writable(out, word)
    if out.suffix.lower() in FIGURES:
        check_figures()
    return out


def _joined(text: list[str] | None, word: "Words") -> str | None:
    """The words of the command line as one text; - is what comes on standard input."""
    if not text:
        return None
    if text == ["-"]:
        try:
            joined = sys.stdin.buffer.read().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise mistake(word, "stdin", byte=error.start + 1) from None
    else:
        joined = " ".join(text)
        # Python hands over bytes that are not UTF-8 as lone surrogates
        if any("\udc80" <= character <= "\udcff" for character in joined):
            raise mistake(word, "argument")
    if not joined.strip():
        raise mistake(word, "empty_text")
    return joined


def _explanation(
    word: "Words",
    *,
    text: str | None,
    model: str | None,
    arrays: dict[str, Path | None],
    causal: bool,
    align: str | None,
    scale: float | None,
    names: Path | None,
    key_names: Path | None,
    options: dict[str, Any],
) -> "Explanation":
    missing = [f"--{name}" for name, path in arrays.items() if path is None]
    if text is None and len(missing) == 3:
        raise mistake(word, "nothing")
    if text is None and model is not None:
        raise mistake(word, "explain_model_arrays")
    if text is not None:
        given = arrays | {"causal": causal or None, "align": align, "scale": scale}
        given |= {"names": names, "key-names": key_names}
        extra = [f"--{name}" for name, one in given.items() if one is not None]
        if extra:
            raise mistake(word, "text_and_arrays", extra=", ".join(extra))
        if model is not None:
            return _by_model(model, text, **options)
        from atento.explanation import explain as explain_attention

        return explain_attention(text, **options)
    if missing:
        form = "one" if len(missing) == 1 else "many"
        raise mistake(word, f"arrays_missing.{form}", missing=word("and").join(missing))
    if options.pop("cut"):
        raise mistake(word, "cut_arrays")

    import numpy as np

    from atento.cli.read_arrays import read_array, read_names
    from atento.explanation import explain as explain_attention

    read = {name: read_array(path, word) for name, path in arrays.items() if path is not None}
    # numbers from .csv and .json are float64; beside a float32 .npy all become the finer
    dtype = np.result_type(*read.values())
    read = {name: array.astype(dtype, copy=False) for name, array in read.items()}
    return explain_attention(
        query=read["query"],
        key=read["key"],
        value=read["value"],
        mask=_mask(word, causal, align, read),
        scale=scale,
        names=None if names is None else read_names(names, word),
        key_names=None if key_names is None else read_names(key_names, word),
        **options,
    )


def _by_model(
    model: str, text: str, *, layer: int | None, head: int | None, cut: bool
) -> "Explanation":
    """With a model of transformers: every step of each of its layers."""
    from atento.cli.inspect_reading import trace_with_model
    from atento.explanation.explain import MOST_CELLS, explanation_of_layers

    traces, tokens = trace_with_model(model, text, cut=cut, most=MOST_CELLS)
    return explanation_of_layers(traces, tokens, layer=layer, head=head, model=model)


def _mask(word: "Words", causal: bool, align: str | None, read: "dict[str, NDArray[Any]]") -> Any:
    from atento.masks import Causal

    if align not in (None, "start", "end"):
        raise mistake(word, "align_value", came=repr(align))
    if not causal:
        if align is not None:
            raise mistake(word, "align_alone")
        return None
    if align is None and all(array.ndim >= 2 for array in read.values()):
        queries, keys = read["query"].shape[-2], read["key"].shape[-2]
        if queries != keys:
            raise mistake(word, "align_needed", queries=queries, keys=keys)
    return Causal(align=align)  # type: ignore[arg-type]
