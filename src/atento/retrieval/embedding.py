"""What all embedders share: texts checked, read in batches of like length, rows of length 1."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from atento._errors import InputError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["Embedder", "TextReader", "as_rows", "check_texts", "in_batches", "unit_rows"]

Vectors = NDArray[np.float32]
Cut = NDArray[np.bool_]


@runtime_checkable
class Embedder(Protocol):
    """Texts in, one vector per text out: rows of length 1 whose products are cosines.

    Attributes:
        name: what it is called; enough to find it again, where that is possible.
        version: what changes when its vectors change: of ours, a hash of everything it reads.
        dim: how many numbers a vector has.
    """

    name: str
    version: str

    @property
    def dim(self) -> int:
        """How many numbers a vector has."""
        ...

    def __call__(self, texts: Sequence[str], /) -> Vectors:
        """One row per text, (text, dim), float32."""
        ...


class TextReader:
    """The base of our embedders: says how a batch is read, and the rest follows.

    Attributes:
        truncated: how many texts so far were longer than it reads; the rest of each was left out.
    """

    name: str
    version: str
    dim: int
    batch = 64
    truncated = 0

    def __call__(self, texts: Sequence[str], /) -> Vectors:
        """One row of length 1 per text, (text, dim), float32.

        Raises:
            InputError: something is no text, or has nothing in it.
        """
        vectors, cut = self.read(texts)
        self.truncated += int(cut.sum())
        return vectors

    def read(self, texts: Sequence[str]) -> tuple[Vectors, Cut]:
        """The rows, and which of the texts were longer than is read."""
        checked = check_texts(texts)
        once = list(dict.fromkeys(checked))
        vectors, cut = in_batches(once, self.unit_batch, self.dim, self.batch)
        if len(once) == len(checked):
            return vectors, cut
        place = {text: row for row, text in enumerate(once)}
        rows = [place[text] for text in checked]
        return vectors[rows], cut[rows]

    def unit_batch(self, texts: list[str]) -> tuple[Vectors, Cut]:
        """The same for a few texts of like length."""
        rows, cut = self.read_batch(texts)
        return unit_rows(rows), cut

    def read_batch(self, texts: list[str]) -> tuple[Vectors, Cut]:
        """The same, rows of any length."""
        raise NotImplementedError


def check_texts(texts: Sequence[str]) -> list[str]:
    """The texts as a list.

    Raises:
        InputError: one text instead of several, no text, or nothing in it; says which.

    >>> check_texts(["país", "perro"])
    ['país', 'perro']
    """
    if isinstance(texts, str | bytes):
        raise InputError(
            f"texts must be a sequence of strings; got one {type(texts).__name__}. Write [text]."
        )
    checked = list(texts)
    for number, text in enumerate(checked, start=1):
        if not isinstance(text, str):
            raise InputError(
                f"text {number} of {len(checked)} must be a string; got {type(text).__name__}. "
                "Convert it with str()."
            )
        if not text.strip():
            raise InputError(
                f"text {number} of {len(checked)} is empty: there is nothing to compare. Give at "
                "least one word, or leave it out."
            )
    return checked


def in_batches(
    texts: list[str],
    read: Callable[[list[str]], tuple[Vectors, Cut]],
    dim: int,
    size: int,
) -> tuple[Vectors, Cut]:
    """Read texts a batch at a time, like lengths together, so that little of a batch is padding."""
    vectors = np.empty((len(texts), dim), np.float32)
    cut = np.zeros(len(texts), bool)
    order = sorted(range(len(texts)), key=lambda at: len(texts[at]))
    with progress(len(texts), size) as advance:
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            vectors[rows], cut[rows] = read([texts[row] for row in rows])
            advance(len(rows))
    return vectors, cut


def unit_rows(rows: NDArray[Any]) -> Vectors:
    """The rows scaled to length 1, float32; a row of zeros stays as it is.

    >>> unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]]))
    array([[0.6, 0.8],
           [0. , 0. ]], dtype=float32)
    """
    rows = np.asarray(rows, np.float64 if rows.dtype == np.float64 else np.float32)
    largest = np.abs(rows).max(axis=-1, keepdims=True, initial=0)
    largest[largest == 0] = 1
    rows = rows / largest  # so that no square overflows or vanishes
    lengths = np.sqrt((rows * rows).sum(axis=-1, keepdims=True))
    lengths[lengths == 0] = 1
    units: Vectors = (rows / lengths).astype(np.float32)
    return units


def as_rows(came: Any, texts: int, name: str, dim: int | None = None) -> NDArray[Any]:
    """What a function of the user returned, as finite rows, one per text.

    Raises:
        ShapeError: not one row of numbers per text, or not as wide as before.
        InputError: a number that is not finite; says for which text.
    """
    try:
        rows = np.asarray(came.detach().cpu() if hasattr(came, "detach") else came)
    except ValueError:  # lists of different lengths
        rows = np.empty(0)
    if rows.dtype.kind not in "fiu" or rows.ndim != 2 or len(rows) != texts or not rows.shape[1]:
        raise ShapeError(
            f"{name} must return one row of numbers per text, shape ({texts}, dim), all of the "
            f"same length; got {type(came).__name__} of shape {rows.shape} and {rows.dtype}."
        )
    if dim is not None and rows.shape[1] != dim:
        raise ShapeError(
            f"{name} returned rows of {rows.shape[1]} numbers and before of {dim}: all vectors "
            "must have the same length. Does it depend on the batch?"
        )
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        raise InputError(
            f"{name} returned NaN or infinity for text {int(finite.argmin()) + 1} of {texts}. "
            "Give vectors of finite numbers."
        )
    return rows


@contextmanager
def progress(total: int, size: int) -> Iterator[Callable[[int], None]]:
    """A bar on standard error for work of several batches; nothing where that is no terminal."""
    if total <= 2 * size or not sys.stderr.isatty():
        yield lambda _more: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda more: bar.advance(task, more)
