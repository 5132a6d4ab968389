"""Step and Trace: the equation, one line at a time, with the numbers that went through it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from atento._errors import InputError
from atento.records.pictured import Pictured

__all__ = ["Step", "Trace"]


@dataclass(frozen=True, repr=False, eq=False)
class Step:
    """One line of the equation.

    Attributes:
        name: what the value is, in the field's words: ``"scores"``, ``"weights"``, …
        formula: the line that made it, such as ``"softmax(masked)"``.
        axes: a name for each axis of the value: ``("head", "query", "key")``.
        value: the array itself, of the library that the inputs came from.

    >>> import numpy as np, atento
    >>> atento.trace(np.eye(2), np.eye(2), np.eye(2))["weights"]
    Step(weights = softmax(scaled); query=2, key=2)
    """

    name: str
    formula: str
    axes: tuple[str, ...]
    value: Any

    def __repr__(self) -> str:
        sizes = ", ".join(
            f"{axis}={size}" for axis, size in zip(self.axes, self.value.shape, strict=True)
        )
        return f"Step({self.name} = {self.formula}; {sizes})"


@dataclass(frozen=True, repr=False, eq=False)
class Trace(Pictured):
    """Every step of one attention, in the order in which it happened.

    A step that did not happen is absent: without a mask there is no ``"masked"``.

    Attributes:
        steps: the steps, in order.
        parameters: what entered beside queries, keys and values, where given: ``"scale"`` (float),
            ``"softcap"`` (float), ``"bias"`` and ``"mask"`` (arrays that broadcast to
            (head, query, key); True = attends), ``"sinks"`` (one number per query head).

    >>> import numpy as np, atento
    >>> x = np.eye(3)
    >>> trace = atento.trace(x, x, x)
    >>> [step.name for step in trace]
    ['queries', 'keys', 'values', 'scores', 'scaled', 'weights', 'output']
    >>> trace["weights"].axes
    ('query', 'key')
    """

    steps: tuple[Step, ...]
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    def __contains__(self, name: object) -> bool:
        return any(step.name == name for step in self.steps)

    def __getitem__(self, name: str) -> Step:
        for step in self.steps:
            if step.name == name:
                return step
        raise InputError(
            f"this trace has no step {name!r}: a step that did not happen is absent. "
            f"It has {', '.join(step.name for step in self.steps)}."
        )

    @property
    def output(self) -> Any:
        """The value of the last step: what attention returns."""
        return self.steps[-1].value

    def __repr__(self) -> str:
        return "\n".join(["Trace(", *(f"  {step!r}," for step in self.steps), ")"])
