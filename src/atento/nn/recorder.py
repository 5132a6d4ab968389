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
        self, query: Any, key: Any, value: Any, *, last: str = "output", **options: Any
    ) -> Any:
        """`attention` of these; ``last`` names its output among a module's steps."""
        del last
        return attention(query, key, value, **options)


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
        self, query: Any, key: Any, value: Any, *, last: str = "output", **options: Any
    ) -> Any:
        """`trace` of these: every step of the equation joins the module's own."""
        options.pop("engine", None)  # steps are kept by the dense engine alone
        made = trace(query, key, value, **options)
        *before, output = made.steps
        self.steps += [*before, Step(last, output.formula, output.axes, output.value)]
        self.parameters.update(made.parameters)
        return made.output

    def trace(self) -> Trace:
        """The record of all steps kept."""
        return Trace(tuple(self.steps), self.parameters)


SILENT = Silent()
