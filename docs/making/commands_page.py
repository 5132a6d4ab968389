"""The page of the commands, made from the program itself: every command, every option."""

import re
from collections.abc import Iterator
from typing import Any

import typer.main

__all__ = ["commands", "commands_page"]

HEAD = """# Commands

Made from the program itself; `atento COMMAND --help` says the same. Mistakes are told in one
line and end with exit code 2, a check that failed with 1, Ctrl-C with 130.

"""


def commands() -> Iterator[tuple[str, Any]]:
    """The full name of each command, such as "atento index build", and the command."""
    from atento.cli.app import app

    yield from _below("atento", typer.main.get_command(app))


def commands_page() -> str:
    """The page as Markdown."""
    return HEAD + "\n".join(_section(name, command) for name, command in commands())


def _below(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield name, command
        return
    for word, part in inner.items():
        yield from _below(f"{name} {word}", part)


def _section(name: str, command: Any) -> str:
    context = command.make_context(name, [], resilient_parsing=True)
    parts = [f"## {name}", "", _prose(command.help or ""), ""]
    for kind in ("argument", "option"):
        rows = [
            parameter.get_help_record(context)
            for parameter in command.params
            if parameter.param_type_name == kind
        ]
        parts += _table(kind, [row for row in rows if row])
    return "\n".join(parts)


def _table(kind: str, rows: list[tuple[str, str]]) -> list[str]:
    if not rows:
        return []
    lines = [f"| {kind} | |", "|---|---|"]
    shown = [f"| <code>{_cell(name)}</code> | {_cell(said)} |" for name, said in rows]
    return [*lines, *shown, ""]


def _prose(text: str) -> str:
    """Paragraphs as they are; lines that are commands as code."""
    paragraphs = re.split(r"\n\s*\n", text.replace("\b\n", "").strip())
    return "\n\n".join(
        f"```console\n{_commands(one)}\n```"
        if one.lstrip().startswith(("atento ", "torchrun "))
        else " ".join(one.split())
        for one in paragraphs
    )


def _commands(paragraph: str) -> str:
    return "\n".join(f"$ {line.strip()}" for line in paragraph.splitlines())


def _cell(text: str) -> str:
    """One line, in which nothing is a column's end or a tag."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
