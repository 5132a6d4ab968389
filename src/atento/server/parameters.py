"""What a request asks for, read strictly: a wrong value is told, never guessed at."""

from collections.abc import Mapping
from typing import Any

from atento.server.mistakes import wrong

__all__ = ["MOST_CHARACTERS", "choice", "heads_off", "number", "places", "real", "text_of", "whole"]

MOST_CHARACTERS = 400_000
"""The longest text that is read."""


def whole(
    given: Mapping[str, Any], name: str, least: int, most: int, default: int | None = None
) -> int:
    """A whole number out of a query or a body."""
    value = given.get(name, default)
    if value is None:
        raise wrong("missing", parameter=name, least=least, most=most)
    if isinstance(value, str) and len(value) < 20 and value.isascii():
        digits = value.removeprefix("-")
        value = int(value) if digits.isdigit() else value
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise wrong("whole", parameter=name, least=least, most=most, came=_short(value))
    return value


def real(given: Mapping[str, Any], name: str, least: float, most: float, default: float) -> float:
    """A number out of a body."""
    value = given.get(name, default)
    fits = isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most
    if not fits:
        raise wrong("real", parameter=name, least=least, most=most, came=_short(value))
    return float(value)


def choice(given: Mapping[str, Any], name: str, among: tuple[str, ...]) -> str:
    """One of some words; the first where nothing is said."""
    value = given.get(name, among[0])
    if value not in among:
        raise wrong("choice", parameter=name, among=", ".join(among), came=_short(value))
    return str(value)


def places(
    given: Mapping[str, Any], name: str, last_row: int, last_col: int, most: int
) -> list[tuple[int, int]]:
    """Pairs row.column out of a query, with commas between them."""
    said = str(given.get(name, ""))
    pairs = [part.split(".") for part in said.split(",", most)]
    digits = all(
        len(pair) == 2 and all(n.isascii() and n.isdigit() and len(n) < 20 for n in pair)
        for pair in pairs
    )
    found = [(int(row), int(col)) for row, col in pairs] if digits else []
    if not 0 < len(found) <= most or any(row > last_row or col > last_col for row, col in found):
        facts = {"last_row": last_row, "last_col": last_col, "most": most}
        raise wrong("places", parameter=name, came=_short(said), **facts)
    return found


def text_of(given: Mapping[str, Any]) -> str:
    """The text that is to be read."""
    text = given.get("text")
    if not isinstance(text, str) or not text.strip():
        raise wrong("text_missing")
    if len(text) > MOST_CHARACTERS:
        raise wrong("text_long", came=len(text), most=MOST_CHARACTERS)
    return text


def heads_off(given: Mapping[str, Any]) -> tuple[tuple[int, int], ...]:
    """The heads that are switched off: pairs of layer number and head."""
    pairs = given.get("off", [])
    fits = (
        isinstance(pairs, list)
        and len(pairs) <= 4096
        and all(
            isinstance(pair, list)
            and len(pair) == 2
            and all(type(n) is int and 0 <= n < 2**20 for n in pair)
            for pair in pairs
        )
    )
    if not fits:
        raise wrong("heads_off")
    return tuple(sorted({(layer, head) for layer, head in pairs}))


def number(value: Any) -> float | None:
    """A number as JSON has it; None for NaN and ∞."""
    as_float = float(value)
    return as_float if as_float - as_float == 0 else None


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}…"
