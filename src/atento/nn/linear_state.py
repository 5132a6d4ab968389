"""LinearState: all the keys that have passed, as one matrix per head."""

from typing import Any

import torch
from torch import Tensor

from atento._errors import InputError, ShapeError

__all__ = ["LinearState"]


class LinearState:
    """What causal linear attention remembers of all keys so far: its size never grows.

    The counterpart of `KVCache`: one state belongs to one attention layer and one batch.

    Attributes:
        sums: ``Σⱼ φ(kⱼ) [vⱼ 1]ᵀ``, (..., Hkv, features, dv + 1); None before the first token.
            Its last column is what the denominators are made of.
        num_tokens: how many tokens have passed.

    Source: Katharopoulos et al. 2020, section 3.4 ("Transformers are RNNs").

    >>> from atento.nn.linear_equation import linear_attention
    >>> state = LinearState()
    >>> x = torch.ones(3, 2)
    >>> _ = linear_attention(x, x, x, causal=True, state=state)
    >>> state.num_tokens, state.sums
    (3, tensor([[6., 6., 6.],
            [6., 6., 6.]]))
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything: the next token is the first of new sequences."""
        self.sums: Tensor | None = None
        self.num_tokens = 0

    def reorder(self, indices: Any) -> None:
        """Let each sequence of the batch go on from another: ``new[b] = old[indices[b]]``.

        For beam search. There may be more or fewer indices than sequences.

        Raises:
            InputError: when no token has passed, or without a batch.
            ShapeError: when an index is none of the batch's.
        """
        if self.sums is None or self.sums.ndim < 4:
            raise InputError(
                "LinearState: reorder chooses among the sequences of a batch, and "
                + ("no token has passed yet." if self.sums is None else "this state has no batch.")
            )
        chosen = torch.as_tensor(indices, device=self.sums.device)
        batch = self.sums.shape[0]
        if bool(((chosen < 0) | (chosen >= batch)).any()):
            raise ShapeError(
                f"LinearState: reorder takes numbers from 0 to {batch - 1}, for the {batch} "
                f"sequences of the state; got {chosen.tolist()}."
            )
        self.sums = self.sums.index_select(0, chosen)

    def sums_before(
        self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
    ) -> Tensor:
        """The sums so far, zeros at the start.

        Raises:
            ShapeError: when the new tokens make sums of another shape, dtype or device.
        """
        if self.sums is None:
            return torch.zeros(shape, dtype=dtype, device=device)
        had = (tuple(self.sums.shape), self.sums.dtype, self.sums.device)
        comes = (tuple(shape), dtype, device)
        if had != comes:
            raise ShapeError(
                "LinearState: it holds sums (..., head, features, dv + 1) of "
                f"{_said(*had)}; these tokens make {_said(*comes)}. One state belongs to one layer "
                "and one batch of sequences: reset() it for new ones."
            )
        return self.sums

    def __repr__(self) -> str:
        sums = "" if self.sums is None else f", sums {tuple(self.sums.shape)}"
        return f"LinearState({self.num_tokens} tokens{sums})"


def _said(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> str:
    return f"{shape}, {str(dtype).removeprefix('torch.')} on {device}"
