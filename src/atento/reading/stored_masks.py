"""Masks and biases on disk: a rule is JSON, and its arrays go to the file's own."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from atento._arrays import to_numpy
from atento._errors import InputError, ShapeError
from atento.masks import ALL, NONE, Causal, Coverage, Explicit, Mask, Prefix, Window
from atento.masks.band import Band
from atento.masks.mask import Both, Either, Not, Tile
from atento.masks.segments import _SameSegment
from atento.positions.distance_bias import DistanceBias
from atento.reading.growth import StackedBias, StackedMask

__all__ = ["Intervals", "MaskWriter", "read_bias", "read_mask", "say_bias"]

Array = npt.NDArray[Any]

MOST_BYTES = 2**30
"""Pairs stored as bits take at most this much."""

AT_ONCE = 2**22
"""Pairs of a mask that are looked at together."""


class Intervals(Mask):
    """Query i attends to the keys from starts[i] up to but not including stops[i].

    Args:
        starts, stops: whole numbers (query,) or (batch, head, query), sizes of 1 for all alike.
    """

    def __init__(self, starts: Array, stops: Array) -> None:
        self.starts, self.stops = starts, stops

    @property
    def leading(self) -> tuple[int, ...]:
        """The (batch, head) sizes; 1 where it does not vary."""
        return tuple(self.starts.shape[:-1])

    def bind(self, shape: tuple[int, ...] | None) -> Mask:
        """Itself, when it is of that many queries: it was bound when it was stored."""
        own = (self.starts.shape, self.stops.shape)
        if shape is not None and any(ends[-1:] != (shape[-2],) for ends in own):
            raise ShapeError(f"{self!r} is not of {shape[-2]} queries.")
        return self

    def at(self, index: tuple[int, ...]) -> Mask:
        """The intervals of one (batch, head)."""
        where = tuple(0 if size == 1 else i for i, size in zip(index, self.leading, strict=True))
        return Intervals(self.starts[where], self.stops[where])

    def coverage(self, rows: range, cols: range) -> Coverage | None:
        """ALL or NONE, from the ends alone."""
        if not rows or not cols:
            return NONE
        starts, stops = (x[..., rows.start : rows.stop] for x in (self.starts, self.stops))
        if (starts <= cols[0]).all() and (stops > cols[-1]).all():
            return ALL
        if ((starts > cols[-1]) | (stops <= cols[0]) | (starts >= stops)).all():
            return NONE
        return None

    def pairs(self, lengths: tuple[int, int], xp: Any, device: Any) -> Any:
        """All pairs at once."""
        return xp.asarray(self._evaluate(range(lengths[0]), range(lengths[1])), device=device)

    def _evaluate(self, rows: range, cols: range) -> Tile:
        key = np.arange(cols.start, cols.stop)
        own = slice(rows.start, rows.stop)
        seen: npt.NDArray[np.bool_] = (key >= self.starts[..., own, None]) & (
            key < self.stops[..., own, None]
        )
        return seen

    def __repr__(self) -> str:
        return f"Intervals({tuple(self.starts.shape)})"


class MaskWriter:
    """Turns a bound mask into JSON, and hands its arrays to ``keep``, which names them."""

    def __init__(self, shape: tuple[int, ...], layer: str, keep: Callable[[Array], str]) -> None:
        self.shape, self.layer, self.keep = shape, layer, keep

    def whole(self, mask: Mask | None) -> Any:
        """The mask of a layer; as intervals where a part of it is a function and they say it."""
        if mask is None or _is_known(mask):
            return self.rule(mask)
        intervals = _intervals(mask, self.shape)
        return self.rule(mask) if intervals is None else self.rule(intervals)

    def rule(self, mask: Mask | None) -> Any:
        """What is said of a mask whose rules are known, as JSON."""
        match mask:
            case None:
                return None
            case Band():
                rule = mask.rule if isinstance(mask.rule, Causal | Window) else None
                return {"band": [mask.first, mask.last], "rule": self.rule(rule)}
            case Causal():
                return {"causal": mask.align}
            case Window():
                return {"window": [mask.left, mask.right, mask.align]}
            case Prefix():
                return {"prefix": mask.n}
            case Intervals():
                return {"intervals": [self.keep(mask.starts), self.keep(mask.stops)]}
            case _SameSegment():
                ids = (mask.query_ids, mask.key_ids)
                return {"segments": [self.keep(to_numpy(each)) for each in ids]}
            case Both() | Either() | Not():
                return self._combined(mask)
            case StackedMask():
                return {"stacked": [[*part[:3], self._part(part)] for part in mask.parts]}
            case Explicit():
                pairs = to_numpy(mask.array)
                self._check_size(pairs.shape)
                return self._bits(np.packbits(pairs, axis=-1), pairs.shape)
        shape = (*_two(mask.leading), *self.shape[2:])
        self._check_size(shape)
        blocks = [_packed(one, (shape[-2], shape[-1])) for one in _each(mask)]
        return self._bits(np.stack(blocks), shape)

    def _combined(self, mask: Both | Either | Not) -> Any:
        if isinstance(mask, Not):
            return {"not": self.rule(mask.rule)}
        sign = "and" if isinstance(mask, Both) else "or"
        return {sign: [self.rule(mask.first), self.rule(mask.second)]}

    def _part(self, part: tuple[int, int, int, Mask | None]) -> Any:
        _, rows, keys, mask = part
        return MaskWriter((*self.shape[:2], rows, keys), self.layer, self.keep).whole(mask)

    def _bits(self, bits: Array, shape: tuple[int, ...]) -> Any:
        return {"bits": self.keep(bits.reshape(*shape[:-1], -1)), "keys": int(shape[-1])}

    def _check_size(self, shape: tuple[int, ...]) -> None:
        size = int(np.prod(shape[:-1], dtype=object)) * -(-shape[-1] // 8)
        if size > MOST_BYTES:
            raise InputError(
                f"the mask of layer {self.layer!r} is a function or an array, so its pairs would "
                f"be stored one by one: {size / 1e9:.1f} GB. Write it with the rules of "
                "atento.masks (Causal, Window, Segments, Prefix, ...), record fewer layers, or a "
                "shorter text."
            )


def _is_known(mask: Mask) -> bool:
    """Whether the mask is made of rules that can be stored."""
    match mask:
        case Both() | Either():
            return _is_known(mask.first) and _is_known(mask.second)
        case Not():
            return _is_known(mask.rule)
    # A stacked mask looks at its parts itself.
    kinds = (Band, Causal, Window, Prefix, Intervals, Explicit, _SameSegment, StackedMask)
    return isinstance(mask, kinds)


def _two(leading: tuple[int, ...]) -> tuple[int, ...]:
    return (1,) * (2 - len(leading)) + tuple(leading)


def _each(mask: Mask) -> Iterator[Mask]:
    """The mask of every (batch, head) that it tells apart."""
    for index in np.ndindex(*_two(mask.leading)):
        yield mask.at(index)


def _row_blocks(mask: Mask, lengths: tuple[int, int]) -> Iterator[npt.NDArray[np.bool_]]:
    """The pairs of one (batch, head), some rows at a time."""
    Tq, Tk = lengths
    step = max(1, AT_ONCE // max(Tk, 1))
    for start in range(0, Tq, step):
        rows = range(start, min(start + step, Tq))
        tile = mask.block(rows, range(Tk))
        if isinstance(tile, Coverage):
            tile = np.full((len(rows), Tk), tile.value)
        yield np.broadcast_to(tile, (len(rows), Tk))


def _packed(mask: Mask, lengths: tuple[int, int]) -> Array:
    """The pairs of one (batch, head) as bits: (query, bytes)."""
    blocks = [np.packbits(block, axis=-1) for block in _row_blocks(mask, lengths)]
    return np.concatenate(blocks) if blocks else np.zeros((0, -(-lengths[1] // 8)), np.uint8)


def _intervals(mask: Mask, shape: tuple[int, ...]) -> Intervals | None:
    """The mask as intervals, or None where some query's keys are more than one."""
    leading = _two(mask.leading)
    ends = []
    for one in _each(mask):
        own = []
        for block in _row_blocks(one, (shape[2], shape[3])):
            count = block.sum(axis=1)
            first = block.argmax(axis=1) if block.shape[1] else count
            last = block.shape[1] - (block[:, ::-1].argmax(axis=1) if block.shape[1] else count)
            seen = count > 0
            if (count != last - first)[seen].any():
                return None
            own.append(np.stack([np.where(seen, first, 0), np.where(seen, last, 0)]))
        ends.append(np.concatenate(own, axis=1) if own else np.zeros((2, 0), np.int64))
    starts, stops = np.stack(ends, axis=1).reshape(2, *leading, shape[2]).astype(np.int64)
    for axis in (0, 1):
        if all((x == x.take([0], axis)).all() for x in (starts, stops)):
            starts, stops = (x.take([0], axis) for x in (starts, stops))
    return Intervals(starts, stops)


