"""T5's relative bias: one learned number per head and bucket of distances."""

from dataclasses import dataclass
from types import ModuleType
from typing import Any

from atento._alignment import Align, check_align, key_offset
from atento._arrays import dtype_name
from atento._errors import DTypeError, InputError, ShapeError
from atento.positions.checks import lengths, whole_number
from atento.positions.distance_bias import DistanceBias
from atento.positions.namespace import as_array, as_float_array, check_with_query, namespace_of
from atento.positions.rule_shape import distances, per_head

__all__ = ["RelativeBias", "relative_bias", "relative_buckets"]


@dataclass(frozen=True, eq=False)
class RelativeBias:
    """The bias ``table[bucket(j − i), head]``: near distances one by one, far ones in groups.

    Goes as ``bias=`` into `atento.attention` and as ``position=`` into the modules. Gradients
    flow into the table.

    Args:
        table: (num_buckets, head), of the library of the queries.
        bidirectional: half of the buckets are for keys after the query. False: all of those share
            the bucket of distance 0, as behind a causal mask.
        max_distance: from here on all distances share the last bucket.
        align: where query 0 stands when there are more or fewer queries than keys: ``"start"``,
            at key 0; ``"end"``, so that the last query stands at the last key.

    Raises:
        ShapeError: when the table is not two-dimensional.
        DTypeError: when its elements are no floating-point numbers.
        InputError: when its number of buckets and max_distance do not fit together.

    Source: Raffel et al. 2019 (arXiv 1910.10683), section 2.1.
    """

    table: Any
    bidirectional: bool = True
    max_distance: int = 128
    align: Align = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "table", as_float_array("RelativeBias: table", self.table))
        if self.table.ndim != 2:
            raise ShapeError(
                "RelativeBias: table must have the axes (num_buckets, head); got shape "
                f"{tuple(self.table.shape)}."
            )
        _check_buckets("RelativeBias", self.table.shape[0], self.bidirectional, self.max_distance)
        check_align("RelativeBias", self.align)

    def aligned(self, align: Align) -> "RelativeBias":
        """The same rule, its alignment fixed if it was left open."""
        if self.align is not None:
            return self
        return RelativeBias(self.table, self.bidirectional, self.max_distance, align)

    def bind(self, shape: tuple[int, ...], xp: ModuleType, device: Any, dtype: Any) -> DistanceBias:
        """The bias for weights of this shape (..., head, query, key), in this library and dtype.

        Raises:
            ShapeError: when the weights have another number of heads, or the lengths differ and
                no alignment is said.
            DTypeError: when the table is of another library, or on another device.
        """
        num_buckets, num_heads = self.table.shape
        check_with_query("the table of RelativeBias", self.table, xp, device)
        *_, Tq, Tk = shape
        offset = key_offset(self, self.align, Tq, Tk)
        buckets = relative_buckets(
            distances(xp, device, None, Tq, Tk, offset),
            num_buckets,
            bidirectional=self.bidirectional,
            max_distance=self.max_distance,
        )
        values = xp.matrix_transpose(xp.take(self.table, buckets, axis=0))  # (head, distance)
        return DistanceBias(per_head(self, values, num_heads, shape, xp, dtype), (Tq, Tk))

    def __repr__(self) -> str:
        options = "" if self.bidirectional else ", bidirectional=False"
        options += "" if self.max_distance == 128 else f", max_distance={self.max_distance}"
        options += "" if self.align is None else f", align={self.align!r}"
        return f"RelativeBias(table {tuple(self.table.shape)}{options})"


def relative_bias(
    table: Any,
    query_length: int,
    key_length: int | None = None,
    *,
    bidirectional: bool = True,
    max_distance: int = 128,
    align: Align = None,
) -> Any:
    """T5's bias as an array: ``bias[h, i, j] = table[bucket(j − i), h]``.

    `RelativeBias` is the same as a rule that engines evaluate block by block.

    Args:
        table: (num_buckets, head), of any array library.
        query_length: Tq.
        key_length: Tk; as many as queries when left out.
        bidirectional: half of the buckets are for keys after the query; True in an encoder.
        max_distance: from here on all distances share the last bucket.
        align: where query 0 stands when the lengths differ: ``"start"`` or ``"end"``.

    Returns:
        (head, query, key), in the library and dtype of the table.

    Raises:
        ShapeError, DTypeError, InputError: what was expected and what came.

    Source: Raffel et al. 2019 (arXiv 1910.10683), section 2.1.

    >>> table = [[0.0], [-1.0], [-2.0], [7.0], [1.0], [2.0]]  # the first half: keys before
    >>> relative_bias(table, 4, max_distance=3)[0]
    array([[ 0.,  1.,  2.,  2.],
           [-1.,  0.,  1.,  2.],
           [-2., -1.,  0.,  1.],
           [-2., -2., -1.,  0.]])
    """
    rule = RelativeBias(table, bidirectional, max_distance, align)
    Tq, Tk = lengths("relative_bias", query_length, key_length)
    table = rule.table
    return rule.bind(
        (table.shape[1], Tq, Tk), namespace_of(table), table.device, table.dtype
    ).dense()


