"""Each head of a model changed in turn: several at once where batch items can stand for them."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from atento._errors import InputError
from atento.reading.call import AttentionCall, KnockedOut
from atento.reading.interventions.intervention import Bools, Intervention, Where
from atento.reading.interventions.knock_out import KnockOut
from atento.reading.measuring import Measure
from atento.reading.running_again import run_again
from atento.reading.sweep import Sweep, sweep_from

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from atento.reading.effect import Effect
    from atento.reading.origin import Origin
    from atento.reading.recording import Recording

__all__ = ["sweep_of"]

MOST_TOKENS = 2048
"""So many tokens run together, as batch items, each with another head knocked out."""

NEAR = 1e-4
"""So far a number may be from that of the item alone, relative to 1 + its size, in float32."""


def sweep_of(
    recording: Recording,
    origin: Origin,
    token: int | str | None,
    position: int,
    of: Callable[[Any], Any] | None,
    batch: int,
    with_: Callable[[str, int], Any] | None,
    progress: bool | Callable[[int, int], None] | None,
) -> Sweep:
    """The effect of each head in turn; see `Recording.sweep`."""
    if not len(recording):
        raise InputError("nothing was recorded: there are no heads to change.")
    measure = Measure(recording, run_again(origin), token, position, of, batch)
    heads = [(layer.layer, head) for layer in recording for head in layer.head_numbers]
    together = _Together.of(recording, origin, measure) if with_ is None and of is None else None
    found: list[Effect] = []
    with _shown(progress, len(heads)) as advance:
        for some in _in_turn(heads, 1 if together is None else together.count):
            if together is None:
                found.append(_alone(recording, origin, measure, some[0], with_))
            else:
                found.extend(together.effects(some))
            advance(len(found))
    return sweep_from(recording.names, heads, found)


def _in_turn(heads: list[tuple[str, int]], count: int) -> Iterator[list[tuple[str, int]]]:
    """The heads, some of one layer at a time."""
    some: list[tuple[str, int]] = []
    for each in heads:
        if some and (len(some) == count or each[0] != some[0][0]):
            yield some
            some = []
        some.append(each)
    if some:
        yield some


def _alone(
    recording: Recording,
    origin: Origin,
    measure: Measure,
    at: tuple[str, int],
    with_: Callable[[str, int], Any] | None = None,
) -> Effect:
    layer, head = at
    made = KnockOut(_literally(layer), head) if with_ is None else with_(layer, head)
    several = (made,) if isinstance(made, Intervention) else tuple(made)
    return measure.effect(several, run_again(origin, several, recording.names))


def _literally(layer: str) -> str:
    """The name as a pattern that means it alone."""
    return layer.replace("[", "[[]") if "[" in layer else layer


class _OnePerItem(Intervention):
    """Batch item i without its head heads[i]."""

    def __init__(self, layer: str, knocked: Sequence[int]) -> None:
        super().__init__(_literally(layer))
        self.knocked = tuple(knocked)

    def _apply(self, call: AttentionCall, chosen: Bools, where: Where) -> AttentionCall:
        del where
        if max(self.knocked) >= len(chosen) or call.query.shape[0] < len(self.knocked):
            raise InputError(f"there are no heads {self.knocked} in a batch of that size.")
        out = tuple(KnockedOut((head,), "zero", i) for i, head in enumerate(self.knocked))
        return replace(call, knocked_out=(*call.knocked_out, *out))


class _Together:
    """One batch item of what the model was called with, as several, each with its own head less.

    Args:
        recording, origin, measure: of the model.
        size: how many batch items it was called with.
        count: how many copies run together.
    """

    def __init__(
        self, recording: Recording, origin: Origin, measure: Measure, size: int, count: int
    ) -> None:
        self.recording, self.origin, self.measure = recording, origin, measure
        self.size, self.count = size, count

    @staticmethod
    def of(recording: Recording, origin: Origin, measure: Measure) -> _Together | None:
        """None where copies cannot be made, or are not computed as the item alone is."""
        first = recording[0]
        longest = max(layer.queries for layer in recording)
        most = max(len(layer.head_numbers) for layer in recording)
        count = min(most, MOST_TOKENS // max(longest, 1))
        if count < 2 or any(layer.batch != first.batch for layer in recording):
            return None
        together = _Together(recording, origin, measure, first.batch, count)
        return together if together._agrees() else None

    def _agrees(self) -> bool:
        """Whether two copies, one with a head less, say what they say alone."""
        call, at = self._call(2), (self.recording[-1].layer, self.recording[-1].head_numbers[-1])
        if call is None:
            return False
        alone = _alone(self.recording, self.origin, self.measure, at).after
        before = self.measure.before
        try:
            plain = run_again(self.origin, call=call)
            changed = run_again(self.origin, _OnePerItem(at[0], [at[1]]), call=call)
            found = [self.measure.value(plain, 0), self.measure.value(plain, 1)]
            found += [self.measure.value(changed, 1), self.measure.value(changed, 0)]
        except (InputError, IndexError, RuntimeError, TypeError, ValueError):
            return False  # a model that takes no other batch
        return all(
            _near(one, other)
            for one, other in zip(found, (before, before, before, alone), strict=True)
        )

    def _call(self, count: int) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """The arguments with so many copies of the item; None where there is no telling."""
        args, kwargs = self.origin.args, self.origin.kwargs
        values = [*args, *kwargs.values()]
        if not any(isinstance(v, torch.Tensor) and self._by_item(v) for v in values):
            return None
        if any(isinstance(v, list | tuple | dict) for v in values):
            return None  # what is in there is not known
        return (
            tuple(self._copies(value, count) for value in args),
            {name: self._copies(value, count) for name, value in kwargs.items()},
        )

    def _by_item(self, tensor: torch.Tensor) -> bool:
        return tensor.ndim > 0 and tensor.shape[0] == self.size

    def _copies(self, value: Any, count: int) -> Any:
        if not isinstance(value, torch.Tensor) or not self._by_item(value):
            return value
        item = value[self.measure.batch % self.size]
        return item.expand(count, *item.shape).contiguous()

    def effects(self, heads: list[tuple[str, int]]) -> list[Effect]:
        """Those of some heads of one layer, in one run."""
        layer = heads[0][0]
        knocked = [head for _, head in heads]
        output = run_again(
            self.origin,
            _OnePerItem(layer, knocked),
            self.recording.names,
            self._call(len(heads)),
        )
        return [
            self.measure.effect((KnockOut(layer, head),), output, item)
            for item, head in enumerate(knocked)
        ]


def _near(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        if one.shape != other.shape:
            return False
        return bool(np.linalg.norm(one - other) <= NEAR * (1 + np.linalg.norm(other)))
    return bool(np.allclose(one, other, rtol=NEAR, atol=NEAR))


@contextmanager
def _shown(
    progress: bool | Callable[[int, int], None] | None, total: int
) -> Iterator[Callable[[int], None]]:
    """What is told how many heads are done: a function, a bar on standard error, or nothing."""
    if callable(progress):
        own = progress
        yield lambda done: own(done, total)
    elif progress or (progress is None and sys.stderr.isatty()):
        seen = sys.stderr.isatty()  # elsewhere one line at the end
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True), transient=seen) as bar:
            task = bar.add_task("heads", total=total)
            yield lambda done: bar.update(task, completed=done)
    else:
        yield lambda _done: None
