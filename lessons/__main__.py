"""`python -m lessons pair | expect [N ...] | check [N ...]`."""

import sys

from lessons.expected import compare, store
from lessons.running import run
from lessons.sources import differences, notebook, pair, stems


def main(arguments: list[str]) -> int:
    """Does what the first argument says to the lessons whose numbers follow, or to all."""
    job, *numbers = arguments or [""]
    chosen = [stem for stem in stems() if not numbers or str(int(stem[:2])) in numbers]
    if job == "pair":
        for path in pair():
            print(path.parent.name, path.name)
        return 0
    if job not in ("expect", "check"):
        print(__doc__)
        return 2
    found = [line for stem in chosen for line in differences(stem)]
    for stem in chosen:
        done = run(notebook("en", stem))
        if job == "expect":
            store(stem, done)
        found += compare(stem, done)
    print("\n".join(found) or f"{len(chosen)} lessons, all as expected")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
