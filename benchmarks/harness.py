"""Side by side: ours and a peer in turn in one process, A B A B, and the ratio pair by pair.

Machines are shared and noisy: a ratio of two runs that stand next to each other says more than
either time.
"""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Row:
    """One figure: its median, its spread, and what it should reach."""

    name: str
    figure: float
    low: float
    high: float
    unit: str
    wanted: str
    reached: bool
    detail: str

    def __str__(self) -> str:
        mark = "ok  " if self.reached else "MISS"
        spread = f"[{self.low:.3g} – {self.high:.3g}]"
        return (
            f"{mark} {self.name:<58} {self.figure:>8.3g} {self.unit:<3} {spread:<17} "
            f"wanted {self.wanted:<9} {self.detail}"
        )


def seconds(call: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def rested(call: Callable[[], object], rest: float) -> float:
    """How long one call takes after so many seconds in which nothing runs."""
    time.sleep(rest)
    return seconds(call)


def ratio(
    name: str,
    numerator: Callable[[], object],
    denominator: Callable[[], object],
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    pairs: int = 9,
    rest: float = 0.0,
) -> Row:
    """Median of time(numerator) / time(denominator) over runs in turn, after one of each.

    With a rest (seconds) before each, the threads that the one before left spinning have stopped.
    """
    numerator()
    denominator()
    times = [(rested(numerator, rest), rested(denominator, rest)) for _ in range(pairs)]
    above, below = (median(column) for column in zip(*times, strict=True))
    return row(
        name,
        [a / b for a, b in times],
        "×",
        at_least=at_least,
        at_most=at_most,
        detail=f"{above:.3g} s over {below:.3g} s, {pairs} pairs",
    )


def row(
    name: str,
    figures: Iterable[float],
    unit: str,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    detail: str = "",
) -> Row:
    """A row from repeated figures: their median decides, their extremes are shown."""
    figures = sorted(map(float, figures))  # NumPy's own numbers are no JSON
    middle = median(figures)
    if (at_least is None) == (at_most is None):
        raise ValueError("say either at_least or at_most")
    reached = middle >= at_least if at_least is not None else middle <= (at_most or 0)
    wanted = f"≥ {at_least:g}" if at_least is not None else f"≤ {at_most:g}"
    return Row(name, middle, figures[0], figures[-1], unit, wanted, reached, detail)


def process_seconds(*arguments: str, **options: object) -> float:
    """How long a whole process takes, from outside."""
    return seconds(
        lambda: subprocess.run(arguments, check=True, capture_output=True, **options)  # type: ignore[call-overload]
    )


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    packages = {}
    for package in ("atento", "numpy", "torch"):
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            packages[package] = None
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "system": platform.platform(),
        "python": sys.version.split()[0],
        "packages": packages,
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def write(name: str, rows: list[Row]) -> Path:
    """Write the rows as JSON, with the machine they came from."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    content = {
        "format": "atento.benchmark/1",
        "machine": machine(),
        "rows": list(map(asdict, rows)),
    }
    aside = path.with_suffix(".tmp")
    aside.write_text(json.dumps(content, indent=1, ensure_ascii=False))
    aside.replace(path)
    return path


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
