"""Text for a terminal: nothing that acts on it gets through, and columns stay straight."""

import unicodedata
from collections.abc import Iterable, Iterator

from rich.cells import cell_len

__all__ = ["fit", "fold", "named", "pad", "visible"]

# Letters of several scripts and many emoji are joined by these two; they act on nothing else.
JOINERS = "\u200c\u200d"
# Letters and marks that are drawn as nothing at all.
FILLERS = "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u3164\uffa0"


def visible(text: str) -> str:
    r"""The text with every character that would act, or hide, drawn instead.

    Control characters get their picture (``ESC`` is ␛, a newline ␊); other invisible ones
    (C1 controls, bidirectional overrides, lone surrogates) their code, ``<U+202E>``.

    >>> visible("a\x1b[31m\u202e")
    'a␛[31m<U+202E>'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_drawn(character) for character in text)


def _drawn(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    if character in JOINERS:
        return character
    if character in FILLERS:
        return f"<U+{code:04X}>"
    # Cc, Cf, Cs, Co, Cn: what has no picture of its own; Zl, Zp: line and paragraph ends
    if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"):
        return f"<U+{code:04X}>"
    return character


def named(token: str) -> str:
    """A token as a label: without the blanks around it, and never nothing.

    >>> named(" journey"), named("  "), named("")
    ('journey', '␣␣', '∅')
    """
    return visible(token.strip(" ")) or "␣" * len(token) or "∅"


def fit(text: str, cells: int) -> str:
    """The visible text in at most ``cells`` columns, its end replaced by … where it is longer.

    >>> fit("journey", 5), fit("東京都", 5)
    ('jour…', '東京…')
    """
    text = visible(text)
    if cell_len(text) <= cells:
        return text
    kept = text
    while kept and cell_len(kept) > cells - 1:
        kept = kept[:-1]
    return kept.rstrip(JOINERS) + "…"


def fold(
    pieces: Iterable[str], cells: int, *, between: str = " ", indent: str = ""
) -> Iterator[str]:
    """Lines of at most ``cells`` columns, broken between pieces; from the second on, indented.

    >>> list(fold(["attention", "is", "all"], 12, indent="  "))
    ['attention is', '  all']
    """
    line = ""
    for piece in pieces:
        longer = f"{line}{between}{piece}" if line.strip() else f"{line}{piece}"
        if cell_len(longer) > cells and line.strip():
            yield line
            longer = indent + piece
        line = fit(longer, cells)
    if line.strip():
        yield line


def pad(text: str, cells: int, *, right: bool = False) -> str:
    """The text filled with blanks to ``cells`` columns, however wide its characters are."""
    blanks = " " * max(0, cells - cell_len(text))
    return blanks + text if right else text + blanks
