"""What a head does: its role, decided by numbers and thresholds that stand in one table."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from atento._optional import require
from atento.masks import Coverage
from atento.reading.counted import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from atento.reading.layer import LayerRecord
    from atento.reading.recording import Recording

__all__ = ["OTHER", "ROLES", "Role", "Summary", "summarise"]

Array = npt.NDArray[Any]

SAMPLED = 64
"""So many queries of each batch item tell whether the weights are uniform."""

NEAR = 1.0
"""A query's strongest key is at the head's distance when it strays from it by so many tokens."""

OTHER = "other"


@dataclass(frozen=True)
class Role:
    """A head has this role when the number reaches the threshold.

    Attributes:
        name: of the role.
        number: of the summary's columns.
        threshold: in the number's unit; all are shares from 0 to 1.
        meaning: what the number is.
    """

    name: str
    number: str
    threshold: float
    meaning: str


ROLES = (
    Role(
        "induction",
        "induction",
        0.4,
        "weight on the tokens that followed earlier occurrences of the query's token "
        "(Olsson et al. 2022, arXiv 2209.11895)",
    ),
    Role("duplicate", "duplicate", 0.4, "weight on earlier occurrences of the query's token"),
    Role("previous token", "previous", 0.5, "weight on the key before the query"),
    Role("diagonal", "self", 0.5, "weight on the key at the query's own position"),
    Role(
        "sink",
        "first",
        0.5,
        "weight on the first key (Xiao et al. 2023, arXiv 2309.17453)",
    ),
    Role(
        "positional",
        "positional",
        0.4,
        "weight on the strongest key where that is, to 1 token, at one distance for all queries: "
        "the median",
    ),
    Role(
        "uniform",
        "uniform",
        0.95,
        "entropy divided by the logarithm of the number of keys that the mask shows",
    ),
)
"""In this order: the first that is reached is the head's role, so that the specific comes before
the general (a previous-token head is positional, too). The numbers are means over all queries
after the first few that see any key, and over the batch."""

NUMBERS = (
    "entropy",
    "max",
    "first",
    "previous",
    "self",
    "duplicate",
    "induction",
    "distance_mean",
    "distance_std",
    "uniform",
    "positional",
    "offset",
)


@dataclass(frozen=True, eq=False, repr=False)
class Summary:
    """A row per layer and head: ``layer``, ``head``, ``role`` and the numbers, as dicts.

    A number is None where its statistic was not recorded. ``offset`` is the median distance from a
    query back to its strongest key, in tokens; the others are described at `ROLES` or are means of
    the statistic of that name.
    """

    rows: tuple[dict[str, Any], ...]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return self.rows[row]

    def to_dict(self) -> dict[str, Any]:
        """The rows, and the roles with their thresholds, as plain Python values."""
        return {
            "rows": [dict(row) for row in self.rows],
            "roles": [vars(role) for role in ROLES],
        }

    def to_pandas(self) -> Any:
        """The rows as a pandas data frame.

        Raises:
            MissingLibraryError: when pandas is not installed.
        """
        pandas = require("pandas", "for summary().to_pandas()")
        return pandas.DataFrame(list(self.rows), columns=["layer", "head", "role", *NUMBERS])

    def __str__(self) -> str:
        """A table in plain text."""
        if not self.rows:
            return "no heads were recorded"
        shown = [name for name in NUMBERS if any(row[name] is not None for row in self.rows)]
        lines = [["layer", "head", "role", *shown]]
        lines += [
            [row["layer"], str(row["head"]), row["role"], *(_short(row[name]) for name in shown)]
            for row in self.rows
        ]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        left = (0, 2)  # layer and role are words
        return "\n".join(
            "  ".join(
                cell.ljust(width) if i in left else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        )

    def __repr__(self) -> str:
        return f"Summary({len(self.rows)} heads)"


def _short(number: float | None) -> str:
    return "–" if number is None else f"{number:.3f}" if abs(number) < 1e4 else f"{number:.0f}"


def summarise(recording: Recording) -> Summary:
    """A row for each head of each layer of the recording's first pass."""
    return Summary(tuple(row for layer in recording for row in _rows(layer)))


