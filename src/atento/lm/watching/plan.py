"""What is watched: the prompts, and at which steps; it stands in the run's folder."""

import hashlib
import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from atento._errors import InputError
from atento._files import write_whole
from atento.lm.setting import within

__all__ = [
    "FOLDER",
    "Plan",
    "Prompt",
    "check_as_planned",
    "check_every",
    "plan_of",
    "read_plan",
    "watched_steps",
    "write_plan",
]

FOLDER = "watch"
"""In the folder of the run."""

NAME = "watch.json"
FORMAT = "atento.watch/1"

FEW = 24
"""Steps of each kind: at equal distances, and at equal ratios."""


@dataclass(frozen=True)
class Prompt:
    """A text on which heads are looked at.

    Attributes:
        text: as it was given.
        ids: its tokens' numbers.
        tokens: their texts.
    """

    text: str
    ids: tuple[int, ...]
    tokens: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """What a run looks at while it trains.

    Attributes:
        prompts: on which.
        every: steps between two looks, as it was asked for; None: as `watched_steps` has them.
        total: steps of the whole training.
    """

    prompts: tuple[Prompt, ...]
    every: int | None
    total: int

    @property
    def steps(self) -> tuple[int, ...]:
        """After how many updates it looks."""
        return watched_steps(self.total, self.every)


def watched_steps(total: int, every: int | None = None) -> tuple[int, ...]:
    """The steps at which heads are looked at, the first and the last among them.

    Left to itself it looks at equal ratios, since much happens early, and at equal distances, since
    nobody knows when a head forms: some 45 times.

    >>> watched_steps(100, 30)
    (0, 30, 60, 90, 100)
    >>> watched_steps(12)
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)
    """
    if every is not None:
        return tuple(sorted({*range(0, total, every), total}))
    ratios = np.rint(np.geomspace(1, total, FEW)).astype(int).tolist()
    distances = np.rint(np.linspace(0, total, FEW + 1)).astype(int).tolist()
    return tuple(sorted({*ratios, *distances}))


def plan_of(
    watch: str | Path | Iterable[str] | None,
    every: int | None,
    total: int,
    tokenizer: Any,
    context: int,
) -> Plan | None:
    """What was asked for, as the model will see it.

    Args:
        watch: a text, several, or the path of a file with one in each line; None: nothing.
        every: steps between two looks, or None.
        total: steps of the training.
        tokenizer: of the model.
        context: the most tokens that it takes.

    Raises:
        InputError: for no prompt at all, one of fewer than two tokens or more than the context, one
            that the tokenizer does not know, a file that is not UTF-8, an interval without prompts.
    """
    if watch is None:
        if every is not None:
            raise InputError(
                "watch_every says how often prompts are looked at: give watch=, too.",
                name="lm_watch_only_every",
            )
        return None
    texts = _asked(watch)
    if not texts:
        where = f"{watch} holds none" if isinstance(watch, Path) else "got none"
        raise InputError(
            f"watch: name the prompts to look at, one text or several; {where}.",
            name="lm_watch_none",
            path=watch,
        )
    prompts = (_prompt(text, at, tokenizer, context) for at, text in enumerate(texts, 1))
    return Plan(tuple(prompts), every, total)


def check_as_planned(
    folder: Path, watch: str | Path | Iterable[str] | None, every: int | None
) -> None:
    """See that a run which is resumed is watched as it was from its start.

    Raises:
        InputError: it was watched otherwise, or not at all.
    """
    plan = read_plan(folder)
    if plan is None and (watch is not None or every is not None):
        raise InputError(
            f"the run in {folder} was started without watch=: leave it out, or start another run.",
            name="lm_watch_unasked",
            folder=folder,
        )
    if plan is None:
        return
    asked = None if watch is None else _asked(watch)
    begun = [prompt.text for prompt in plan.prompts]
    for name, value, was in (("watch", asked, begun), ("watch_every", every, plan.every)):
        if value is not None and value != was:
            raise InputError(
                f"the run in {folder} was started with {name} = {was!r}, and this asks for "
                f"{value!r}: leave it out, or start another run.",
                name="lm_watch_other",
                folder=folder,
                setting=name,
                was=repr(was),
                came=repr(value),
            )


