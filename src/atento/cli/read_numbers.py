"""Layers and heads as they are named on the command line."""

import re
from typing import TYPE_CHECKING

from atento.views.words import mistake

if TYPE_CHECKING:
    from atento.views.words import Words

__all__ = ["heads_of", "layers_of"]


def layers_of(text: str, word: "Words") -> list[int | str]:
    """0,3-5,model.layers.* as numbers and names."""
    wishes: list[int | str] = []
    for part in _parts(text):
        numbers = _span(part)
        if numbers is not None:
            wishes.extend(numbers)
        elif part and not part.startswith("-"):
            wishes.append(part)
        else:
            raise mistake(word, "layers_value", came=repr(text))
    return wishes


def heads_of(text: str, word: "Words") -> list[int]:
    """0-3,7 as numbers, each once, in order."""
    found: set[int] = set()
    for part in _parts(text):
        numbers = _span(part)
        if numbers is None:
            raise mistake(word, "heads_value", came=repr(text))
        found.update(numbers)
    return sorted(found)


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def _span(part: str) -> range | None:
    """3 or 3-7 as a range; None for anything else, or a range that ends before it begins."""
    found = re.fullmatch(r"([0-9]{1,6})(?:-([0-9]{1,6}))?", part)
    if found is None:
        return None
    first, last = int(found[1]), int(found[2] or found[1])
    return range(first, last + 1) if first <= last else None
