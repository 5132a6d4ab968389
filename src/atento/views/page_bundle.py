"""The page's ES modules as one inline script, without a build step.

Imports are followed from the entry and their lines dropped; ``export`` is stripped. So all
modules share one scope, and two rules hold in ``assets/``, which the tests check: top-level names
are unique, and an import is one line, ``import { a, b } from "./file.js";``.
"""

import re
from importlib.resources import files

__all__ = ["asset", "bundle", "modules"]

_IMPORT = re.compile(r'^import \{[^}]*\} from "\./([\w-]+\.js)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:const|let|function|class)\b)", re.MULTILINE)
_LEFT_OVER = re.compile(r"^(?:import|export)\b.*", re.MULTILINE)


def asset(name: str) -> str:
    """Read a file of ``views/assets``, with line ends as browsers hash them."""
    return (files("atento.views") / "assets" / name).read_text(encoding="utf-8")


def modules(entry: str) -> list[str]:
    """The files that ``entry`` needs, itself last: each after those that it imports."""
    order: list[str] = []
    seen: set[str] = set()

    def visit(name: str) -> None:
        if name in seen:
            return
        seen.add(name)
        for imported in _IMPORT.findall(asset(name)):
            visit(imported)
        order.append(name)

    visit(entry)
    return order


def bundle(entry: str) -> str:
    """Join ``entry`` and all that it imports into one script."""
    parts = []
    for name in modules(entry):
        text = _EXPORT.sub("", _IMPORT.sub("", asset(name)))
        if left := _LEFT_OVER.search(text):
            raise RuntimeError(f"{name}: this line cannot be joined: {left.group()!r}")
        parts.append(text.strip())
    return "\n".join(parts) + "\n"
