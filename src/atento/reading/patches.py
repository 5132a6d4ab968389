"""How a layer's tokens lie on an image: rows and columns of patches, and the tokens around them."""

import operator
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from atento._errors import InputError, ShapeError

__all__ = ["PatchGrid", "as_grid", "grid_among"]


@dataclass(frozen=True)
class PatchGrid:
    """Patches of an image as tokens: row by row from the top left, special tokens around them.

    Attributes:
        rows, columns: how many patches the image has down and across.
        leading: tokens before the first patch, such as CLS and registers.
        trailing: tokens after the last patch.

    >>> PatchGrid(2, 3, leading=1).token((1, 0))
    4
    """

    rows: int
    columns: int
    leading: int = 0
    trailing: int = 0

    @property
    def tokens(self) -> int:
        """How many tokens there are in all."""
        return self.leading + self.rows * self.columns + self.trailing

    @property
    def span(self) -> range:
        """The tokens that are patches."""
        return range(self.leading, self.leading + self.rows * self.columns)

    def token(self, patch: Sequence[int]) -> int:
        """The token of the patch (row, column); negative ones count from the end.

        Raises:
            InputError: when there is no such patch.
        """
        try:
            row, column = (operator.index(at) for at in patch)
        except (TypeError, ValueError):
            raise InputError(f"a patch is (row, column), whole numbers; got {patch!r}.") from None
        if not (-self.rows <= row < self.rows and -self.columns <= column < self.columns):
            raise InputError(
                f"there are {self.rows} rows and {self.columns} columns of patches; got the patch "
                f"{(row, column)}."
            )
        return self.leading + row % self.rows * self.columns + column % self.columns

    def image(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Numbers of tokens (..., token) as an image (..., row, column), special tokens left out.

        Raises:
            ShapeError: when they are not of these tokens.
        """
        array = np.asarray(values)
        if not array.ndim or array.shape[-1] != self.tokens:
            raise ShapeError(f"{self} is of {self.tokens} tokens; got shape {array.shape}.")
        own = array[..., self.span.start : self.span.stop]
        return own.reshape(*array.shape[:-1], self.rows, self.columns)


def as_grid(said: Any, tokens: int, where: str) -> PatchGrid | None:
    """The grid that is meant, of so many tokens.

    Args:
        said: a `PatchGrid`, or (rows, columns), with which further tokens stand before the patches,
            or (rows, columns, leading), or (rows, columns, leading, trailing), or None.
        tokens: how many there are.
        where: for messages.

    Raises:
        InputError: when it is nothing of these.
        ShapeError: when the grid has another number of tokens.
    """
    return None if said is None else _checked(said, tokens, where)


def _checked(said: Any, tokens: int, where: str) -> PatchGrid:
    if isinstance(said, PatchGrid):
        grid = said
    else:
        numbers = _numbers(said)
        if len(numbers) == 2:
            numbers.append(max(tokens - numbers[0] * numbers[1], 0))
        grid = PatchGrid(*numbers)
    if grid.tokens != tokens:
        raise ShapeError(
            f"{where}: {grid.rows} × {grid.columns} patches, {grid.leading} tokens before and "
            f"{grid.trailing} after them are {grid.tokens} tokens, and there are {tokens}. "
            "Say (rows, columns, tokens before, tokens after)."
        )
    return grid


def grid_among(said: Any, lengths: Collection[int]) -> PatchGrid:
    """The grid that is meant, of one of several numbers of tokens.

    Raises:
        InputError: when it is no grid, or (rows, columns) alone and several would do.
        ShapeError: when it has none of these numbers of tokens.
    """
    numbers = [] if isinstance(said, PatchGrid) else _numbers(said)
    if len(numbers) != 2:
        grid = said if isinstance(said, PatchGrid) else PatchGrid(*numbers)
        lengths = [length for length in lengths if length == grid.tokens] or lengths
    else:
        lengths = [length for length in lengths if length >= numbers[0] * numbers[1]] or lengths
    if len(lengths) != 1:
        raise InputError(
            f"the layers have {', '.join(map(str, sorted(lengths))) or 'no'} tokens: say how many "
            "of them are no patches, (rows, columns, tokens before, tokens after), or set the "
            "patches of each layer."
        )
    return _checked(said, next(iter(lengths)), "the recording")


def _numbers(said: Any) -> list[int]:
    try:
        numbers = [operator.index(number) for number in said]
    except TypeError:
        numbers = []
    if not 2 <= len(numbers) <= 4 or min(numbers[:2]) < 1 or min(numbers) < 0:
        raise InputError(
            "patches are (rows, columns), (rows, columns, tokens before them) or (rows, columns, "
            f"tokens before, tokens after), whole numbers; got {said!r}."
        )
    return numbers
