"""load_watch: what was seen of a run, from its folder."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from atento._errors import InputError
from atento.lm.watching.look import Look, read_look, steps_there
from atento.lm.watching.plan import read_plan
from atento.lm.watching.watched import Watched

__all__ = ["load_watch"]

LOG, LOGGED = "log.json", ("step", "loss", "validation")


def load_watch(folder: str | Path) -> Watched:
    """How the heads of a run have formed, as far as it has come.

    Args:
        folder: what ``train(..., watch=...)`` was given as ``out``. The run may be under way.

    Raises:
        InputError: there is no run, it was not watched, nothing was seen yet, or a file is damaged
            (which one).

    >>> load_watch("no/such/folder")
    Traceback (most recent call last):
        ...
    atento._errors.InputError: there is no run in no/such/folder: ...
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(
            f"there is no run in {folder}: start one with train(..., watch=prompts).",
            name="lm_run_none",
            folder=folder,
        )
    plan = read_plan(folder)
    if plan is None:
        raise InputError(
            f"{folder} was not watched: a run is watched from its start, with train(..., "
            "watch=prompts) or atento train --watch FILE.",
            name="lm_watch_not",
            folder=folder,
        )
    looks = [read_look(folder, step) for step in steps_there(folder)]
    if not looks:
        raise InputError(
            f"nothing was seen in {folder} yet: the training has just begun.",
            name="lm_watch_nothing_yet",
            folder=folder,
        )
    _check_alike(folder, looks, len(plan.prompts))
    return Watched(
        steps=np.array([look.step for look in looks], np.int64),
        total=plan.total,
        layers=looks[0].layers,
        heads=looks[0].heads,
        numbers=np.stack([look.numbers for look in looks]),
        losses=np.stack([look.losses for look in looks]),
        prompts=plan.prompts,
        maps=tuple(np.stack(each) for each in zip(*(look.maps for look in looks), strict=True)),
        log=tuple(_log(folder)),
    )


def _check_alike(folder: Path, looks: list[Look], prompts: int) -> None:
    """See that all were written by one run.

    Raises:
        InputError: naming the first that is another.
    """
    first = looks[0]
    for look in looks:
        same = (look.layers, look.heads, look.numbers.shape, [one.shape for one in look.maps])
        asked = (first.layers, first.heads, first.numbers.shape, [one.shape for one in first.maps])
        if same != asked or look.losses.shape != (prompts,):
            raise InputError(
                f"what {folder} holds of step {look.step} is of another run than the rest: remove "
                "it."
            )


def _log(folder: Path) -> list[dict[str, Any]]:
    """Loss and validation of the training's own log; its room would load torch to read it."""
    path = folder / LOG
    try:
        rows = json.loads(path.read_text("utf-8"))
        return [{name: row[name] for name in LOGGED} for row in rows]
    except FileNotFoundError:  # before its first validation
        return []
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{path} is damaged: {error}.", name="lm_watch_damaged", path=path
        ) from None
