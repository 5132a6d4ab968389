"""Sinusoidal positions: a fixed vector for each position, added to the embedding."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from atento._errors import ShapeError
from atento.positions.checks import number_above, whole_number
from atento.positions.frequencies import exponents, plain_frequencies
from atento.positions.namespace import as_float_array, namespace_of, table_dtype

__all__ = ["Sinusoidal", "sinusoidal"]


@dataclass(frozen=True)
class Sinusoidal:
    """Sinusoidal positions with their base fixed: what modules take as ``position=``.

    Args:
        base: the longest wave is about 2π · base tokens.

    Source: Vaswani et al. 2017 (arXiv 1706.03762), section 3.5.

    >>> Sinusoidal().embed(np.zeros((2, 4))).round(4)
    array([[0.    , 1.    , 0.    , 1.    ],
           [0.8415, 0.5403, 0.01  , 1.    ]])
    """

    base: float = 10000.0

    def __post_init__(self) -> None:
        number_above("Sinusoidal: base", self.base, 1)

    def embed(self, x: Any, start: int = 0) -> Any:
        """The embeddings with the vectors of their positions added: ``x + sinusoidal``.

        Args:
            x: (..., T, d_model).
            start: the position of the first token, as when tokens before it are cached.

        Returns:
            The shape, library and dtype of x; half-precision inputs are added to in float32.

        Raises:
            ShapeError, DTypeError, InputError: what was expected and what came.
        """
        x = as_float_array("x", x)
        if x.ndim < 2:
            raise ShapeError(
                f"x must have the axes (..., token, feature); got shape {tuple(x.shape)}. "
                "One vector is one row: x[None, :]."
            )
        whole_number("start", start, 0)
        xp = namespace_of(x)
        dtype = table_dtype(xp, x)
        T, d = x.shape[-2:]
        table = _table(xp, x.device, dtype, T, d, self.base, start)
        if x.dtype == dtype:
            return x + table
        return xp.astype(xp.astype(x, dtype) + table, x.dtype)


def sinusoidal(
    num_tokens: int, d_model: int, *, base: float = 10000.0, start: int = 0
) -> npt.NDArray[np.float64]:
    """The sinusoidal vectors of consecutive positions.

    ``PE[position, 2 i] = sin(position / base^(2 i / d_model))`` and
    ``PE[position, 2 i + 1] = cos(position / base^(2 i / d_model))``.

    Args:
        num_tokens: how many positions.
        d_model: how many features; where it is odd, the last is a sine.
        base: the longest wavelength is about ``2π · base``.
        start: the first position.

    Returns:
        (num_tokens, d_model), NumPy float64.

    Raises:
        InputError: for sizes that are no whole numbers.

    Source: Vaswani et al. 2017 (arXiv 1706.03762), section 3.5.

    >>> sinusoidal(2, 4, start=1).round(4)
    array([[ 0.8415,  0.5403,  0.01  ,  1.    ],
           [ 0.9093, -0.4161,  0.02  ,  0.9998]])
    """
    whole_number("sinusoidal: num_tokens", num_tokens, 0)
    whole_number("sinusoidal: d_model", d_model, 1)
    whole_number("sinusoidal: start", start, 0)
    number_above("sinusoidal: base", base, 1)
    table: npt.NDArray[np.float64] = _table(np, "cpu", np.float64, num_tokens, d_model, base, start)
    return table


def _table(xp: Any, device: Any, dtype: Any, T: int, d: int, base: float, start: int) -> Any:
    powers = exponents(xp, device, dtype, d)
    positions = xp.astype(xp.arange(T, dtype=xp.int64, device=device) + start, dtype)
    angles = xp.expand_dims(positions, axis=-1) * plain_frequencies(base, powers)
    # (T, pairs, 2) -> (T, feature): each sine with its cosine behind it
    pairs = xp.stack([xp.sin(angles), xp.cos(angles)], axis=-1)
    return xp.reshape(pairs, (T, d + d % 2))[:, :d]
