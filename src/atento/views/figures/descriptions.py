"""What a picture shows, in a sentence or two: for those who cannot see it."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from atento.views.figures.heads import Cells, Head
from atento.views.figures.labels import short, shown
from atento.views.words import Words

__all__ = ["heads_named", "roles_counted", "sizes", "strongest"]


def sizes(queries: int, keys: int, word: Words) -> str:
    """How many queries and keys.

    >>> from atento.views.figures.words import figure_words
    >>> sizes(6, 1, figure_words("es"))
    '6 × 1 (consulta × clave)'
    """
    return word("figure.told.sizes", queries=queries, keys=keys)


def strongest(head: Head, cells: Cells, word: Words) -> str:
    """The largest weight among queries that had a choice; empty where cells hold several weights.

    A query that sees one key gives it all of its weight, which says nothing.
    """
    if cells.sides != (1, 1):
        return ""
    chosen = cells.seen & (cells.seen.sum(1, keepdims=True) > 1) & np.isfinite(cells.weights)
    if not chosen.any():
        return ""
    weights = np.where(chosen, cells.weights, -1.0)
    row, column = np.unravel_index(int(weights.argmax()), weights.shape)
    query, key = int(row) + cells.corner[0], int(column) + cells.corner[1]
    return " " + word(
        "figure.told.strongest",
        query=_named(head.tokens, query, word),
        key=_named(head.key_tokens, key, word),
        weight=word.number(f"{weights[row, column]:.2f}"),
    )


def heads_named(heads: Sequence[Head], word: Words) -> str:
    """Which heads: "layer 2, heads 0, 3"."""
    numbers = ", ".join(str(head.number) for head in heads)
    told = word("figure.told.heads", heads=numbers)
    if len(heads) == 1:
        told = word("figure.title.head", head=numbers)
    layer = heads[0].layer
    return told if layer is None else f"{word('figure.layer')} {shown(str(layer), 40)}, {told}"


def roles_counted(heads: Iterable[Head], word: Words) -> str:
    """How many heads have each role, the most frequent first; empty where none is known."""
    roles = Counter(head.role for head in heads if head.role is not None)
    if not roles:
        return ""
    names = {name: word(f"role.{name.replace(' ', '_')}") for name in roles}
    told = ", ".join(f"{names[name]} {count}" for name, count in roles.most_common())
    return " " + word("figure.told.roles", roles=told)


def _named(tokens: Sequence[str] | None, at: int, word: Words) -> str:
    return str(at) if tokens is None else word("figure.told.named", token=short(tokens[at]))
