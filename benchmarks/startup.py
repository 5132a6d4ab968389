"""Whole processes: import, help, and one sentence explained with its page."""

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.harness import Row, process_seconds, row

ATENTO = str(Path(sys.executable).with_name("atento"))
SENTENCE = "Your journey starts with one step"
RUNS = 9


def rows() -> Iterator[Row]:
    beyond_numpy = []
    for _ in range(RUNS):
        numpy = process_seconds(sys.executable, "-c", "import numpy")
        beyond_numpy.append(process_seconds(sys.executable, "-c", "import atento") - numpy)
    yield row("import atento, beyond import numpy", beyond_numpy, "s", at_most=0.15)
    first_use = "import atento; atento.attention"
    beyond_numpy = []
    for _ in range(RUNS):
        numpy = process_seconds(sys.executable, "-c", "import numpy")
        beyond_numpy.append(process_seconds(sys.executable, "-c", first_use) - numpy)
    yield row("atento.attention named, beyond import numpy", beyond_numpy, "s", at_most=0.15)
    yield row(
        "atento --help", [process_seconds(ATENTO, "--help") for _ in range(RUNS)], "s", at_most=0.4
    )
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        env = os.environ | {"COLUMNS": "80"}
        times = [
            process_seconds(ATENTO, "explain", SENTENCE, "--out", str(page), env=env)
            for _ in range(RUNS)
        ]
        yield row("atento explain of a sentence, page written", times, "s", at_most=1.5)
        yield row("its page", [page.stat().st_size / 1000], "KB", at_most=600)
