"""What `atento inspect` reads: a text goes through a model, and its attention is recorded."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from atento.views.words import mistake

if TYPE_CHECKING:
    from atento.reading.recording import Recording
    from atento.records import Trace
    from atento.views.words import Words

__all__ = ["Done", "Wanted", "read_with_mini", "read_with_model", "trace_with_model"]

LEAN = ("entropy", "max", "distance", "first", "previous", "self", "duplicate", "induction")
"""The statistics that the table shows: all that is folded when no recording is kept."""


@dataclass(frozen=True)
class Wanted:
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
        """Their names; None: all that a recording has."""
        return None if self.keep else LEAN


@dataclass(frozen=True)
class Done:
    """A recording, and what it cost."""

    recording: "Recording"
    tokens: int
    total: int
    seconds: float
    memory: int | None
    chunks: int = 1
    interrupted: bool = False

    def cost(self, word: "Words") -> str:
        """Time and memory as one line; empty where the system does not tell them."""
        seconds = word.number(f"{self.seconds:.1f}")
        if self.memory is None:
            return ""
        memory = f"{self.memory / 2**20:.0f}"
        if self.chunks == 1:
            return word("inspect.cost", seconds=seconds, memory=memory)
        return word("inspect.cost.chunks", seconds=seconds, memory=memory, chunks=self.chunks)


def read_with_mini(content: str, wanted: Wanted) -> Done:
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
    return Done(recording, len(ids), len(ids), seconds, _peak_memory())


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


def read_with_model(
    name: str,
    content: str,
    wanted: Wanted,
    chunk: int | None,
    options: dict[str, Any],
    word: "Words",
) -> Done:
    """With a model of transformers: a decoder in chunks, with a bar on standard error."""
    from atento.lm.checkpoints.for_transformers import known_to_transformers
    from atento.reading.loading import load_model, quiet
    from atento.reading.running import read_tokens

    known_to_transformers()
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
                chunk=chunk,
                progress=progress,
            ),
        )
    reading.recording.name_tokens(loaded.tokenizer)
    seconds = time.perf_counter() - started
    return Done(
        reading.recording,
        reading.tokens,
        len(ids),
        seconds,
        _peak_memory(),
        reading.chunks,
        reading.interrupted,
    )


def trace_with_model(
    name: str, content: str, *, cut: bool, most: int
) -> tuple[list["Trace"], list[str]]:
    """Every step of every layer of a model of transformers, and what the tokens are called.

    Raises:
        InputError: for a text whose weights are more than ``most`` in all.
    """
    from atento._errors import InputError
    from atento.lm.checkpoints.for_transformers import known_to_transformers
    from atento.reading.loading import load_model, quiet
    from atento.reading.running import trace_tokens
    from atento.reading.token_names import TokenNames, as_ids

    known_to_transformers()
    loaded = load_model(name)
    ids = loaded.encode(content, cut=cut)
    config = loaded.model.config.get_text_config()
    heads = getattr(config, "num_attention_heads", 1) * getattr(config, "num_hidden_layers", 1)
    if isinstance(heads, int) and heads * len(ids) ** 2 > most:
        limit = int((most / heads) ** 0.5)
        raise InputError(
            f"every step of {heads} heads is kept: at most {limit} tokens. Got {len(ids)}.",
            name="explain_long",
            heads=heads,
            limit=limit,
            came=len(ids),
        )
    with quiet():
        traces = [made for _, made in trace_tokens(loaded.model, ids)]
    names = TokenNames([as_ids([ids])], tokenizer=loaded.tokenizer).texts()
    return traces, [str(name) for name in names]


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
