"""The explanation of a match: its trace, with the query and the keys as names."""

from dataclasses import replace
from typing import Any

from atento.explanation.explain import explanation_of
from atento.records import Explanation
from atento.retrieval.match import Match

__all__ = ["explanation_of_match", "name_of"]

LONGEST = 200
"""Characters of a key that a picture needs at most: a key may have millions."""


def explanation_of_match(match: Match) -> Explanation:
    """What a picture of a match needs: one layer with one head, and a name for each token.

    Keys that the trace shows together have the name "… +900", with their number.

    >>> from atento import SoftDict
    >>> explanation_of_match(SoftDict({"yes": 1, "no": 0}).attend("maybe")).key_tokens
    ('yes', 'no')
    """
    explanation = explanation_of(match.trace())
    names = [name_of(key) for key in match.traced_keys()]
    if explanation.layers[0].trace["keys"].value.shape[-2] > len(names):
        names.append(f"… +{match.left_out():,}")
    return replace(explanation, tokens=(name_of(match.query),), key_tokens=tuple(names))


def name_of(key: Any) -> str:
    """A key as a token: its text, its number, or the first numbers of its vector."""
    if isinstance(key, str):
        return key if len(key) <= LONGEST else key[:LONGEST] + "…"
    if isinstance(key, tuple):
        numbers = [f"{number:.4g}" for number in key[:3]]
        return f"({', '.join([*numbers, *['…'] * (len(key) > 3)])})"
    return f"{key:.6g}" if isinstance(key, float) else str(key)
