"""Run: a training's folder, as it stands."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from atento._errors import InputError
from atento._files import write_whole
from atento.lm.checkpoints import load_model
from atento.lm.training.log import read_log
from atento.lm.training.settings import TrainingSettings
from atento.lm.transformer import Transformer

__all__ = ["Run", "begun_with", "open_run", "start_run"]

NAME = "run.json"
FORMAT = "atento.run/2"
CHECKPOINTS = "checkpoints"
TRAINING = "training.npy"
VALIDATION = "validation.npy"


@dataclass(frozen=True)
class Run:
    """A training that has begun.

    The folder itself is the Hugging Face directory of the best model so far; beside it lie
    ``checkpoints/``, ``log.csv``, ``log.json``, ``samples.txt`` and the ids of the corpus.

    Attributes:
        folder: where all of it is.
        ended: why the training came to its end: "steps", "patience" or "interrupted"; None for one
            that is under way, or was killed.

    >>> import pathlib
    >>> Run(pathlib.Path("runs/mine")).ended is None
    True
    """

    folder: Path
    ended: str | None = None

    @property
    def log(self) -> list[dict[str, Any]]:
        """The rows of the log: step, loss, validation and more; None where nothing was measured."""
        return read_log(self.folder)

    def model(self) -> Transformer:
        """The best model so far, with its tokenizer."""
        return load_model(self.folder)

    @property
    def settings(self) -> TrainingSettings:
        """Those that it was started with."""
        return begun_with(self.folder)


def begun_with(folder: Path) -> TrainingSettings:
    """The settings of a run.

    Raises:
        InputError: there is no run, it is of another version, or damaged.
    """
    given = open_run(folder)["settings"]
    betas = given["betas"]
    return TrainingSettings(**given | {"betas": tuple(betas) if isinstance(betas, list) else betas})


def start_run(folder: Path, settings: TrainingSettings) -> None:
    """Write what a run is started with; the folder is one from then on."""
    record = {"format": FORMAT, "settings": asdict(settings)}
    write_whole(folder / NAME, [(json.dumps(record, indent=2) + "\n").encode()])


def open_run(folder: Path) -> dict[str, Any]:
    """What a run was started with.

    Raises:
        InputError: there is no run, or it is of another version.
    """
    path = folder / NAME
    try:
        record = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"there is no run in {folder}: start one with train(corpus, out={str(folder)!r}).",
            name="lm_run_none",
            folder=folder,
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, error) from None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise InputError(
            f"{path} is of another version than {FORMAT}.",
            name="lm_version",
            path=path,
            version=FORMAT,
        )
    settings = record.get("settings")
    known = TrainingSettings.__dataclass_fields__.keys()
    if not isinstance(settings, dict) or settings.keys() != known:
        raise _damaged(path, "its settings are others")
    return record


def _damaged(path: Path, why: object) -> InputError:
    return InputError(
        f"{path} cannot be read: {why}. It is what the run was started with: copy it again, or "
        "start another run.",
        name="lm_run_unread",
        path=path,
        why=why,
    )
