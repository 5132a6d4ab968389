"""Keys in a file, mapped into memory: the system reads what is looked at, and forgets it again."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atento._errors import InputError
from atento.retrieval.question import whole_number
from atento.retrieval.widening import widened

__all__ = ["MappedKeys"]

Array = npt.NDArray[Any]

DTYPES = {"float32": "<f4", "float16": "<f2", "int8": "i1", "float64": "<f8"}
"""What numbers in a file may be, little-endian."""


class MappedKeys:
    """Keys in a file, row by row, which is never read whole.

    Args:
        path: the file. For int8, the scales of `quantized` lie beside it as float32, in the file
            of the same name that ends in ``.scales``.
        dtype: "float32", "float16", "int8" or "float64".
        size: how many rows.
        dim: numbers in a row.
        offset: bytes before the first row.

    Raises:
        InputError: a file that is shorter than these say, or an argument that cannot be.
        OSError: the file cannot be read.

    Whoever makes the file shorter while it is mapped takes the process down: that is what the
    system does.
    """

    def __init__(
        self, path: str | Path, dtype: str, size: int, dim: int, *, offset: int = 0
    ) -> None:
        if dtype not in DTYPES:
            raise InputError(f"dtype must be one of {', '.join(DTYPES)}; got {dtype!r}.")
        whole_number("dim", dim)
        for name, number in (("size", size), ("offset", offset)):
            if number != 0:
                whole_number(name, number)
        path = Path(path)
        self._rows = _mapped(path, DTYPES[dtype], (size, dim), offset)
        self._scales: Array | None = None
        if dtype == "int8":
            self._scales = _mapped(path.with_suffix(".scales"), "<f4", (size,), 0)

    @property
    def size(self) -> int:
        """How many rows."""
        return len(self._rows)

    @property
    def dim(self) -> int:
        """Numbers in a row."""
        return int(self._rows.shape[1])

    def block(self, start: int, stop: int, out: Array | None = None) -> Array:
        """Rows start … stop: a view of the file, or converted to float32."""
        scales = None if self._scales is None else self._scales[start:stop]
        return self._wide(self._rows[start:stop], scales, out)

    def rows(self, indices: Array) -> Array:
        """A copy of the rows with these numbers, (n, dim)."""
        scales = None if self._scales is None else self._scales[indices]
        return self._wide(self._rows[indices], scales, None)

    def _wide(self, rows: Array, scales: Array | None, out: Array | None) -> Array:
        if rows.dtype.itemsize >= 4:
            return rows.astype(rows.dtype.newbyteorder("="), copy=False)
        return widened(rows, out, scales)


def _mapped(path: Path, dtype: str, shape: tuple[int, ...], offset: int) -> Array:
    """A file's numbers as an array that reads them when they are looked at."""
    there = path.stat().st_size
    needed = offset + int(np.prod(shape, dtype=object)) * np.dtype(dtype).itemsize
    if there < needed:
        raise InputError(
            f"{path} has {there:,} bytes, and {needed:,} are needed for {shape} numbers "
            f"{np.dtype(dtype)} behind the first {offset}: the file was cut, or is another one."
        )
    if 0 in shape:  # the system maps no empty file
        return np.empty(shape, dtype)
    return np.asarray(np.memmap(path, dtype, "r", offset, shape))