def read_mask(said: Any, read: Callable[[str], Array]) -> Mask | None:
    """The mask that `MaskWriter` said."""
    if said is None:
        return None
    kind = next(iter(said))
    value = said[kind]
    match kind:
        case "band":
            rule = read_mask(said["rule"], read)
            return Band(value[0], value[1], Causal() if rule is None else rule)
        case "causal":
            return Causal(value)
        case "window":
            return Window(*value)
        case "prefix":
            return Prefix(value)
        case "intervals":
            return Intervals(*(read(name) for name in value))
        case "segments":
            return _SameSegment(*(read(name) for name in value))
        case "bits":
            return Explicit(np.unpackbits(read(value), axis=-1, count=said["keys"]).astype(bool))
        case "not":
            return Not(_some(read_mask(value, read)))
        case "and" | "or":
            first, second = (_some(read_mask(each, read)) for each in value)
            return Both(first, second) if kind == "and" else Either(first, second)
        case "stacked":
            return StackedMask((*part[:3], read_mask(part[3], read)) for part in value)
    raise ValueError(kind)


def _some(mask: Mask | None) -> Mask:
    if mask is None:
        raise ValueError("a rule is missing")
    return mask


# Biases: arrays, distances, or several below each other.


def say_bias(bias: Any, keep: Callable[[Array], str]) -> Any:
    """A bias as JSON; ``keep`` takes an array and says its name."""
    if bias is None:
        return None
    if isinstance(bias, StackedBias):
        return {"stacked": [[*part[:3], say_bias(part[3], keep)] for part in bias.parts]}
    if isinstance(bias, DistanceBias):
        return {"distances": keep(to_numpy(bias.values)), "lengths": list(bias.lengths)}
    return {"array": keep(np.asarray(bias))}


def read_bias(said: Any, read: Callable[[str], Array]) -> Any:
    """The bias of which `say_bias` spoke; ``read`` knows arrays by name."""
    if said is None:
        return None
    if "stacked" in said:
        return StackedBias((*part[:3], read_bias(part[3], read)) for part in said["stacked"])
    if "distances" in said:
        Tq, Tk = said["lengths"]
        return DistanceBias(read(said["distances"]), (Tq, Tk))
    return read(said["array"])