def check_every(every: Any) -> None:
    """See that an interval can be one.

    Raises:
        InputError: it is no whole number from 1 on.
    """
    whole = isinstance(every, int) and not isinstance(every, bool) and every >= 1
    within("watch_every", every, every is None or whole, "a whole number ≥ 1")


def _asked(watch: str | Path | Iterable[str]) -> list[str]:
    if isinstance(watch, Path):
        return _lines(watch)
    return [watch] if isinstance(watch, str) else list(watch)


def _lines(path: Path) -> list[str]:
    """The lines of a file that are not blank."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not UTF-8: byte {error.start + 1} does not fit. Save it as UTF-8.",
            name="lm_not_utf8",
            path=path,
            byte=error.start + 1,
        ) from None
    except OSError as error:
        raise InputError(
            f"the prompts {path} cannot be read: {error.strerror}. It is a text file with one "
            "prompt in each line.",
            name="lm_watch_file",
            path=path,
            why=error.strerror,
        ) from None
    lines = text.replace("\r\n", "\n").split("\n")
    return [line for line in lines if line.strip()]


def _prompt(text: Any, number: int, tokenizer: Any, context: int) -> Prompt:
    if not isinstance(text, str):
        raise InputError(f"watch: prompts are texts; number {number} is {type(text).__name__}.")
    try:
        ids = [int(i) for i in tokenizer.encode(text)]
    except InputError as error:
        raise InputError(
            f"watch: prompt {number}: {error}", name="lm_watch_prompt", number=number, why=error
        ) from None
    if len(ids) < 2:
        raise InputError(
            f"watch: prompt {number} has {len(ids)} token{'s' * (len(ids) != 1)}, and a head that "
            "looks about needs at least two: give a longer text.",
            name="lm_watch_short",
            number=number,
            came=len(ids),
        )
    if len(ids) > context:
        raise InputError(
            f"watch: prompt {number} has {len(ids):,} tokens, and the model takes {context:,}: cut "
            "it, or train with a longer context.",
            name="lm_watch_context",
            number=number,
            came=len(ids),
            limit=context,
        )
    return Prompt(text, tuple(ids), tuple(_texts(tokenizer, ids)))


def _texts(tokenizer: Any, ids: list[int]) -> list[str]:
    if hasattr(tokenizer, "tokens"):
        return [str(text) for text in tokenizer.tokens(ids)]
    return [str(tokenizer.decode([i])) for i in ids]


def write_plan(folder: Path, plan: Plan | None) -> None:
    """Write it into the folder of a run that begins; what was seen there before is gone.

    Raises:
        OSError: the system refused.
    """
    shutil.rmtree(folder / FOLDER, ignore_errors=True)
    if plan is None:
        return
    said = {
        "format": FORMAT,
        "every": plan.every,
        "total": plan.total,
        "prompts": [
            {"text": one.text, "ids": list(one.ids), "tokens": list(one.tokens)}
            for one in plan.prompts
        ],
    }
    record = json.dumps({**said, "sha256": _checksum(said)}, indent=1)
    (folder / FOLDER).mkdir(exist_ok=True)
    write_whole(folder / FOLDER / NAME, [record.encode()])


def read_plan(folder: Path) -> Plan | None:
    """What a run looks at; None where nothing is watched.

    Raises:
        InputError: it is damaged, or of another version.
    """
    path = folder / FOLDER / NAME
    try:
        said = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path} cannot be read: {error}.", name="lm_watch_damaged", path=path
        ) from None
    if not isinstance(said, dict) or said.get("format") != FORMAT:
        raise InputError(
            f"{path} is of another version than {FORMAT}, or no plan of a watch.",
            name="lm_version",
            path=path,
            version=FORMAT,
        )
    if said.pop("sha256", None) != _checksum(said):
        raise InputError(
            f"{path} is damaged: it is not as it was written. Copy it again.",
            name="lm_watch_damaged",
            path=path,
        )
    prompts = (
        Prompt(one["text"], tuple(one["ids"]), tuple(one["tokens"])) for one in said["prompts"]
    )
    return Plan(tuple(prompts), said["every"], said["total"])


def _checksum(said: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
