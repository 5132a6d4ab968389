"""Dropout on blocks of weights, without a number for each pair that is not already there."""

import array_api_compat.torch as xp
import torch

from atento.equation.dropout import column_words, mixed, row_words, threshold
from atento.equation.on_torch.units import Unit
from atento.equation.request import Request

__all__ = ["Keep"]


class Keep:
    """What dropout keeps of one unit's weights.

    A pair that is kept has all bits set, one that is dropped none: an "and" with the bits of a
    float32 is then the product with 1 or 0, without the detour over other types.
    """

    def __init__(self, request: Request, unit: Unit, size: tuple[int, int]) -> None:
        heads, queries, device = *unit.query.shape[:2], unit.query.device
        at = torch.arange(queries, device=device)[:, None]
        units = unit.units.to(device)[:, None, None]
        self.rows = row_words(request.seed, units, at, xp)
        self.columns = column_words(torch.arange(unit.key.shape[1], device=device), xp)
        self.threshold = threshold(request.dropout)
        self.memory: torch.Tensor = self.rows.new_empty(2, heads * size[0] * size[1])

    def pairs(self, rows: range, cols: range) -> torch.Tensor:
        """−1 where a pair of a block is kept, otherwise 0: (head, rows, cols), until the next."""
        row = self.rows[:, rows.start : rows.stop]
        column = self.columns[cols.start : cols.stop]
        word, spare = self._blocks(len(row), len(rows), len(cols))
        word = mixed(row, column, xp, out=word, spare=spare)
        pairs: torch.Tensor = word.ge_(self.threshold).neg_()
        return pairs

    def only(
        self, block: torch.Tensor, pairs: torch.Tensor, out: torch.Tensor | None = None
    ) -> torch.Tensor:
        """A block with 0 where a pair was dropped: in ``out``, or in memory until the next."""
        if block.dtype is torch.float32:
            if out is None:
                out = self._blocks(*block.shape)[1].view(block.dtype)
            torch.bitwise_and(block.view(pairs.dtype), pairs, out=out.view(pairs.dtype))
            return out
        return torch.mul(block, pairs, out=out).neg_()

    def _blocks(self, heads: int, rows: int, cols: int) -> torch.Tensor:
        return self.memory[:, : heads * rows * cols].view(2, heads, rows, cols)
