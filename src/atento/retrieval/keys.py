"""Keys: vectors in rows that are read block by block, wherever they lie."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from atento._arrays import as_float_array, to_numpy
from atento._errors import InputError, ShapeError
from atento.retrieval.widening import widened

__all__ = ["HeldKeys", "JoinedKeys", "Keys", "as_vectors", "quantized"]

Array = npt.NDArray[Any]

DTYPES = ("float32", "float64", "float16")
"""What keys in memory may be held in."""

FEWEST = 64
"""Rows that memory is taken for at first."""

PIECE = 8192
"""Rows that are quantized at a time."""


class Keys(Protocol):
    """Vectors in rows.

    Attributes:
        size: how many rows.
        dim: numbers in a row.
    """

    @property
    def size(self) -> int:
        """How many rows."""
        ...

    @property
    def dim(self) -> int:
        """Numbers in a row."""
        ...

    def block(self, start: int, stop: int, out: Array | None = None) -> Array:
        """Rows start … stop, (stop − start, dim) in float32 (or float64, for all of them).

        Args:
            start: the first row.
            stop: the row after the last, within the size.
            out: memory (at least stop − start, dim) in float32 to use where numbers have to be
                converted; where they lie in memory as they are, a view of them comes back.
        """
        ...

    def rows(self, indices: Array) -> Array:
        """A copy of the rows with these numbers, (n, dim), in the dtype of `block`."""
        ...


class HeldKeys:
    """Keys in memory, which grow by doubling.

    Args:
        vectors: (n, dim), the first keys; None: none yet.
        dim: numbers in a vector; needed where there are no vectors.
        dtype: what they are held in: "float32", "float64" (then everything is computed in
            float64), or "float16" (half of the memory, and computed in float32).

    Raises:
        InputError, ShapeError, DTypeError: vectors that are no finite numbers (n, dim).

    >>> keys = HeldKeys([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    >>> keys.drop(0)  # the last row moves into its place
    2
    >>> keys.block(0, keys.size)
    array([[0.6, 0.8],
           [0. , 1. ]], dtype=float32)
    """

    def __init__(
        self, vectors: Any = None, *, dim: int | None = None, dtype: str = "float32"
    ) -> None:
        if str(dtype) not in DTYPES:
            raise InputError(f"dtype must be one of {', '.join(DTYPES)}; got {dtype!r}.")
        if vectors is None and dim is None:
            raise InputError("the size of the vectors is not known: give vectors=, or dim=.")
        if dim is not None and (isinstance(dim, bool) or not hasattr(dim, "__index__") or dim < 1):
            raise InputError(
                f"dim, the numbers in a vector, must be a whole number ≥ 1; got {dim!r}."
            )
        first = None if vectors is None else as_vectors("vectors", vectors, dim)
        self._dim = int(dim) if first is None else first.shape[1]  # type: ignore[arg-type]
        self._size = 0
        self._rows = np.empty((0, self._dim), dtype)
        if first is not None:
            self.append(first)

    @property
    def size(self) -> int:
        """How many rows."""
        return self._size

    @property
    def dim(self) -> int:
        """Numbers in a row."""
        return self._dim

    def append(self, vectors: Any) -> int:
        """Add vectors (n, dim) behind the others, and return the first one's row."""
        vectors = self._fit("vectors", as_vectors("vectors", vectors, self._dim))
        first, size = self._size, self._size + len(vectors)
        if size > len(self._rows):
            rows = np.empty((max(size, 2 * len(self._rows), FEWEST), self._dim), self._rows.dtype)
            rows[:first] = self._rows[:first]
            self._rows = rows
        self._rows[first:size] = vectors
        self._size = size
        return first

    def replace(self, row: int, vector: Any) -> None:
        """Put another vector (dim,) in the place of one."""
        row = self._checked_row(row)
        vector = np.asarray(vector)
        if vector.ndim != 1:
            raise ShapeError(
                f"vector must have one axis, (dim,) = ({self._dim},); got {vector.shape}."
            )
        self._rows[row] = self._fit("vector", as_vectors("vector", vector[None], self._dim))[0]

    def drop(self, row: int) -> int | None:
        """Take a row away: the last one moves into its place.

        Returns:
            The old number of the row that moved, or None where it was the last one itself.
        """
        row = self._checked_row(row)
        self._size -= 1
        if row == self._size:
            return None
        self._rows[row] = self._rows[self._size]
        return self._size

    def block(self, start: int, stop: int, out: Array | None = None) -> Array:
        """Rows start … stop; a view until the next change, unless they are held in float16."""
        rows = self._rows[start : min(stop, self._size)]
        return widened(rows, out) if rows.dtype == np.float16 else rows

    def rows(self, indices: Array) -> Array:
        """A copy of the rows with these numbers, (n, dim)."""
        rows = self._rows[: self._size][indices]
        return rows.astype(np.float32) if rows.dtype == np.float16 else rows

    def _checked_row(self, row: int) -> int:
        if not 0 <= row < self._size:
            raise InputError(f"row {row} does not exist: there are {self._size}.")
        return int(row)

    def _fit(self, name: str, vectors: Array) -> Array:
        """The vectors, after a check that the dtype that keys are held in can hold them."""
        largest = float(np.finfo(self._rows.dtype).max)
        if max(float(vectors.max(initial=0)), -float(vectors.min(initial=0))) > largest:
            raise InputError(
                f"{name} holds numbers beyond {largest:.3g}, which {self._rows.dtype} cannot hold: "
                "scale them, or hold them in float64."
            )
        return vectors


class JoinedKeys:
    """Keys that lie in several places, one after the other.

    Args:
        parts: at least one, all with as many numbers in a row.
    """

    def __init__(self, parts: Sequence[Keys]) -> None:
        if not parts:
            raise InputError("JoinedKeys joins at least one part; got none.")
        dims = sorted({part.dim for part in parts})
        if len(dims) > 1:
            raise ShapeError(
                f"keys to be joined must have as many numbers in a row; got {dims}: "
                "were they made by different embedders?"
            )
        self.parts = list(parts)
        self._starts = np.cumsum([0, *(part.size for part in parts)])

    @property
    def size(self) -> int:
        """How many rows."""
        return int(self._starts[-1])

    @property
    def dim(self) -> int:
        """Numbers in a row."""
        return self.parts[0].dim

    def block(self, start: int, stop: int, out: Array | None = None) -> Array:
        """Rows start … stop; a copy where they lie in more than one part."""
        stop = min(stop, self.size)
        pieces = []
        for part, first in zip(self.parts, self._starts.tolist(), strict=False):
            low, high = max(start, first), min(stop, first + part.size)
            if low < high:
                free = None if out is None else out[low - start : high - start]
                pieces.append(part.block(low - first, high - first, free))
        if len(pieces) == 1:
            return pieces[0]
        return np.concatenate(pieces) if pieces else self.parts[0].block(0, 0)

    def rows(self, indices: Array) -> Array:
        """A copy of the rows with these numbers, (n, dim)."""
        indices = np.asarray(indices, np.int64)
        part_of = np.searchsorted(self._starts, indices, side="right") - 1
        kinds = {part.block(0, 0).dtype for part in self.parts}
        rows = np.empty((len(indices), self.dim), np.result_type(*kinds))
        for number in np.unique(part_of):
            own = part_of == number
            rows[own] = self.parts[number].rows(indices[own] - self._starts[number])
        return rows


def as_vectors(name: str, vectors: Any, dim: int | None = None) -> Array:
    """Finite floats (n, dim), after a check.

    Raises:
        ShapeError: another number of axes, or of numbers in a vector.
        DTypeError: no floating-point numbers.
        InputError: NaN or ∞ among them, with the row.
    """
    array = to_numpy(as_float_array(name, vectors))
    if array.ndim != 2:
        raise ShapeError(f"{name} must have two axes, (n, dim); got {array.shape}.")
    if dim is not None and array.shape[1] != dim:
        raise ShapeError(
            f"{name} has {array.shape[1]} numbers in a row and the keys {dim}: both must be made "
            "in the same way. Did another embedder make them?"
        )
    if array.shape[1] < 1:
        raise ShapeError(f"{name} must have at least one number in a row; got {array.shape}.")
    finite = np.isfinite(array).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        raise InputError(
            f"{name} holds NaN or ∞ in row {row}: a key must be finite. Leave that row out, or "
            "look at what made it."
        )
    return array


def quantized(vectors: Any) -> tuple[Array, Array, float]:
    """Vectors as bytes: ``k' = scale · r`` with one scale for each row and r in −127 … 127.

    Args:
        vectors: (n, dim), finite.

    Returns:
        r (n, dim) int8; the scales (n,) float32, max |k| / 127; and the error: the largest
        ‖k − k'‖, which is the most that q · k' differs from q · k for any q of length 1.

    >>> rows, scales, error = quantized([[0.6, -0.8], [1.0, 0.0]])
    >>> rows
    array([[  95, -127],
           [ 127,    0]], dtype=int8)
    >>> round(error, 4)
    0.0016
    """
    vectors = as_vectors("vectors", vectors)
    rows = np.empty(vectors.shape, np.int8)
    scales = np.empty(len(vectors), np.float32)
    error = 0.0
    for start in range(0, len(vectors), PIECE):
        some = slice(start, start + PIECE)
        exact = vectors[some].astype(np.float64)
        scale = (np.abs(exact).max(axis=1) / 127).astype(np.float32).astype(np.float64)[:, None]
        whole = np.rint(exact / np.where(scale == 0, 1, scale)).clip(-127, 127)
        rows[some], scales[some] = whole, scale[:, 0]
        off = np.linalg.norm(exact - whole * scale, axis=1)
        error = max(error, float(off.max(initial=0)))
    return rows, scales, error
