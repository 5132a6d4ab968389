"""Fresh memory for large results."""

import numpy as np
import torch

__all__ = ["fresh"]

LARGE = 2**22
"""Bytes from which on the pages themselves take time."""

DTYPES = {torch.float32: np.float32, torch.float64: np.float64}


def fresh(shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
    """A tensor whose numbers are yet to be written, of the dtype and on the device of another.

    NumPy asks Linux for large pages, torch does not: writing a T×T result for the first time takes
    half as long in NumPy's memory (EXPERIMENTS.md).
    """
    size = int(np.prod(shape)) * like.element_size()
    if like.device.type == "cpu" and size >= LARGE and like.dtype in DTYPES:
        return torch.from_numpy(np.empty(shape, DTYPES[like.dtype]))
    return like.new_empty(shape)
