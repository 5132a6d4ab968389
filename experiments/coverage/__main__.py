"""`python -m experiments.coverage [NAME ...] [--json FILE]`: build, capture, compare, write."""

import argparse
import json
import warnings
from collections.abc import Iterable
from pathlib import Path

import torch
import transformers
from rich.console import Console

from experiments.coverage import catalogue, own
from experiments.coverage.families import Family
from experiments.coverage.measure import Reading, readings
from experiments.coverage.page import as_json, as_markdown

PAGE = Path(__file__).parents[2] / "docs" / "coverage.md"
FAMILIES = [*catalogue.FAMILIES, *own.FAMILIES]

Results = list[tuple[Family, list[Reading]]]


def measured(families: Iterable[Family], console: Console | None = None) -> Results:
    """One family after another; none that fails stops the others."""
    results: Results = []
    for family in families:
        found = list(readings(family))
        results.append((family, found))
        if console is not None:
            for reading in found:
                said = f"{family.name:<30} {reading.implementation:<6} {reading.result}"
                console.print(said, soft_wrap=True, markup=False, highlight=False)
    return results


def main(arguments: list[str] | None = None) -> None:
    """Capture tiny models of every family and compare what is read with the model's own."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.coverage", description=main.__doc__
    )
    parser.add_argument("names", nargs="*", help="families (all: the page is written)")
    parser.add_argument("--json", type=Path, help="write all figures there")
    parser.add_argument("--out", type=Path, default=PAGE, help="the page")
    given = parser.parse_args(arguments)
    unknown = set(given.names) - {family.name for family in FAMILIES}
    if unknown:
        parser.error(f"no family {', '.join(sorted(unknown))}")
    transformers.logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    chosen = [family for family in FAMILIES if not given.names or family.name in given.names]
    results = measured(chosen, Console())
    if given.json:
        given.json.write_text(json.dumps(as_json(results), indent=1, ensure_ascii=False) + "\n")
    if not given.names:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(as_markdown(results), "utf-8")
        print(f"-> {given.out}")


if __name__ == "__main__":
    main()
