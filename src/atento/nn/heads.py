"""The feature axis of all heads together, and the heads apart."""

from torch import Tensor

__all__ = ["join_heads", "split_heads"]


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """(..., token, head · feature) -> (..., head, token, feature); head h has consecutive features.

    >>> import torch
    >>> split_heads(torch.arange(4).reshape(1, 4), 2).tolist()
    [[[0, 1]], [[2, 3]]]
    """
    return x.reshape(*x.shape[:-1], num_heads, x.shape[-1] // num_heads).transpose(-3, -2)


def join_heads(x: Tensor) -> Tensor:
    """(..., head, token, feature) -> (..., token, head · feature): undoes `split_heads`.

    >>> import torch
    >>> join_heads(torch.tensor([[[0, 1]], [[2, 3]]])).tolist()
    [[0, 1, 2, 3]]
    """
    return x.transpose(-3, -2).flatten(-2)
