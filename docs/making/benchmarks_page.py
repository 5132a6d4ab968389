"""The page of the benchmarks, from what the last `make bench` wrote."""

import json
from pathlib import Path
from typing import Any

__all__ = ["benchmarks_page"]

RESULTS = Path(__file__).parents[2] / "benchmarks/results"
HEAD = """# Benchmarks

`make bench` measures your machine, and `make docs` makes this page of what it wrote. Each figure is
a median; ratios are of runs in turn in one process (A B A B), pair by pair, because machines are
shared and noisy. "asked" is what the house holds itself to.

"""
NONE = "There are no measurements in this copy: run `make bench`, then `make docs` again.\n"


def benchmarks_page(results: Path = RESULTS) -> str:
    """The page as Markdown; it names no host and no path."""
    files = sorted(results.glob("*.json"))
    if not files:
        return HEAD + NONE
    return HEAD + "\n".join(_section(path.stem, json.loads(path.read_text())) for path in files)


def _section(name: str, measured: dict[str, Any]) -> str:
    lines = [f"## {name.replace('_', ' ')}", "", _machine(measured["machine"]), ""]
    lines += ["| what | figure | least – most | asked | reached |", "|---|---|---|---|---|"]
    lines += [_row(row) for row in measured["rows"]]
    return "\n".join([*lines, ""])


def _machine(machine: dict[str, Any]) -> str:
    system = str(machine["system"]).partition("-")[0]  # no build, no kernel of somebody's own
    packages = ", ".join(
        f"{name} {version}" for name, version in machine["packages"].items() if version
    )
    return (
        f"{machine['processor']}, {machine['cores']} cores, {system}, "
        f"Python {machine['python']}, {packages}."
    )


def _row(row: dict[str, Any]) -> str:
    what = f"{row['name']} ({row['detail']})" if row["detail"] else row["name"]
    spread = f"{row['low']:.3g} – {row['high']:.3g}"
    reached = "yes" if row["reached"] else "no"
    cells = (
        what.replace("|", "\\|"),
        f"{row['figure']:.3g} {row['unit']}",
        spread,
        row["wanted"],
        reached,
    )
    return f"| {' | '.join(cells)} |"
