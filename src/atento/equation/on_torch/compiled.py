"""What a block goes through between its products as one pass, where Numba is installed.

Bias, mask, softmax and dropout are a dozen operations of torch, each of which reads the whole
block; a kernel of Numba reads it once. It serves float32 on the CPU; everything else, and everybody
without Numba, is served by torch's operations, with the same results.
"""

from functools import cache
from math import prod
from types import ModuleType
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from atento.equation.request import Request
from atento.equation.schedule import Piece

if TYPE_CHECKING:
    from atento.equation.on_torch.blocks import Scores

__all__ = ["WORTH", "CompiledPass", "Room", "is_compiled"]

WORTH = 2**26
"""Weights from which on the kernels are used, 8 heads of 2,900 tokens: fewer are done before Numba
is loaded, let alone before it has compiled (once, some seconds; the result is kept on disk)."""

Floats: TypeAlias = npt.NDArray[np.float32]
Bools: TypeAlias = npt.NDArray[np.bool_]
Words: TypeAlias = npt.NDArray[np.int32]

NO_MATRIX = np.empty((0, 0), np.float32)
EVERYBODY = np.empty((0, 0), np.bool_)
NO_WORDS = np.empty(0, np.int32)


@cache
def _kernels() -> ModuleType | None:
    """The kernels, or None: whatever is wrong with Numba, torch can do without."""
    try:
        from atento.equation.on_torch import tile_kernels
    except Exception:  # no Numba, no folder for what it compiles, a system it does not know
        return None
    return tile_kernels


def is_compiled(request: Request) -> bool:
    """Whether kernels serve this request: the same answer each time, and so the same bits."""
    return (
        request.compute_dtype is torch.float32
        and request.query.device.type == "cpu"
        and prod(request.weights_shape) >= WORTH
        and _kernels() is not None
    )


class Room:
    """Memory for one block, used again for every block, as a tensor and as an array of NumPy."""

    def __init__(self, scores: "Scores") -> None:
        self._numbers = scores.unit.query.new_empty(scores.size[0] * scores.size[1])
        self._blocks: dict[tuple[int, int], tuple[torch.Tensor, Floats]] = {}

    def block(self, rows: int, cols: int) -> tuple[torch.Tensor, Floats]:
        """(query, key), and the same numbers."""
        if (rows, cols) not in self._blocks:
            block = self._numbers[: rows * cols].view(rows, cols)
            self._blocks[rows, cols] = block, block.numpy()
        return self._blocks[rows, cols]


class CompiledPass:
    """What the blocks of one head go through between their products.

    A bias that is a matrix is read by the kernels, and so is its gradient written; another kind is
    added block by block.

    Args:
        scores: of a unit of one head.
        of_bias: where the gradient of the bias gathers; None where it is not asked for.
    """

    def __init__(self, scores: "Scores", of_bias: torch.Tensor | None = None) -> None:
        kernels = _kernels()
        if kernels is None:
            raise RuntimeError("a compiled pass is made only where `is_compiled` says yes")
        self._forward, self._back = kernels.weigh_block, kernels.weigh_block_back
        self._scores, bias = scores, scores.bias
        self._bias = self._gathers = NO_MATRIX
        self._of_bias = of_bias
        if bias is not None and bias.is_matrix:
            own = bias.of_unit(scores.part, scores.unit.at)[0]
            self._bias = own.numpy() if own.is_contiguous() else NO_MATRIX
            if of_bias is not None:
                self._gathers, self._of_bias = of_bias[0].numpy(), None
        self._tiled = bias if self._bias is NO_MATRIX else None
        self._words = self._columns = NO_WORDS
        self._threshold = 0
        if scores.keep is not None:
            self._words = scores.keep.rows[0, :, 0].numpy()
            self._columns = scores.keep.columns.numpy()
            self._threshold = min(scores.keep.threshold, 2**31 - 1)  # of a rate close to 1

    def add_bias(self, piece: Piece, block: torch.Tensor) -> None:
        """Add the bias to scores (query, key), where the kernels do not."""
        if self._tiled is not None:
            scores = self._scores
            block += self._tiled.tile(scores.part, piece.rows, piece.cols, scores.unit.at)[0]

    def add_bias_grad(self, piece: Piece, grad: torch.Tensor) -> None:
        """Add the gradient of scores (query, key) to that of the bias, where no kernel does."""
        if self._of_bias is not None and self._scores.bias is not None:
            self._scores.bias.add_grad(self._of_bias, piece.rows, piece.cols, grad[None])

    def weigh(
        self, piece: Piece, scores: Floats, top: Floats, total: Floats, summed: Floats
    ) -> None:
        """Turn scores (query, key) into exp(score − m), where m is the largest so far of a row.

        Args:
            piece: where they stand.
            scores: the products, with softcap.
            top: (query, 1), m before and after.
            total: (query, 1), Σ exp(score − m) before and after.
            summed: (query, feature), Σ exp(score − m) value before; relative to the new m after.
        """
        self._forward(scores, top, total, summed, self._bias, *self._of(piece))

    def weigh_back(
        self, piece: Piece, scores: Floats, grad: Floats, lse: Floats, delta: Floats
    ) -> None:
        """Turn scores into weights, and the gradients of the weights into those of the scores.

        Args:
            piece: where they stand.
            scores: (query, key), the products, with softcap.
            grad: (query, key), output gradient · value.
            lse: (query,), finite.
            delta: (query,), what is subtracted from ``grad``.
        """
        self._back(scores, grad, lse, delta, self._bias, self._gathers, *self._of(piece))

    def _of(self, piece: Piece) -> tuple[int, int, Bools, Words, Words, int]:
        rows, cols = piece.rows, piece.cols
        seen = EVERYBODY if piece.visible is None else np.ascontiguousarray(piece.visible)
        words, columns = self._words[rows.start : rows.stop], self._columns[cols.start : cols.stop]
        return rows.start, cols.start, seen, words, columns, self._threshold
