"""Token ids on disk, memory-mapped: a corpus larger than memory trains as well."""

from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atento._errors import InputError
from atento._files import write_whole

__all__ = ["draw", "open_tokens", "write_tokens"]


def write_tokens(path: Path, ids: Iterable[int], vocabulary_size: int) -> None:
    """Write ids as a ``.npy`` file, in the smallest whole numbers that hold them.

    Raises:
        OSError: the system refused.
    """
    array = np.fromiter(ids, np.min_scalar_type(vocabulary_size - 1))
    header = BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    write_whole(path, [header.getvalue(), array.tobytes()])


def open_tokens(path: Path) -> NDArray[Any]:
    """The ids of a file, which stay on disk.

    Raises:
        InputError: it is no such file.
    """
    try:
        tokens: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} holds no tokens: {error}.") from None
    if tokens.ndim != 1 or tokens.dtype.kind != "u":
        raise InputError(f"{path} holds no tokens: it is {tokens.dtype} of {tokens.ndim} axes.")
    return np.asarray(tokens)  # still mapped; slices of a memmap itself take 20 times as long


def draw(tokens: NDArray[Any], rows: int, length: int, seed: int, step: int) -> NDArray[np.int64]:
    """Rows (rows, length) cut out of the tokens at random: the same for one seed and step, always.

    So the place in the data is the number of the step, and nothing else has to be kept of it.
    """
    random = np.random.default_rng([seed, step])
    starts = random.integers(0, len(tokens) - length + 1, rows)
    return np.stack([tokens[start : start + length] for start in starts]).astype(np.int64)
