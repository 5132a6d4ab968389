"""Which heads of a record are meant, and what they are called."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from atento._arrays import to_numpy
from atento._errors import DTypeError, InputError, ShapeError
from atento.reading.layer import LayerRecord
from atento.reading.recording import Recording
from atento.reading.spans import position
from atento.records import AttentionLayer, Explanation, Trace
from atento.statistics import Survey
from atento.views.figures.heads import Dense, Head, Overviewed, Recorded, seen_of

__all__ = ["Choice", "as_explanation", "heads_of"]

Array = npt.NDArray[Any]
Names = Sequence[str] | None
NOTHING: tuple[tuple[str, ...], Array] = ((), np.zeros((0, 0)))
Layers = list[tuple[int | str | None, LayerRecord]]


@dataclass(frozen=True, eq=False)
class Choice:
    """What was asked for.

    Attributes:
        layer: a number or a name; None: all, or the one that the record would show first.
        head: a number, several, or None.
        batch: of which batch item.
        tokens, key_tokens: names that stand in for those of the record.
    """

    layer: int | str | None = None
    head: int | Iterable[int] | None = None
    batch: int = 0
    tokens: Names = None
    key_tokens: Names = None

    @property
    def heads(self) -> list[int] | None:
        """The heads that were named.

        Raises:
            InputError: it is no number and no list of numbers, or an empty list.
        """
        if self.head is None:
            return None
        numbers = list(self.head) if isinstance(self.head, Iterable) else [self.head]
        whole = [n for n in numbers if hasattr(n, "__index__") and not isinstance(n, bool)]
        if not numbers or len(whole) < len(numbers):
            raise InputError(f"head must be a number or a list of numbers; got {self.head!r}.")
        if len(set(numbers)) < len(numbers):
            raise InputError(f"head names one head twice; got {self.head!r}.")
        return [int(number) for number in numbers]


def heads_of(record: Any, choice: Choice, *, every: bool) -> list[list[Head]]:
    """The heads that are meant, by layer.

    Args:
        record: a Trace, Explanation, LayerRecord, Recording or Survey.
        choice: what was asked for.
        every: whether all heads are meant where none is named. Otherwise the head that an
            explanation shows first, or the only one that there is.

    Raises:
        DTypeError: it is nothing of these.
        InputError: there is no such layer or head, or it has to be said which.
    """
    layers = _heads_of(record, choice, every)
    return [[_renamed(head, choice) for head in heads] for heads in layers]


def _heads_of(record: Any, choice: Choice, every: bool) -> list[list[Head]]:
    if isinstance(record, Explanation | Trace):
        return _of_explanation(as_explanation(record), choice, every)
    if isinstance(record, Survey):
        return [_of_survey(record, choice, every)]
    if isinstance(record, Recording):
        return _of_recording(record, choice, every)
    if isinstance(record, LayerRecord):
        return _of_recording(Recording([record]), choice, every, alone=True)
    raise DTypeError(
        "a figure is drawn of a Trace, an Explanation, a Recording, one of its layers or a Survey; "
        f"got {type(record).__name__}."
    )


def as_explanation(record: Explanation | Trace) -> Explanation:
    """The record as an explanation: with names for tokens, and the head to look at first."""
    if isinstance(record, Explanation):
        return record
    from atento.explanation import explanation_of

    return explanation_of(record)


def _of_explanation(record: Explanation, choice: Choice, every: bool) -> list[list[Head]]:
    _check_batch(choice, 1)
    if not isinstance(choice.layer, int | None) or isinstance(choice.layer, bool):
        raise InputError(f"layer must be a number from 0 on; got {choice.layer!r}.")
    count = len(record.layers)
    numbers = list(range(count))
    if choice.layer is not None:
        numbers = [position("layer", choice.layer, count, "layers")]
    elif not every:
        numbers = [record.layer]
    first = record.head if numbers == [record.layer] else None
    names = record.tokens, record.key_tokens
    made = []
    for number in numbers:
        layer = record.layers[number]
        heads = _chosen_heads(choice, range(layer.heads), every, first, number)
        label = number if count > 1 else None
        made.append([Head(label, h, *names, _dense(layer, h)) for h in heads])
    return made


def _dense(layer: AttentionLayer, head: int) -> Dense:
    steps = {step.name: step.value for step in layer.trace}
    names = list(steps)
    before = names[names.index("weights") - 1]
    seen = seen_of(steps, before)
    return Dense(to_numpy(steps["weights"])[head], None if seen is None else seen[head])


def _of_recording(
    record: Recording, choice: Choice, every: bool, *, alone: bool = False
) -> list[list[Head]]:
    if not len(record):
        raise InputError("this recording has no layers: run the model inside atento.capture.")
    layers: Layers = list(enumerate(record))
    if alone:
        layers = [(layers[0][1].layer, layers[0][1])]
        if choice.layer is not None:
            raise InputError("layer= chooses a layer of a recording, and this is one already.")
    elif choice.layer is not None:
        one = record[choice.layer]
        layers = [pair for pair in layers if pair[1] is one]
    elif not every and len(layers) > 1:
        raise InputError(
            f"there are {len(layers)} layers: say which with layer=, a number or a name."
        )
    roles = _roles(one for _, one in layers)
    return [
        [_recorded(one, label, head, choice, record, roles)
         for head in _chosen_heads(choice, one.head_numbers, every, None, label)]
        for label, one in layers
    ]  # fmt: skip


def _roles(layers: Iterable[LayerRecord]) -> dict[tuple[str, int], str]:
    rows = Recording(list(layers)).summary()
    return {(row["layer"], row["head"]): row["role"] for row in rows}


def _recorded(
    layer: LayerRecord,
    label: int | str | None,
    head: int,
    choice: Choice,
    record: Recording,
    roles: Mapping[tuple[str, int], str],
) -> Head:
    batch = _check_batch(choice, layer.batch)
    at = layer.head_numbers.index(head)
    statistics = {
        name: (axes[1], np.asarray(layer.statistics[name][batch, at]))
        for name, axes in layer.axes.items()
        if name in layer.statistics and axes in (("head", "query"), ("head", "key"))
    }
    names = _tokens(record.tokens, layer, batch)
    role = roles.get((layer.layer, head))
    source = Recorded(layer, head, batch)
    return Head(label, head, *names, source, role, statistics, layer.first_query)


def _tokens(names: Any, layer: LayerRecord, batch: int) -> tuple[Names, Names]:
    """The recording's tokens as queries and as keys of a layer, where they are these."""
    if names and isinstance(names[0], list):
        names = names[batch] if batch < len(names) else []
    first, queries, keys = layer.first_query, layer.queries, layer.keys
    own = names[first : first + queries] if len(names) == first + queries else names
    return (
        own if len(own) == queries else None,
        names if len(names) == keys and layer.kind == "self" else None,
    )


