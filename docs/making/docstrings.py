"""Docstrings as the site shows them: examples are code, and each argument has an entry."""

import re
from typing import Any

import griffe

__all__ = ["HouseStyle", "with_an_entry_each", "with_fenced_examples"]

SHARED = re.compile(r"    (\*{0,2}\w+(?:, \*{0,2}\w+)+): (.*)")
DIRECTIVE = re.compile(r"\s+# doctest: .*$")


class HouseStyle(griffe.Extension):
    """What the house writes in docstrings and griffe does not know.

    Doctests outside a section, which Markdown would take for quotations of quotations; and
    arguments that share an entry: ``kdim, vdim: features of the keys, of the values.``
    """

    def on_object(self, *, obj: griffe.Object, **options: Any) -> None:
        """Change the docstring of each object that was found."""
        del options
        if obj.docstring is not None:
            obj.docstring.value = with_an_entry_each(with_fenced_examples(obj.docstring.value))


def with_fenced_examples(text: str) -> str:
    """The text with each run of doctest lines in a fence, without directives of doctest."""
    made: list[str] = []
    indent: str | None = None
    for line in text.split("\n"):
        begins = re.match(r"(\s*)>>> ", line)
        if indent is None and begins:
            indent = begins[1]
            made.append(f"{indent}```pycon")
        elif indent is not None and not line.strip():
            made.append(f"{indent}```")
            indent = None
        made.append(DIRECTIVE.sub("", line) if indent is not None else line)
    if indent is not None:
        made.append(f"{indent}```")
    return "\n".join(made)


def with_an_entry_each(text: str) -> str:
    """The text with an entry for each of the arguments that share one, and the same words."""
    made: list[str] = []
    names: list[str] = []
    body: list[str] = []

    def finish() -> None:
        for name in names:
            made.extend([f"    {name}: {body[0]}", *body[1:]])
        names.clear()
        body.clear()

    for line in text.split("\n"):
        shared = SHARED.fullmatch(line)
        if names and line.startswith("        "):
            body.append(line)
            continue
        finish()
        if shared:
            names += shared[1].split(", ")
            body.append(shared[2])
        else:
            made.append(line)
    finish()
    return "\n".join(made)
