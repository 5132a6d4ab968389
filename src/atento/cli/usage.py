"""What to say when a command was called with options that it has not, or without what it needs."""

from collections.abc import Sequence

from atento.views.words import LANGUAGES, Words, choose_language, words

__all__ = ["said"]

NUMBERS = {"int_parsing": "whole", "int_from_float": "whole", "float_parsing": "number"}
"""Kinds of mistakes that the parser tells, and what would have been right."""

PROGRAM = "atento"


def said(error: Exception, arguments: Sequence[str]) -> str:
    """The mistake in one line, in the user's language; typer's own words where ours have none.

    Args:
        error: typer's.
        arguments: what the program was called with; ``--lang`` among them chooses the language.
    """
    word = words(_language(arguments))
    context = getattr(error, "ctx", None)
    if context is not None:
        command = context.command_path
    elif arguments and not arguments[0].startswith("-"):  # the parser of a command forgets it
        command = f"{PROGRAM} {arguments[0]}"
    else:
        command = PROGRAM
    told = _told(error, word)
    if told is None:
        message: str = getattr(error, "format_message", error.__str__)()
        if message.startswith("Usage:"):  # no command at all: the help itself is the answer
            return message
        told = message if message.endswith((".", "?")) else f"{message}."
    return f"{told} {word('usage.help', command=command)}"


def _told(error: Exception, word: Words) -> str | None:
    kind, message = type(error).__name__, str(getattr(error, "message", error))
    if kind == "NoSuchOption":
        name = str(getattr(error, "option_name", ""))
        similar = sorted(getattr(error, "possibilities", None) or ())
        parts = [word("usage.option", name=name)]
        if similar:
            parts.append(word("usage.similar", names=", ".join(similar)))
        return " ".join([*parts, word("usage.dash")])
    if kind == "MissingParameter":
        return word("usage.missing", name=_name(error))
    if kind == "BadOptionUsage" and message.endswith("requires an argument."):
        return word("usage.needs_value", name=getattr(error, "option_name", ""))
    if kind == "BadOptionUsage" and message.endswith("does not take a value."):
        return word("usage.takes_none", name=getattr(error, "option_name", ""))
    if kind == "BadParameter":
        return _wrong_value(error, word)
    if message.startswith("No such command "):
        _, name, *similar = message.split("'")
        parts = [word("usage.command", name=name)]
        if similar[1::2]:
            parts.append(word("usage.similar", names=", ".join(similar[1::2])))
        return " ".join(parts)
    if message.startswith("Got unexpected extra argument"):
        return word("usage.too_many", extra=message.partition("(s) (")[2].removesuffix(")"))
    return None


def _wrong_value(error: Exception, word: Words) -> str | None:
    """The parser's cause knows what came, and why it does not do."""
    errors = getattr(error.__cause__, "errors", None)
    found = errors()[0] if callable(errors) else {}
    wanted = NUMBERS.get(found.get("type", ""))
    if wanted is None:
        return None
    return word(f"usage.{wanted}", name=_name(error), came=repr(found["input"]))


def _name(error: Exception) -> str:
    """The option or argument, as typer's sentence has it in quotes."""
    message: str = getattr(error, "format_message", error.__str__)()
    return message.split("'")[1] if "'" in message else message


def _language(arguments: Sequence[str]) -> str:
    for before, each in zip(("", *arguments), arguments, strict=False):
        asked = each if before == "--lang" else each.removeprefix("--lang=")
        if (before == "--lang" or each != asked) and asked in LANGUAGES:
            return asked
    return choose_language()
