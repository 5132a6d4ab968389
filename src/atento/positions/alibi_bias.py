"""ALiBi: attention with linear biases, in which a key counts less the farther away it is."""

from dataclasses import dataclass
from math import log2
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from atento._alignment import Align, check_align, key_offset
from atento.positions.checks import lengths, whole_number
from atento.positions.distance_bias import DistanceBias
from atento.positions.rule_shape import distances, per_head

__all__ = ["Alibi", "alibi", "alibi_slopes"]


@dataclass(frozen=True)
class Alibi:
    """The bias ``−slope · |i − j|``, with a slope of its own for each head.

    Goes as ``bias=`` into `atento.attention` and as ``position=`` into the modules.

    Args:
        num_heads: how many query heads; the slopes are `alibi_slopes` of it.
        align: where query 0 stands when there are more or fewer queries than keys: ``"start"``,
            at key 0; ``"end"``, so that the last query stands at the last key.
        symmetric: True: a key after the query is as far as one before it. False:
            ``slope · (j − i)`` on both sides, which grows after the query; under a causal mask
            both are the paper's, and this is what Bloom adds (up to a constant per query).

    Raises:
        InputError: when num_heads is no positive whole number.

    Source: Press, Smith & Lewis 2021 (arXiv 2108.12409), section 3.

    >>> Alibi(2).bind((2, 3, 3), np, "cpu", np.float64).dense()[0]
    array([[ 0.    , -0.0625, -0.125 ],
           [-0.0625, 0.    , -0.0625],
           [-0.125 ,  -0.0625, 0.    ]])
    """

    num_heads: int
    align: Align = None
    symmetric: bool = True

    def __post_init__(self) -> None:
        whole_number("Alibi: num_heads", self.num_heads, 1)
        check_align("Alibi", self.align)

    def aligned(self, align: Align) -> "Alibi":
        """The same rule, its alignment fixed if it was left open."""
        return self if self.align is not None else Alibi(self.num_heads, align, self.symmetric)

    def bind(self, shape: tuple[int, ...], xp: ModuleType, device: Any, dtype: Any) -> DistanceBias:
        """The bias for weights of this shape (..., head, query, key), in this library and dtype.

        Raises:
            ShapeError: when the weights have another number of heads, or the lengths differ and
                no alignment is said.
        """
        *_, Tq, Tk = shape
        offset = key_offset(self, self.align, Tq, Tk)
        j_minus_i = distances(xp, device, dtype, Tq, Tk, offset)
        slopes = xp.asarray(_slopes(self.num_heads), dtype=j_minus_i.dtype, device=device)
        by_distance = 0 - xp.abs(j_minus_i) if self.symmetric else j_minus_i
        values = xp.expand_dims(slopes, axis=-1) * by_distance  # (head, distance)
        return DistanceBias(
            per_head(self, values, self.num_heads, shape, xp, dtype),
            (Tq, Tk),
        )

    def __repr__(self) -> str:
        align = "" if self.align is None else f", align={self.align!r}"
        return f"Alibi({self.num_heads}{align}{'' if self.symmetric else ', symmetric=False'})"


def alibi(
    num_heads: int,
    query_length: int,
    key_length: int | None = None,
    *,
    align: Align = None,
    symmetric: bool = True,
) -> npt.NDArray[np.float64]:
    """ALiBi's bias as an array: ``bias[h, i, j] = −slope[h] · |i − j|``.

    `Alibi` is the same as a rule that engines evaluate block by block.

    Args:
        num_heads: how many query heads.
        query_length: Tq.
        key_length: Tk; as many as queries when left out.
        align: where query 0 stands when the lengths differ: ``"start"`` or ``"end"``.
        symmetric: False: ``slope · (j − i)`` on both sides; see `Alibi`.

    Returns:
        (head, query, key), NumPy float64.

    Raises:
        InputError: for lengths or heads that are no whole numbers.
        ShapeError: when the lengths differ and no alignment is said.

    Source: Press, Smith & Lewis 2021 (arXiv 2108.12409), section 3.

    >>> alibi(4, 1, 3, align="end")[:, 0]
    array([[-0.5       , -0.25      , 0.        ],
           [-0.125     , -0.0625    , 0.        ],
           [-0.03125   , -0.015625  , 0.        ],
           [-0.0078125 , -0.00390625, 0.        ]])
    """
    rule = Alibi(num_heads, align, symmetric)
    Tq, Tk = lengths("alibi", query_length, key_length)
    dense: npt.NDArray[np.float64] = rule.bind((num_heads, Tq, Tk), np, "cpu", np.float64).dense()
    return dense


def alibi_slopes(num_heads: int) -> npt.NDArray[np.float64]:
    """The slope of each head: ``2^(−8 h / n)`` for h = 1 … n, where n = num_heads is a power of 2.

    For other head counts, as in the paper's own code: the slopes for the next lower power of 2,
    then every other one of those for the next higher.

    Args:
        num_heads: n.

    Returns:
        (head,), NumPy float64.

    Raises:
        InputError: when num_heads is no positive whole number.

    Source: Press, Smith & Lewis 2021 (arXiv 2108.12409), section 3, and ``get_slopes`` in
    github.com/ofirpress/attention_with_linear_biases.

    >>> alibi_slopes(4)
    array([0.25      , 0.0625    , 0.015625  , 0.00390625])
    """
    return np.asarray(_slopes(whole_number("alibi_slopes: num_heads", num_heads, 1)))


def _slopes(num_heads: int) -> list[float]:
    n = 2 ** int(log2(num_heads))
    slopes = [2.0 ** (-8 * h / n) for h in range(1, n + 1)]
    between = [2.0 ** (-4 * h / n) for h in range(1, 2 * n, 2)]
    return slopes + between[: num_heads - n]