def _of_survey(record: Survey, choice: Choice, every: bool) -> list[Head]:
    if choice.layer is not None:
        raise InputError("layer= chooses a layer of a recording; a survey is of one.")
    lse = to_numpy(record.lse)
    leading = lse.shape[:-1]
    batch = _check_batch(choice, leading[-2] if len(leading) > 1 else 1)
    if len(leading) > 2:
        raise InputError(
            f"a figure takes a survey with the axes (batch, head, query); got {lse.shape} numbers."
        )
    count = leading[-1] if leading else 1
    index = {"batch": batch}
    made = []
    for head in _chosen_heads(choice, range(count), every, None, None):
        taken = {name: _taken(record, name, {**index, "head": head}) for name in record}
        statistics = {
            name: (axes[0], values)
            for name, (axes, values) in taken.items()
            if axes in (("query",), ("key",))
        }
        lengths = lse.shape[-1], _keys(taken, lse.shape[-1])
        mean, largest = (taken.get(f"overview_{pool}", NOTHING)[1] for pool in ("mean", "max"))
        source = Overviewed(mean, largest, lengths)
        made.append(Head(None, head, None, None, source, None, statistics))
    return made


def _taken(record: Survey, name: str, index: Mapping[str, int]) -> tuple[tuple[str, ...], Array]:
    """One batch item's and one head's part of a statistic, and its axes then."""
    axes, values = record.axes[name], to_numpy(record[name])
    part = tuple(index[axis] if axis in index else slice(None) for axis in axes)
    return tuple(axis for axis in axes if axis not in index), values[part]


def _keys(taken: Mapping[str, tuple[tuple[str, ...], Array]], otherwise: int) -> int:
    lengths = [values.shape[0] for axes, values in taken.values() if axes == ("key",)]
    return lengths[0] if lengths else otherwise


def _chosen_heads(
    choice: Choice,
    there: Sequence[int],
    every: bool,
    first: int | None,
    layer: int | str | None,
) -> list[int]:
    where = "" if layer is None else f" in layer {layer!r}"
    asked = choice.heads
    if asked is None and every:
        return list(there)
    if asked is None and (first is not None or len(there) == 1):
        return [there[0] if first is None else first]
    if asked is None:
        raise InputError(f"there are {len(there)} heads{where}: say which with head=.")
    return [_one_head(number, there, where) for number in asked]


def _one_head(number: int, there: Sequence[int], where: str) -> int:
    """The head of that number; negative ones count from the end."""
    if number in there:
        return number
    if -len(there) <= number < 0:
        return there[number]
    plain = list(there) == list(range(len(there)))
    named = f"0 to {len(there) - 1}" if plain and len(there) > 1 else ", ".join(map(str, there))
    raise InputError(f"there is no head {number}{where}: there {_are(there)} {named}.")


def _are(there: Sequence[int]) -> str:
    return "are heads" if len(there) > 1 else "is head"


def _check_batch(choice: Choice, count: int) -> int:
    return position("batch", choice.batch, count, "batch items")


def _renamed(head: Head, choice: Choice) -> Head:
    """The head with the names that were given for its tokens."""
    queries, keys = head.source.lengths
    if choice.tokens is None and choice.key_tokens is None:
        return head
    tokens = _checked("tokens", choice.tokens, queries, "queries")
    key_tokens = _checked("key_tokens", choice.key_tokens, keys, "keys")
    if key_tokens is None and queries == keys and head.tokens == head.key_tokens:
        key_tokens = tokens
    return replace(head, tokens=tokens or head.tokens, key_tokens=key_tokens or head.key_tokens)


def _checked(argument: str, names: Names, count: int, what: str) -> Names:
    if names is None:
        return None
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{argument} must be a list of str, one for each of the {count} {what}.")
    if len(names) != count:
        raise ShapeError(
            f"{argument} must hold one name for each of the {count} {what}; got {len(names)}."
        )
    return list(names)