def relative_buckets(
    distance: Any,
    num_buckets: int = 32,
    *,
    bidirectional: bool = True,
    max_distance: int = 128,
) -> Any:
    """The bucket of each distance ``key − query``.

    With B buckets to a side (all of them, or half when bidirectional) and E = B // 2: distances
    n < E have a bucket each, and beyond them
    ``bucket = E + ⌊ (B − E) · log(n / E) / log(max_distance / E) ⌋``, at most B − 1. The floor is
    found in whole numbers, so no library's logarithm can move a boundary.

    Args:
        distance: whole numbers, of any shape and library: negative where the key comes first.
        num_buckets: how many buckets there are.
        bidirectional: buckets B … 2 B − 1 are for keys after the query. False: those go to 0.
        max_distance: from here on all distances share the last bucket.

    Returns:
        The shape of ``distance``; 64-bit integers.

    Raises:
        DTypeError: when a distance is no whole number.
        InputError: when num_buckets and max_distance do not fit together.

    Source: Raffel et al. 2019 (arXiv 1910.10683), section 2.1; the formula is that of their code,
    ``_relative_position_bucket`` in Mesh TensorFlow.

    >>> relative_buckets([-200, -9, -1, 0, 1, 9, 200])
    array([15,  8,  1,  0, 17, 24, 31])
    """
    _check_buckets("relative_buckets", num_buckets, bidirectional, max_distance)
    distance = as_array(distance)
    xp, kind = namespace_of(distance), dtype_name(distance)
    if not kind.startswith(("int", "uint")):
        raise DTypeError(
            f"relative_buckets: distance must hold whole numbers (key − query); got {kind}."
        )
    distance = xp.astype(distance, xp.int64)
    per_side = num_buckets // 2 if bidirectional else num_buckets
    begins = xp.asarray(
        _bucket_begins(per_side, max_distance), dtype=xp.int64, device=distance.device
    )
    if bidirectional:
        side = xp.astype(distance > 0, xp.int64) * per_side
        return side + xp.searchsorted(begins, xp.abs(distance), side="right")
    before = -distance * xp.astype(distance < 0, xp.int64)
    return xp.searchsorted(begins, before, side="right")


def _bucket_begins(per_side: int, max_distance: int) -> list[int]:
    """The least distance of each bucket after the first.

    Bucket E + k begins at the least n with ``(n / E)^L >= (max_distance / E)^k``, L = B − E.
    """
    E = per_side // 2
    L = per_side - E
    begins = list(range(1, E + 1))
    for k in range(1, L):
        n = max(int(E * (max_distance / E) ** (k / L)) - 1, E)  # floats come near; whole numbers do
        while n**L * E**k < max_distance**k * E**L:
            n += 1
        begins.append(n)
    return begins


def _check_buckets(who: str, num_buckets: Any, bidirectional: bool, max_distance: Any) -> None:
    whole_number(f"{who}: num_buckets", num_buckets, 1)
    whole_number(f"{who}: max_distance", max_distance, 1)
    if num_buckets < (4 if bidirectional else 2) or (bidirectional and num_buckets % 2):
        wanted = "an even number, at least 4: half for each side" if bidirectional else "at least 2"
        raise InputError(
            f"{who}: with bidirectional={bidirectional} the number of buckets must be {wanted}; "
            f"got {num_buckets}."
        )
    exact = num_buckets // 4 if bidirectional else num_buckets // 2
    if max_distance <= exact:
        raise InputError(
            f"{who}: {num_buckets} buckets hold the distances up to {exact} one by one, so "
            f"max_distance must be more; got {max_distance}."
        )
