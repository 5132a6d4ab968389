"""Rotary positions: each pair of features of a query or key turns with its position."""

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from atento._arrays import dtype_name
from atento._errors import DTypeError, InputError, ShapeError
from atento.positions.checks import number_above, whole_number
from atento.positions.frequencies import exponents, plain_frequencies
from atento.positions.namespace import (
    as_array,
    as_float_array,
    library_of,
    namespace_of,
    table_dtype,
)
from atento.positions.rotary_scaling import (
    DynamicNTKScaling,
    LinearScaling,
    Llama3Scaling,
    RotaryScaling,
    YarnScaling,
)

__all__ = ["Rotary", "rotary", "rotary_frequencies"]


@dataclass(frozen=True)
class Rotary:
    """Rotary positions with their options fixed: what modules take as ``position=``.

    The arguments are those of `rotary`.

    Args:
        base: slower turns from feature pair to feature pair, down to about 1 / base.
        interleaved: whether a pair is two neighbours (GPT-J), or one of each half (Llama).
        rotary_dim: how many features are turned; None: all.
        scaling: for texts longer than those of the training.

    >>> x = np.array([[1.0, 0.0], [1.0, 0.0]])
    >>> Rotary().rotate(x).round(4)
    array([[1.    , 0.    ],
           [0.5403, 0.8415]])
    """

    base: float = 10000.0
    interleaved: bool = False
    rotary_dim: int | None = None
    scaling: RotaryScaling | None = None

    def __post_init__(self) -> None:
        _check_options(self.base, self.rotary_dim, self.scaling)

    def rotate(self, x: Any, positions: Any = None) -> Any:
        """The queries or keys (..., T, d) turned to their positions; see `rotary`."""
        x = as_float_array("x", x)
        if x.ndim < 2:
            raise ShapeError(
                f"x must have the axes (..., token, feature); got shape {tuple(x.shape)}. "
                "One vector is one row: x[None, :]."
            )
        xp = namespace_of(x)
        r = _rotated(x.shape[-1], self.rotary_dim)
        cos, sin = self._cos_sin(xp, x, r, _checked_positions(positions, x, xp))
        wide = x if x.dtype == cos.dtype else xp.astype(x, cos.dtype)
        y = xp.concat([*_turned(xp, wide, r, cos, sin, self.interleaved), wide[..., r:]], axis=-1)
        return y if y.dtype == x.dtype else xp.astype(y, x.dtype)

    def _cos_sin(self, xp: ModuleType, x: Any, r: int, positions: Any) -> tuple[Any, Any]:
        """Of the angles of all pairs: (T, r/2), or (batch, 1, …, T, r/2) beside x's axes."""
        dtype = table_dtype(xp, x)
        length = None
        if isinstance(self.scaling, DynamicNTKScaling) and x.shape[-2]:
            length = xp.astype(xp.max(positions) + 1, dtype)
        powers = exponents(xp, x.device, dtype, r)
        frequencies, factor = _frequencies(xp, self.base, powers, self.scaling, length)
        angles = xp.expand_dims(xp.astype(positions, dtype), axis=-1) * frequencies
        if angles.ndim == 3:  # (batch, T, r/2): the axes between batch and token are filled
            batch, T, pairs = angles.shape
            angles = xp.reshape(angles, (batch, *(1,) * (x.ndim - 3), T, pairs))
        cos, sin = xp.cos(angles), xp.sin(angles)
        return (cos, sin) if factor == 1 else (cos * factor, sin * factor)


def rotary(
    x: Any,
    positions: Any = None,
    *,
    base: float = 10000.0,
    interleaved: bool = False,
    rotary_dim: int | None = None,
    scaling: RotaryScaling | None = None,
) -> Any:
    """Queries or keys turned to their positions, so that q · k depends on their distance alone.

    Pair i of the r rotated features turns by the angle ``position · base^(−2 i / r)``:
    ``(a, b) -> (a cos − b sin, b cos + a sin)``.

    Args:
        x: (..., T, d): queries or keys, per head.
        positions: whole numbers, (T,), or (batch, T) where the first axis of x is the batch;
            0 … T − 1 when left out.
        base: the slowest pair turns about ``base`` times slower than the first.
        interleaved: which features are pair i. False: i and i + r/2 (Llama, GPT-NeoX). True:
            2 i and 2 i + 1 (the paper, GPT-J).
        rotary_dim: r; only the first r features turn, and the others stay. All of them when left
            out.
        scaling: for texts longer than those of the training: `LinearScaling`,
            `DynamicNTKScaling`, `YarnScaling` or `Llama3Scaling`.

    Returns:
        (..., T, d), in the library and dtype of x. Half-precision inputs are turned in float32.

    Raises:
        ShapeError, DTypeError, InputError: what was expected and what came.

    Source: Su et al. 2021 (arXiv 2104.09864), section 3.2.2. The angles are computed in the dtype
    of x, float32 at least, and rounded as in `transformers`.

    >>> x = np.array([[1.0, 0.0, 0.0, 5.0]])
    >>> rotary(x, [3]).round(4)  # pairs (0, 2) and (1, 3)
    array([[-0.99  , -0.15  ,  0.1411,  4.9978]])
    >>> rotary(x, [3], interleaved=True, rotary_dim=2).round(4)
    array([[-0.99  ,  0.1411,  0.    ,  5.    ]])
    """
    return Rotary(base, interleaved, rotary_dim, scaling).rotate(x, positions)