def _rows(layer: LayerRecord) -> Iterator[dict[str, Any]]:
    numbers = _numbers(layer)
    for at, head in enumerate(layer.head_numbers):
        own = {name: _plain(values[at]) for name, values in numbers.items()}
        row = {name: own.get(name) for name in NUMBERS}
        yield {"layer": layer.layer, "head": head, "role": role_of(row), **row}


def role_of(numbers: dict[str, float | None]) -> str:
    """The first role of `ROLES` whose threshold is reached, or "other".

    >>> role_of({"previous": 0.8, "positional": 0.9})
    'previous token'
    """
    for role in ROLES:
        number = numbers.get(role.number)
        if number is not None and number >= role.threshold:
            return role.name
    return OTHER


def _plain(number: Any) -> float | None:
    return None if math.isnan(number) else float(number)


def _numbers(layer: LayerRecord) -> dict[str, Array]:
    """Each number of each head; NaN where there is none."""
    used = counted(layer)
    numbers = {
        name: _mean(np.asarray(layer.statistics[name], np.float64), used)
        for name in NUMBERS
        if layer.axes.get(name) == ("head", "query") and name in layer.statistics
    }
    if "max" in numbers and layer.axes.get("max_key") == ("head", "query"):
        numbers |= _fixed_distance(layer, used)
    if "entropy" in numbers:
        numbers["uniform"] = _uniformity(layer, used)
    return numbers


def _mean(values: Array, used: npt.NDArray[np.bool_]) -> Array:
    """The mean over batch and queries of each head."""
    count = used.sum(axis=(0, 2))
    total = np.where(used, values, 0).sum(axis=(0, 2))
    return _ratio(total, count)


def _ratio(total: Array, count: Array) -> Array:
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _fixed_distance(layer: LayerRecord, used: npt.NDArray[np.bool_]) -> dict[str, Array]:
    """Where the strongest key is, by the distance from the query back to it."""
    largest = np.asarray(layer.statistics["max"], np.float64)
    position = layer.first_query + np.arange(layer.queries)
    distance = position - np.asarray(layer.statistics["max_key"], np.int64)
    offsets, weights = np.full(layer.heads, np.nan), np.full(layer.heads, np.nan)
    for head in range(layer.heads):
        own = used[:, head]
        if own.any():
            back = distance[:, head][own]
            offsets[head] = np.median(back)
            near = np.abs(back - offsets[head]) <= NEAR
            weights[head] = np.mean(np.where(near, largest[:, head][own], 0))
    return {"offset": offsets, "positional": weights}


def _uniformity(layer: LayerRecord, used: npt.NDArray[np.bool_]) -> Array:
    """Entropy / log(visible keys), the mean over a sample of the queries that see two keys."""
    entropy = np.asarray(layer.statistics["entropy"], np.float64)
    count = min(SAMPLED, layer.queries)
    rows = np.linspace(0, layer.queries - 1, count).astype(int)
    total, chosen_rows = np.zeros(layer.heads), np.zeros(layer.heads)
    visible = _visible_counter(layer, rows)
    for batch in range(layer.batch):
        for head in range(layer.heads):
            seen = visible(batch, head)
            chosen = used[batch, head, rows] & (seen >= 2)
            most = np.log(np.maximum(seen, 2))
            total[head] += (entropy[batch, head, rows] / most)[chosen].sum()
            chosen_rows[head] += chosen.sum()
    return _ratio(total, chosen_rows)


def _visible_counter(layer: LayerRecord, rows: Array) -> Callable[[int, int], Array]:
    """A function that says how many keys each of these queries sees: (batch, head) -> (query,)."""
    mask, keys = layer.mask, layer.keys
    if mask is None:
        return lambda _batch, _head: np.full(len(rows), keys)
    sizes = (1,) * (2 - len(mask.leading)) + tuple(mask.leading)
    known: dict[tuple[int, ...], Array] = {}

    def visible(batch: int, head: int) -> Array:
        index = tuple(0 if n == 1 else i for i, n in zip((batch, head), sizes, strict=True))
        if index not in known:
            one = mask.at(index)
            tiles = (one.block(range(row, row + 1), range(keys)) for row in rows.tolist())
            known[index] = np.array([_count(tile, keys) for tile in tiles])
        return known[index]

    return visible


def _count(tile: Any, keys: int) -> int:
    return keys * tile.value if isinstance(tile, Coverage) else int(tile.sum())
