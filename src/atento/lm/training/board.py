"""The log's numbers for TensorBoard, where it is installed."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

__all__ = ["Board", "board_of"]

NAME = "tensorboard"
SHOWN = ("loss", "validation", "learning_rate", "gradient", "tokens_per_second")


class Board:
    """Event files in a run's folder: ``tensorboard --logdir runs/x``.

    Args:
        folder: of the run.
        step: how many are done; what was written of later ones is forgotten.
    """

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder / NAME), purge_step=step + 1 if step else None)

    def add(self, row: dict[str, Any]) -> None:
        """One row of the log; what was not measured is left out."""
        for name in SHOWN:
            if row[name] is not None:
                self._writer.add_scalar(name, row[name], row["step"])

    def close(self) -> None:
        """Everything is on the disk."""
        self._writer.close()


def board_of(folder: Path, step: int) -> Board | None:
    """A board for a run; None where TensorBoard is not installed."""
    return None if find_spec("tensorboard") is None else Board(folder, step)
