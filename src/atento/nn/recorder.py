"""One computation, two readings: `forward` lets each step go, `trace` keeps it."""

from typing import Any

from atento.equation import attention, trace
from atento.records import Step, Trace

__all__ = ["SILENT", "Recorder", "Silent"]


class Silent:
    """Keeps nothing: what a module's `forward` runs with."""

    def step(self, name: str, formula: str, axes: tuple[str, ...], value: Any) -> Any:
        """Pass the value on."""
        del name, formula, axes
        return value

    def attend(
        self,
        query: Any,
        key: Any,
        value: Any,
        *,
        last: str = "output",
        one_head: bool = False,
        return_weights: bool = False,
        **options: Any,
    ) -> Any:
        """`attention` of these.

        Args:
            query: (..., head, query, feature).
            key: (..., head, key, feature).
            value: (..., head, key, feature).
            last: what the equation's output is called among a module's steps.
            one_head: there is one head, and its axis is left out of the steps and the result.
            return_weights: the result is then a tuple: output, weights.
            options: those of `attention`.
        """
        del last
        if return_weights:
            both = attention(query, key, value, return_weights=True, **_for_dense(options))
            return tuple(_only(made, one_head) for made in both)
        return _only(attention(query, key, value, **options), one_head)


class Recorder(Silent):
    """Keeps every step: what a module's `trace` runs with."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.parameters: dict[str, Any] = {}

    def step(self, name: str, formula: str, axes: tuple[str, ...], value: Any) -> Any:
        """Keep the value as a step, and pass it on."""
        self.steps.append(Step(name, formula, axes, value))
        return value

    def attend(
        self,
        query: Any,
        key: Any,
        value: Any,
        *,
        last: str = "output",
        one_head: bool = False,
        return_weights: bool = False,
        **options: Any,
    ) -> Any:
        """`trace` of these: every step of the equation joins the module's own."""
        made = trace(query, key, value, **_for_dense(options))
        steps = [_of_one_head(step) for step in made] if one_head else list(made)
        *before, output = steps
        self.steps += [*before, Step(last, output.formula, output.axes, output.value)]
        self.parameters.update(made.parameters)
        if return_weights:
            return output.value, next(step for step in steps if step.name == "weights").value
        return output.value

    def trace(self) -> Trace:
        """The record of all steps kept."""
        return Trace(tuple(self.steps), self.parameters)


SILENT = Silent()


def _for_dense(options: dict[str, Any]) -> dict[str, Any]:
    """The options without the engine: weights and steps are held by the dense one alone."""
    return {name: value for name, value in options.items() if name != "engine"}


def _only(array: Any, one_head: bool) -> Any:
    """(..., head, query, last) -> (..., query, last), where there is one head."""
    return array[..., 0, :, :] if one_head else array


def _of_one_head(step: Step) -> Step:
    axes = tuple(axis for axis in step.axes if axis != "head")
    return Step(step.name, step.formula, axes, _only(step.value, True))
