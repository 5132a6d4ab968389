"""`atento inspect`: a text through a model, and what each of its attention heads does."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atento.cli.heads import TOP, check_table, print_table, to_json
from atento.cli.output import say, written
from atento.cli.read_numbers import heads_of, layers_of
from atento.views.words import mistake

if TYPE_CHECKING:
    from atento.reading.recording import Recording
    from atento.views.words import Words

__all__ = ["inspect"]

MINI = "atento-mini"

LEAN = ("entropy", "max", "distance", "first", "previous", "self", "duplicate", "induction")
"""The statistics that the table shows: all that is folded when no recording is kept."""


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
        typer.Option(metavar="N", help="Tokens that a decoder reads at a time. Default: 1024."),
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
    wanted = _Wanted(
        layers=None if layers is None else layers_of(layers, word),
        heads=None if heads is None else heads_of(heads, word),
        keep=save is not None or (out is not None and out.suffix.lower() != ".json"),
        cut=cut,
    )
    content = _content(standard_input, text, file, word)
    try:
        if model is None:
            done = _read_with_mini(content, wanted)
        else:
            options = {"device": device or "cpu", "trust_remote_code": trust_remote_code}
            done = _read_with_model(model, content, wanted, chunk, options, word)
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


@dataclass(frozen=True)
class _Wanted:
    """What is to be read, of which text.

    Attributes:
        layers: numbers and names; None: all.
        heads: numbers; None: all.
        keep: whether queries, keys and all statistics are kept, not the table's numbers alone.
        cut: keep the beginning of a text that is too long.
    """

    layers: list[int | str] | None
    heads: list[int] | None
    keep: bool
    cut: bool

    @property
    def statistics(self) -> Sequence[str] | None:
        return None if self.keep else LEAN


@dataclass(frozen=True)
class _Done:
    """A recording, and what it cost."""

    recording: "Recording"
    tokens: int
    total: int
    seconds: float
    memory: int | None
    chunks: int = 1
    interrupted: bool = False

    def cost(self, word: "Words") -> str:
        seconds = word.number(f"{self.seconds:.1f}")
        if self.memory is None:
            return ""
        memory = f"{self.memory / 2**20:.0f}"
        if self.chunks == 1:
            return word("inspect.cost", seconds=seconds, memory=memory)
        return word("inspect.cost.chunks", seconds=seconds, memory=memory, chunks=self.chunks)


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


# Reading.


def _read_with_mini(content: str, wanted: _Wanted) -> _Done:
    """With the embedded model: NumPy alone."""
    from atento._errors import InputError
    from atento.embedded import load_mini
    from atento.embedded.recording import layer_names, record_mini

    mini = load_mini()
    # not mini.encode, which refuses a text that is too long before it could be cut
    encoding = mini.tokenizer.encode(content)
    ids, tokens = encoding.ids, encoding.tokens
    if not ids:
        raise InputError("the text has no visible character.", name="model_no_tokens")
    if len(ids) > mini.context:
        if not wanted.cut:
            raise InputError(
                f"the model reads at most {mini.context} tokens.",
                name="too_long",
                limit=mini.context,
                came=len(ids),
            )
        ids, tokens = ids[: mini.context], tokens[: mini.context]
    started = time.perf_counter()
    recording = record_mini(
        mini,
        ids,
        layers=_names_of(wanted.layers, layer_names(mini)),
        heads=_within(wanted.heads, mini.num_heads, layer_names(mini)[0]),
        statistics=wanted.statistics,
    )
    recording.name_tokens(tokens)
    seconds = time.perf_counter() - started
    return _Done(recording, len(ids), len(ids), seconds, _peak_memory())


def _names_of(layers: list[int | str] | None, names: list[str]) -> list[str] | None:
    from fnmatch import fnmatchcase

    from atento._errors import InputError

    if layers is None:
        return None
    chosen = []
    for wish in layers:
        if isinstance(wish, int):
            found = names[wish : wish + 1]
        else:
            found = [name for name in names if fnmatchcase(name, wish)]
        if not found:
            raise InputError(
                f"there is no layer {wish}.",
                name="layer_unknown",
                came=wish,
                count=len(names),
                layers=", ".join(f"{number}: {name}" for number, name in enumerate(names)),
            )
        chosen.extend(found)
    return chosen


def _within(heads: list[int] | None, count: int, layer: str) -> list[int] | None:
    from atento._errors import InputError

    if heads and heads[-1] >= count:
        raise InputError(
            f"there is no head {heads[-1]}.",
            name="head_unknown",
            came=heads[-1],
            layer=layer,
            last=count - 1,
        )
    return heads


def _read_with_model(
    name: str,
    content: str,
    wanted: _Wanted,
    chunk: int | None,
    options: dict[str, Any],
    word: "Words",
) -> _Done:
    from atento.reading.loading import load_model, quiet
    from atento.reading.running import CHUNK, read_tokens

    loaded = load_model(name, **options)
    ids = loaded.encode(content, cut=wanted.cut)
    started = time.perf_counter()
    with quiet(), _progress(word) as progress:
        reading = _enough_memory(
            word,
            lambda: read_tokens(
                loaded.model,
                ids,
                layers=wanted.layers,
                heads=wanted.heads,
                keep="qk" if wanted.keep else "statistics",
                statistics=wanted.statistics,
                chunk=chunk or CHUNK,
                progress=progress,
            ),
        )
    reading.recording.name_tokens(loaded.tokenizer)
    seconds = time.perf_counter() - started
    return _Done(
        reading.recording,
        reading.tokens,
        len(ids),
        seconds,
        _peak_memory(),
        reading.chunks,
        reading.interrupted,
    )


def _enough_memory(word: "Words", work: Callable[[], Any]) -> Any:
    """The work; where memory ran out, one sentence."""
    try:
        return work()
    except MemoryError as error:
        why = str(error) or "MemoryError"
    except RuntimeError as error:  # torch's own kinds, on the CPU and elsewhere
        why = str(error).strip().partition("\n")[0]
        if "memory" not in why.lower():
            raise
    raise mistake(word, "inspect_memory", why=why.rstrip("."))


@contextmanager
def _progress(word: "Words") -> Iterator[Callable[[float], None] | None]:
    """A bar with the time left, on standard error; nothing where that is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
    from rich.progress import TimeRemainingColumn as Left

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), Left())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(word("inspect.reading"), total=1.0)
        yield lambda share: bar.update(task, completed=share)


def _peak_memory() -> int | None:
    """The most memory that this process has held, in bytes; None where it is not told."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


# Telling.


def _title(model: str, done: _Done, word: "Words") -> str:
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


def _keep_what_there_is(done: _Done, save: Path | None, word: "Words") -> None:
    if save is None:
        return
    done.recording.save(save)
    from atento.views.terminal_text import visible

    kept = {"tokens": done.tokens, "total": done.total}
    print(word("inspect.interrupted", path=visible(str(save)), **kept), file=sys.stderr)
