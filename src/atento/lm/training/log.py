"""What a training tells: a row of numbers now and then, in CSV and in JSON."""

import csv
import io
import json
from pathlib import Path
from typing import Any

from atento._errors import InputError
from atento._files import write_whole

__all__ = ["FIELDS", "Log", "read_log"]

FIELDS = (
    "step",
    "tokens",
    "loss",
    "validation",
    "learning_rate",
    "gradient",
    "tokens_per_second",
    "seconds",
)
CSV = "log.csv"
JSON = "log.json"


class Log:
    """The rows of one run, in its folder.

    Args:
        folder: of the run.
        until: rows of later steps are forgotten: a run that is resumed makes them anew.
    """

    def __init__(self, folder: Path, until: int = 0) -> None:
        self.folder = folder
        self.rows = [row for row in read_log(folder) if row["step"] <= until]

    def add(self, **numbers: Any) -> None:
        """One row; what is not said is empty."""
        self.rows.append({name: numbers.get(name) for name in FIELDS})

    def write(self) -> None:
        """Both files, each whole or not at all."""
        text = io.StringIO()
        table = csv.DictWriter(text, FIELDS, lineterminator="\n")
        table.writeheader()
        table.writerows(self.rows)
        write_whole(self.folder / CSV, [text.getvalue().encode()])
        write_whole(self.folder / JSON, [json.dumps(self.rows, indent=1).encode()])


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run; none where there is no log.

    Raises:
        InputError: the log is damaged.
    """
    path = folder / JSON
    if not path.exists():
        return []
    try:
        rows = [{name: row[name] for name in FIELDS} for row in json.loads(path.read_bytes())]
        if all(type(row["step"]) is int for row in rows):
            return rows
        why: object = "a step is no whole number"
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        why = error
    raise InputError(
        f"{path} is damaged: {why}. Remove it: the run goes on without the rows that were in it.",
        name="lm_log",
        path=path,
        why=why,
    )
