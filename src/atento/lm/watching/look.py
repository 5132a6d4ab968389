"""Look: what was seen at one step, and its file.

A look is a file of its own, ``watch/step-00000100.safetensors``, written aside and renamed. So a
process that is killed at any moment leaves whole files, and a run that is resumed writes those of
the steps that it makes anew once more. Any safetensors reader can read the arrays; a checksum over
names, shapes, numbers and what the header says tells damage.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from atento._errors import InputError
from atento._files import write_whole
from atento.lm.watching.plan import FOLDER

__all__ = [
    "STATISTICS",
    "Look",
    "forget_after",
    "is_there",
    "read_look",
    "steps_there",
    "write_look",
]

Array = npt.NDArray[Any]

FORMAT = "atento.watch.step/1"

STATISTICS = ("induction", "duplicate", "previous", "self", "first", "uniform", "entropy")
"""In this order in the files."""

POOLS = ("mean", "max")


@dataclass(frozen=True, eq=False)
class Look:
    """What all heads do on all prompts at one step.

    Attributes:
        step: after how many updates.
        layers: their names.
        heads: their numbers, the same in all layers.
        numbers: (statistic, layer, head), in the order of `STATISTICS`; NaN where there is none.
        losses: (prompt,) the mean of −log p(next token).
        maps: of the first prompts, each (pool, layer, head, row, column): the overview by mean and
            by maximum, or one of the two where a cell is one weight.
    """

    step: int
    layers: tuple[str, ...]
    heads: tuple[int, ...]
    numbers: Array
    losses: Array
    maps: tuple[Array, ...]


def write_look(folder: Path, look: Look) -> None:
    """Write it whole or not at all.

    Raises:
        OSError: the system refused.
    """
    arrays = {
        "numbers": look.numbers.astype("<f4"),
        "losses": look.losses.astype("<f4"),
        **{f"map.{at}": cells.astype("<f2") for at, cells in enumerate(look.maps)},
    }
    said = {
        "format": FORMAT,
        "step": str(look.step),
        "heads": json.dumps([list(look.layers), list(look.heads), list(STATISTICS)]),
    }
    said["sha256"] = _checksum(said, arrays)
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    write_whole(_path(folder, look.step), [save(arrays, said)])


def read_look(folder: Path, step: int) -> Look:
    """What was seen at a step.

    Raises:
        InputError: the file is damaged, cut off, or of another version.
    """
    path = _path(folder, step)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}.",
            name="lm_unread",
            path=path,
            why=error.strerror,
        ) from None
    try:
        arrays = load(content)
        said = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
        form, whole = said["format"], said.pop("sha256") == _checksum(said, arrays)
        same = whole and int(said["step"]) == step
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError):
        form, same = FORMAT, False
    if form != FORMAT:
        raise InputError(
            f"{path} is of another version than {FORMAT}.",
            name="lm_version",
            path=path,
            version=FORMAT,
        )
    if not same:
        raise InputError(
            f"{path} is damaged or cut off. Copy it again; without it, the other steps can be "
            "read.",
            name="lm_look_damaged",
            path=path,
        )
    layers, heads, statistics = json.loads(said["heads"])
    if tuple(statistics) != STATISTICS:
        raise InputError(f"{path} has other statistics, {', '.join(statistics)}.")
    maps = tuple(arrays[f"map.{at}"] for at in range(len(arrays) - 2))
    numbers, losses = arrays["numbers"], arrays["losses"]
    return Look(step, tuple(layers), tuple(heads), numbers, losses, maps)


def is_there(folder: Path, step: int) -> bool:
    """Whether that step was looked at."""
    return _path(folder, step).exists()


def steps_there(folder: Path) -> list[int]:
    """The steps that were looked at so far, in order."""
    found = (folder / FOLDER).glob("step-*.safetensors")
    return sorted(int(path.stem[5:]) for path in found if path.stem[5:].isdigit())


def forget_after(folder: Path, step: int) -> None:
    """Remove what was seen later: a run that is resumed there makes these steps anew."""
    for later in steps_there(folder):
        if later > step:
            _path(folder, later).unlink(missing_ok=True)
    for aside in (folder / FOLDER).glob(".atento-*"):  # what a killed process has left
        aside.unlink(missing_ok=True)


def _path(folder: Path, step: int) -> Path:
    return folder / FOLDER / f"step-{step:08d}.safetensors"


def _checksum(said: dict[str, str], arrays: dict[str, Array]) -> str:
    known = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        known.update(f"{name} {array.dtype.str} {array.shape}".encode())
        known.update(np.ascontiguousarray(array).tobytes())
    return known.hexdigest()