def rotary_frequencies(
    rotary_dim: int,
    *,
    base: float = 10000.0,
    scaling: RotaryScaling | None = None,
    length: int | None = None,
    like: Any = None,
) -> tuple[Any, float]:
    """How far each pair of features turns from one position to the next, in radians.

    Without a scaling, ``base^(−2 i / r)`` for i = 0 … r/2 − 1.

    Args:
        rotary_dim: r, how many features turn.
        base: as in `rotary`.
        scaling: as in `rotary`.
        length: how many tokens there are in all; `DynamicNTKScaling` alone depends on it.
        like: an array whose library, device and dtype (float32 at least) the table takes; NumPy's
            float64 when left out.

    Returns:
        The table (feature pair,), and what cosines and sines are multiplied with: 1.0 except in
        YaRN.

    Raises:
        ShapeError: when rotary_dim is not even.
        InputError: for numbers out of range.

    Source: Su et al. 2021 (arXiv 2104.09864), section 3.2.2; the scalings name theirs.

    >>> rotary_frequencies(6, base=1000.0, scaling=LinearScaling(2.0))
    (array([0.5  , 0.05 , 0.005]), 1.0)
    """
    _check_options(base, rotary_dim, scaling)
    like = np.zeros(0) if like is None else as_float_array("like", like)
    xp = namespace_of(like)
    powers = exponents(xp, like.device, table_dtype(xp, like), rotary_dim)
    if length is not None:
        whole_number("rotary_frequencies: length", length, 0)
        length = xp.asarray(length, dtype=powers.dtype, device=like.device)
    return _frequencies(xp, base, powers, scaling, length)


def _frequencies(
    xp: ModuleType, base: float, powers: Any, scaling: RotaryScaling | None, length: Any
) -> tuple[Any, float]:
    if scaling is None:
        return plain_frequencies(base, powers), 1.0
    return scaling.frequencies(xp, base, powers, length)


def _turned(xp: ModuleType, x: Any, r: int, cos: Any, sin: Any, interleaved: bool) -> list[Any]:
    """The first r features of x, turned: arrays to be laid side by side."""
    if interleaved:
        a, b = x[..., 0:r:2], x[..., 1:r:2]
        pairs = xp.stack([a * cos - b * sin, b * cos + a * sin], axis=-1)
        return [xp.reshape(pairs, (*x.shape[:-1], r))]
    a, b = x[..., : r // 2], x[..., r // 2 : r]
    return [a * cos - b * sin, b * cos + a * sin]


def _rotated(d: int, rotary_dim: int | None) -> int:
    """How many of the d features turn."""
    if rotary_dim is None:
        if d % 2:
            raise ShapeError(
                f"rotary turns pairs of features, and x has {d} (its last axis): pass rotary_dim="
                f"{d - 1} to leave the last one as it is."
            )
        return d
    if rotary_dim > d:
        raise ShapeError(
            f"rotary_dim is {rotary_dim}, and x has only {d} features (its last axis): it counts "
            "features of one head."
        )
    return rotary_dim


def _checked_positions(positions: Any, x: Any, xp: ModuleType) -> Any:
    """Positions (T,) or (batch, T) beside x (batch, …, T, d)."""
    T = x.shape[-2]
    if positions is None:
        return xp.arange(T, dtype=xp.int64, device=x.device)
    given = positions
    positions = as_array(positions)
    if not dtype_name(positions).startswith(("int", "uint")):
        raise DTypeError(
            f"positions must be whole numbers; got {dtype_name(positions)}. "
            "Convert them to int64; a text stretched by fractions is scaling=LinearScaling(...)."
        )
    fits = positions.ndim in (1, 2) and positions.shape[-1] == T
    if fits and positions.ndim == 2:
        fits = x.ndim > 2 and positions.shape[0] in (1, x.shape[0])
    if not fits:
        raise ShapeError(
            f"positions must have the axes (token,) or (batch, token), one for each token of x "
            f"{tuple(x.shape)}; got {tuple(positions.shape)}. The tokens of x are on axis −2 "
            f"({T}), its batch on the first of at least 3 axes."
        )
    if positions is not given:  # a list was given
        return xp.asarray(positions, device=x.device)
    own, library = library_of(namespace_of(positions)), library_of(xp)
    if own != library:
        raise DTypeError(
            f"x is a {library} array and positions a {own} array: all must come from one library. "
            "Convert one of them."
        )
    if positions.device != x.device:
        raise DTypeError(
            f"x is on {x.device} and positions on {positions.device}: all must be on one device. "
            "Move one of them."
        )
    return positions


def _check_options(base: Any, rotary_dim: Any, scaling: Any) -> None:
    number_above("rotary: base", base, 1)
    if rotary_dim is not None:
        whole_number("rotary: rotary_dim", rotary_dim, 2)
        if rotary_dim % 2:
            raise ShapeError(
                f"rotary: rotary_dim must be even, since pairs turn; got {rotary_dim}."
            )
    if scaling is not None and not isinstance(scaling, SCALINGS):
        raise InputError(
            "rotary: scaling must be None or one of "
            f"{', '.join(kind.__name__ for kind in SCALINGS)}, as in LinearScaling(factor=2.0); "
            f"got {scaling!r}."
        )


SCALINGS = (LinearScaling, DynamicNTKScaling, YarnScaling, Llama3Scaling)
