"""Values of a dictionary that attends: numbers or arrays, which have a mean, or any objects."""

from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from atento._errors import InputError

__all__ = ["Form", "value_form"]


class Form(NamedTuple):
    """What a value is to a weighted mean.

    Attributes:
        shape: () for a number; None for an object, of which there is no mean.
        numbers: (dv,) float64, the value in a row; None for an object.
    """

    shape: tuple[int, ...] | None
    numbers: NDArray[np.float64] | None = None

    def __str__(self) -> str:
        if self.shape is None:
            return "objects"
        return f"arrays of shape {self.shape}" if self.shape else "numbers"


OBJECT = Form(None)


def value_form(value: Any) -> Form:
    """A number, an array of numbers (or a nested list of them), or an object.

    Raises:
        InputError: numbers that are NaN or ∞: they would be in every weighted mean.

    >>> value_form(7), value_form([1, 2]).shape, value_form("seven").shape
    (Form(shape=(), numbers=array([7.])), (2,), None)
    """
    if not (isinstance(value, Real | list | tuple) or hasattr(value, "__array__")):
        return OBJECT
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "biuf" and not isinstance(value, Real):
            return OBJECT
        numbers = np.array(array, np.float64).ravel()  # a copy: the value may change later
    except (TypeError, ValueError, RuntimeError):  # ragged lists; tensors that are elsewhere
        return OBJECT
    except OverflowError:
        numbers = np.array([np.inf])
    if not np.isfinite(numbers).all():
        raise InputError(
            "a value must be finite: NaN, ∞ or a number too large for a float would be in every "
            f"weighted mean; got {value!r:.60}. Leave the key out."
        )
    return Form(array.shape, numbers) if numbers.size else OBJECT
