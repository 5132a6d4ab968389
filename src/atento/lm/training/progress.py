"""What a training shows while it runs: a bar on a terminal, lines in a log."""

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

__all__ = ["Told"]

SHOWN = 200
"""Characters of a sample."""


class Told:
    """A bar with loss and speed; each validation is a line above it.

    Args:
        steps: how many there are.
        shown: False: nothing is shown.
    """

    def __init__(self, steps: int, *, shown: bool) -> None:
        self.console = Console(stderr=True, quiet=not shown)
        self.bar = Progress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=self.console,
            disable=not shown or not self.console.is_terminal,
        )
        self.task = self.bar.add_task("", total=steps)

    def __enter__(self) -> "Told":
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def start(self, step: int) -> None:
        """The bar begins here."""
        self.bar.update(self.task, completed=step)

    def advance(self, loss: float) -> None:
        """One more step."""
        self.bar.update(self.task, advance=1, description=f"loss {loss:.3f}")

    def row(self, numbers: dict[str, Any]) -> None:
        """A validation."""
        validation = numbers["validation"]
        said = "" if validation is None else f", validation {validation:.4f}"
        self.console.print(
            f"step {numbers['step']}: loss {numbers['loss']:.4f}{said}, "
            f"{numbers['tokens_per_second']:,.0f} tokens/s",
            highlight=False,
        )

    def sample(self, text: str) -> None:
        """What the model writes, on one line."""
        shown = "".join(c if c.isprintable() else " " for c in text)[:SHOWN]
        self.console.print(Text(f"  {shown}", style="dim"), soft_wrap=True)
