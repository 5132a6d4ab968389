"""What the cells of a lesson print, stored, and compared with what they print now."""

import json
import math
import re
from itertools import zip_longest

from nbformat import NotebookNode

from lessons.sources import HERE, is_code, varies

__all__ = ["TOLERANCE", "compare", "load", "printed", "store"]

TOLERANCE = 1e-3
"""Numbers are equal where they differ by this much, relative above 1 and absolute below."""

NUMBER = re.compile(r"(?<![\w.])[-−]?\d+(?:\.\d+)?(?:e[-+]?\d+)?", re.IGNORECASE)
PLACE = re.compile(r" at 0x[0-9a-f]+")


def printed(notebook: NotebookNode) -> list[dict[str, object]]:
    """For each code cell: its text, the kinds of its other outputs, and whether it warned."""
    return [_cell(cell) for cell in notebook.cells if is_code(cell)]


def load(stem: str) -> list[dict[str, object]]:
    """What the code cells of a lesson printed when that was stored."""
    path = HERE / "expected" / f"{stem}.json"
    stored: list[dict[str, object]] = json.loads(path.read_text(encoding="utf-8"))
    return stored


def store(stem: str, notebook: NotebookNode) -> None:
    """Keeps what a run printed as what is expected."""
    path = HERE / "expected" / f"{stem}.json"
    text = json.dumps(printed(notebook), indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def compare(stem: str, notebook: NotebookNode) -> list[str]:
    """Where a run printed something else than expected. One line for each cell."""
    code = [cell for cell in notebook.cells if is_code(cell)]
    found = []
    for place, (now, then, cell) in enumerate(
        zip_longest(printed(notebook), load(stem), code, fillvalue=None)
    ):
        if now is None or then is None or cell is None:
            return [*found, f"{stem}: {len(code)} code cells, {len(load(stem))} expected"]
        wrong = _varied(now, then) if varies(cell) else _differs(now, then)
        if wrong:
            found.append(f"{stem}, code cell {place}: {wrong}\n{cell.source}")
    return found


def _cell(cell: NotebookNode) -> dict[str, object]:
    text: list[str] = []
    kinds: list[str] = []
    warned = False
    for output in cell.outputs:
        if output.output_type == "stream":
            warned |= output.name == "stderr"
            if output.name == "stdout" and not varies(cell):
                text.append(output.text)
            elif output.name == "stdout":
                kinds.append("text")
            continue
        bundle = output.data
        kinds += sorted(kind for kind in bundle if kind != "text/plain")
        if "text/plain" in bundle and not varies(cell):
            text.append(bundle["text/plain"] + "\n")
        elif "text/plain" in bundle:
            kinds.append("text")
    kept = PLACE.sub("", "".join(text)).strip()
    return {"text": kept, "kinds": sorted(set(kinds)), "warned": warned}


def _varied(now: dict[str, object], then: dict[str, object]) -> str:
    if now["kinds"] != then["kinds"]:
        return f"kinds of output {now['kinds']}, expected {then['kinds']}"
    return ""


def _differs(now: dict[str, object], then: dict[str, object]) -> str:
    if now["warned"] != then["warned"]:
        return "warned" if now["warned"] else "no longer warns"
    wrong = _varied(now, then)
    if wrong:
        return wrong
    mine, wanted = str(now["text"]), str(then["text"])
    if _words(mine) != _words(wanted) or not _same_numbers(mine, wanted):
        return f"printed\n{mine}\nexpected\n{wanted}"
    return ""


def _words(text: str) -> str:
    return " ".join(NUMBER.sub("#", text).split())


def _same_numbers(mine: str, wanted: str) -> bool:
    pairs = zip(NUMBER.findall(mine), NUMBER.findall(wanted), strict=True)
    return all(
        math.isclose(_number(one), _number(other), rel_tol=TOLERANCE, abs_tol=TOLERANCE)
        for one, other in pairs
    )


def _number(text: str) -> float:
    return float(text.replace("−", "-"))
