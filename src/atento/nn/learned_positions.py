"""LearnedPositions: a vector for each position, added to the input."""

from typing import Any

import torch
from torch import Tensor, nn

from atento._errors import ShapeError
from atento.nn.checks import whole

__all__ = ["LearnedPositions"]


class LearnedPositions(nn.Module):
    """Learned absolute positions: ``x[t] + table[start + t]``.

    Alone, it gives the vectors to add to token embeddings; as ``position=`` of a module, it adds
    them to the module's input.

    Args:
        max_length: how many positions there are.
        d_model: features of a token.
        std: of the normal distribution that the table starts from; 0.02 as in GPT-2.
        device, dtype: of the table.

    Shapes: a number of tokens -> (token, d_model), which `embed` adds to x (..., token, d_model).

    ``state_dict``: ``table`` (max_length, d_model).

    Source: Gehring et al. 2017 (arXiv 1705.03122), section 3.1; as in GPT-2 and BERT.

    >>> LearnedPositions(max_length=25, d_model=16)(5).shape
    torch.Size([5, 16])
    """

    def __init__(
        self,
        max_length: int,
        d_model: int,
        *,
        std: float = 0.02,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.max_length = whole("LearnedPositions", "max_length", max_length)
        self.d_model = whole("LearnedPositions", "d_model", d_model)
        self.std = std
        self.table = nn.Parameter(
            torch.empty(self.max_length, self.d_model, device=device, dtype=dtype)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the table anew from torch's generator."""
        nn.init.normal_(self.table, std=self.std)

    def forward(self, num_tokens: int, start: int = 0) -> Tensor:
        """The vectors of positions start … start + num_tokens − 1: (num_tokens, d_model).

        Raises:
            ShapeError: when the table has not so many.
        """
        if start + num_tokens > self.max_length:
            raise ShapeError(
                f"LearnedPositions: there are max_length = {self.max_length} positions, and tokens "
                f"{start} to {start + num_tokens - 1} were asked for. Cut the sequence, or make "
                "the table longer."
            )
        return self.table[start : start + num_tokens]

    def embed(self, x: Tensor, start: int = 0) -> Tensor:
        """``x`` (..., token, d_model) with the vectors of its positions added.

        Raises:
            ShapeError: for another last size, or more tokens than positions.
        """
        if x.shape[-1] != self.d_model:
            raise ShapeError(
                f"LearnedPositions: the table has d_model = {self.d_model} features; x has "
                f"{x.shape[-1]} (shape {tuple(x.shape)})."
            )
        return x + self.forward(x.shape[-2], start)

    def extra_repr(self) -> str:
        """The sizes of the table."""
        return f"{self.max_length}, {self.d_model}"
