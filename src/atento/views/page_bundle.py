"""The page's ES modules as one inline script, without a build step.

Imports are followed from the entry and their lines dropped; ``export`` is stripped, and so are
comments that have lines to themselves. So all modules share one scope, and three rules hold in
``assets/``, which the tests check: top-level names are unique, an import is one line,
``import { a, b } from "./file.js";``, and no string or template goes on over the end of a line.
"""

import re
from importlib.resources import files

__all__ = ["asset", "bundle", "joined", "modules", "without_comments"]

_IMPORT = re.compile(r'^import \{[^}]*\} from "\./([\w-]+\.js)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:const|let|function|class)\b)", re.MULTILINE)
_COMMENT = re.compile(r"^[ \t]*(?://.*|/\*(?:[^*]|\*(?!/))*\*/[ \t]*)(?:\n|\Z)", re.MULTILINE)
_LEFT_OVER = re.compile(r"^(?:import|export)\b.*", re.MULTILINE)


def asset(name: str) -> str:
    """Read a file of ``views/assets``, with line ends as browsers hash them."""
    return (files("atento.views") / "assets" / name).read_text(encoding="utf-8")


def without_comments(text: str) -> str:
    r"""A script or style sheet as pages carry it: whole lines that are comments are left out.

    Code is as it was written. Where no literal goes on over the end of a line, a line cannot begin
    with ``//`` or ``/*`` but as a comment, so nothing else need be known of the language.

    >>> without_comments("/** Why. */\nconst place = 'a//b'; // how\n  // what\nopen(place);\n")
    "const place = 'a//b'; // how\nopen(place);\n"
    """
    return _COMMENT.sub("", text)


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


def joined(name: str) -> str:
    """What a script with this module holds of it.

    Raises:
        RuntimeError: a line that cannot stand in a script with others.
    """
    text = _EXPORT.sub("", _IMPORT.sub("", without_comments(asset(name))))
    if left := _LEFT_OVER.search(text):
        raise RuntimeError(f"{name}: this line cannot be joined: {left.group()!r}")
    return text.strip() + "\n"


def bundle(entry: str) -> str:
    """Join ``entry`` and all that it imports into one script."""
    return "".join(map(joined, modules(entry)))
