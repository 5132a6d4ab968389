"""Whether the arrays of a layer fit together."""

from collections.abc import Mapping, Sequence

from atento._errors import ShapeError

__all__ = ["check_numbers", "check_shapes"]


def check_shapes(
    layer: str,
    arrays: Mapping[str, tuple[int, ...]],
    statistics: Mapping[str, tuple[int, ...]],
    axes: Mapping[str, tuple[str, ...]],
) -> None:
    """See that arrays of these shapes belong to one layer.

    Args:
        layer: its name, for messages.
        arrays: the shapes of "lse", and of "query" and "key" where they were kept.
        statistics: the shape of each.
        axes: the axes of each, without batch.

    Raises:
        ShapeError: which one does not fit.
    """
    where = f"layer {layer!r}: "
    lse = arrays["lse"]
    if len(lse) != 3:
        raise ShapeError(f"{where}lse must have the axes (batch, head, query); got shape {lse}.")
    B, H, Tq = lse
    sizes = {"head": H, "query": Tq}
    if ("query" in arrays) != ("key" in arrays):
        raise ShapeError(f"{where}query and key are kept both or neither.")
    if "query" in arrays:
        query, key = arrays["query"], arrays["key"]
        if len(query) != 4 or query[:3] != lse:
            raise ShapeError(
                f"{where}query must be (batch, head, query, feature) with lse's {lse} in front; "
                f"got {query}."
            )
        if len(key) != 4 or key[0] != B or key[3] != query[3] or not key[1] or H % key[1]:
            raise ShapeError(
                f"{where}key must be (batch, key head, key, feature) that fits query {query}, "
                f"with query heads a multiple of key heads; got {key}."
            )
        sizes["key"] = key[2]
    for name, shape in statistics.items():
        if name not in axes:
            raise ShapeError(f"{where}the axes of the statistic {name!r} are not said.")
        if len(shape) != 1 + len(axes[name]) or shape[0] != B:
            raise ShapeError(
                f"{where}the statistic {name!r} must have the axes (batch, "
                f"{', '.join(axes[name])}) for {B} batch items; got shape {shape}."
            )
        for axis, size in zip(axes[name], shape[1:], strict=True):
            # The first that has keys says how many, where the keys themselves were not kept.
            expected = sizes.setdefault(axis, size) if axis == "key" else sizes.get(axis, size)
            if size != expected:
                raise ShapeError(
                    f"{where}the statistic {name!r} has size {size} on its axis {axis}, where "
                    f"{expected} was expected."
                )


def check_numbers(layer: str, numbers: Sequence[int], heads: int, bin_width: int | None) -> None:
    """See that each head has one number of its own, and that bins are a power of two wide.

    Raises:
        ShapeError: which of them does not fit.
    """
    if len(numbers) != heads or len(set(numbers)) != heads:
        raise ShapeError(
            f"layer {layer!r}: head_numbers must be {heads} different numbers, one for each head; "
            f"got {tuple(numbers)}."
        )
    if bin_width is not None and (bin_width < 1 or bin_width & (bin_width - 1)):
        raise ShapeError(f"layer {layer!r}: bin_width must be a power of two; got {bin_width}.")
