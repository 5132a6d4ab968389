"""Fresh memory for large results."""

from math import prod

import numpy as np
import torch

__all__ = ["fresh", "zeros"]

LARGE = 2**22
"""Bytes from which on the pages themselves take time."""

DTYPES = {torch.float32: np.float32, torch.float64: np.float64}


def fresh(shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
    """A tensor whose numbers are yet to be written, of the dtype and on the device of another.

    NumPy asks Linux for large pages, torch does not: writing a T×T result for the first time takes
    half as long in NumPy's memory (EXPERIMENTS.md).
    """
    if _is_large(shape, like):
        return torch.from_numpy(np.empty(shape, DTYPES[like.dtype]))
    return like.new_empty(shape)


def zeros(shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
    """Zeros, of the dtype and on the device of another tensor.

    Large ones are pages that Linux clears when they are first written to, near the core that adds.
    """
    if _is_large(shape, like):
        return torch.from_numpy(np.zeros(shape, DTYPES[like.dtype]))
    return like.new_zeros(shape)


def _is_large(shape: tuple[int, ...], like: torch.Tensor) -> bool:
    size = prod(shape) * like.element_size()
    return like.device.type == "cpu" and size >= LARGE and like.dtype in DTYPES
