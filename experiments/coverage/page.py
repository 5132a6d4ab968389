"""The readings as a Markdown page, and as JSON."""

import math
from collections import Counter
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from experiments.coverage.families import Family
from experiments.coverage.measure import Reading

FORMAT = "atento.coverage/1"
COMMAND = "python -m experiments.coverage"
HEAD = """\
# Which models are read, and how exactly

`{command}` writes this page: {families} families, tiny models with random weights, built from
their configurations with torch {torch} and transformers {transformers}. Each is run alone and
within `atento.capture`, under every implementation of attention that it offers; text is padded.

- **way**: where its attention was seen. `interface`: transformers' attention interface; `sdpa`:
  torch's `scaled_dot_product_attention`; `mha`: `nn.MultiheadAttention`; `softmax`: the formula
  written out; `atento`: our own modules.
- **outputs**: of the captured model beside the model left alone; `=` is the same bits.
- **weights**: the largest difference between all weights of all heads that were recorded and
  the model's own: those which it returns itself when it is set to eager (`eager`), or those of
  every softmax and kernel call in it (`functions`), seen without atento. `≤ 1e-6` is the
  rounding of single precision.
- **result**: `exact` when every one of the model's weights was recorded once, within 1e-5, and
  the outputs have the same bits. What is refused is refused by name, with the reason.
"""


def as_markdown(results: list[tuple[Family, list[Reading]]]) -> str:
    """The whole page."""
    versions = {name: version(name).partition("+")[0] for name in ("torch", "transformers")}
    parts = [HEAD.format(command=COMMAND, families=len(results), **versions), tally(results)]
    for kind in dict.fromkeys(family.kind for family, _ in results):
        own = sorted(
            (pair for pair in results if pair[0].kind == kind), key=lambda pair: pair[0].name
        )
        parts.append(f"## {kind.capitalize()}\n\n{table(own)}")
    notes = [f"- {family.name}: {family.note}." for family, _ in results if family.note]
    if notes:
        parts.append("## Notes\n\n" + "\n".join(sorted(set(notes))))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def tally(results: list[tuple[Family, list[Reading]]]) -> str:
    """How many families came to which end, by their worst reading."""
    worst = Counter(
        min((_end(reading.result) for reading in readings), key=ENDS.index)
        for _, readings in results
    )
    counts = [f"{end}: {worst[end]}" for end in reversed(ENDS) if worst[end]]
    return "Families by their worst result: " + ", ".join(counts) + "."


ENDS = ["FAILS", "WRONG", "PARTLY", "UNTOLD", "does not run", "refused", "READ", "exact"]


def _end(result: str) -> str:
    return next(end for end in ENDS if result.startswith(end))


COLUMNS = ("family", "asked", "way", "layers × heads", "kinds", "outputs", "weights", "result")


def table(results: list[tuple[Family, list[Reading]]]) -> str:
    """One line for every family and implementation; two that are alike in one."""
    lines = [" | ".join(COLUMNS), " | ".join(["---"] * len(COLUMNS))]
    for family, readings in results:
        cells = [row(family, reading) for reading in readings]
        if len(cells) == 2 and cells[0][2:] == cells[1][2:]:
            cells = [(cells[0][0], "sdpa, eager", *cells[0][2:])]
        lines += [" | ".join(cell) for cell in cells]
    return "\n".join(f"| {line} |" for line in lines)


def row(family: Family, reading: Reading) -> tuple[str, ...]:
    """The cells of one reading: no digits but counts and powers of ten."""
    weights = ""
    if reading.weights is not None:
        weights = f"{_bound(reading.weights)} ({reading.source})"
    outputs = (
        "" if reading.outputs is None else ("=" if not reading.outputs else _bound(reading.outputs))
    )
    heads = ", ".join(map(str, reading.heads))
    return (
        family.name,
        reading.implementation,
        ", ".join(reading.ways),
        f"{reading.layers} × {heads}" if reading.layers else "",
        ", ".join(reading.kinds),
        outputs,
        weights,
        reading.result.partition(". ")[0].replace("|", "\\|"),
    )


def _bound(difference: float) -> str:
    """The next power of ten, from 1e-6 on."""
    if not math.isfinite(difference):
        return "none found"
    power = math.ceil(math.log10(max(difference, 1e-6)))
    return f"≤ 1e{power:d}".replace("1e0", "1")


def as_json(results: list[tuple[Family, list[Reading]]]) -> dict[str, Any]:
    """Everything that was measured."""
    return {
        "format": FORMAT,
        "command": COMMAND,
        "versions": {name: version(name) for name in ("torch", "transformers")},
        "families": [
            {
                "name": family.name,
                "kind": family.kind,
                "note": family.note,
                "readings": [asdict(reading) for reading in readings],
            }
            for family, readings in results
        ],
    }
