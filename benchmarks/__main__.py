"""`make bench` (or `python -m benchmarks streaming startup`): run them, print, write JSON."""

import sys
from importlib import import_module
from pathlib import Path

from benchmarks.harness import machine, write

NAMES = sorted(
    path.stem
    for path in Path(__file__).parent.glob("*.py")
    if path.stem not in ("__init__", "__main__", "harness")
)


def main(asked: list[str]) -> int:
    """Run the named benchmarks (all of them when none is named); 1 when a figure was missed."""
    unknown = set(asked) - set(NAMES)
    if unknown:
        print(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
        return 2
    print(*(f"{key}: {value}" for key, value in machine().items()), sep="\n")
    missed = 0
    for name in asked or NAMES:
        rows = []
        print(f"\n{name}")
        for row in import_module(f"benchmarks.{name}").rows():
            print(row, flush=True)
            rows.append(row)
        missed += sum(not row.reached for row in rows)
        print(f"     -> {write(name, rows).relative_to(Path.cwd())}")
    return int(missed > 0)


sys.exit(main(sys.argv[1:]))
