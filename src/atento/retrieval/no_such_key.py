"""What is said when a key is not there: that look-ups are exact, and which key may be meant."""

from collections.abc import Iterable
from difflib import get_close_matches
from itertools import islice
from typing import Any
from unicodedata import normalize

from atento._errors import InputError
from atento.retrieval.key_forms import shown

__all__ = ["NoSuchKeyError", "not_there"]

MOST, LONGEST = 1000, 100
"""Keys, and characters of a key, that are looked through for one that may have been meant."""


class NoSuchKeyError(InputError, KeyError):
    """A key that is not there."""

    __str__ = Exception.__str__  # KeyError's would quote the sentence


def not_there(key: Any, keys: Iterable[Any]) -> str:
    """The message of a KeyError.

    >>> not_there("mexico", ["méxico", "perro"])
    "there is no key 'mexico': d[key] is exact; d.attend(key) finds what is near. ... 'méxico' ...?"
    """
    message = f"there is no key {shown(key)}"
    exact = f"{message}: d[key] is exact; d.attend(key) finds what is near."
    if not isinstance(key, str) or len(key) > LONGEST:
        return exact
    texts = [own for own in islice(keys, MOST) if isinstance(own, str) and len(own) <= LONGEST]
    for own in texts:
        if normalize("NFC", own) == normalize("NFC", key):
            return (
                f"{message} of these characters: {own!a} is written with others that look the "
                f"same, and {key!a} was asked for. Write both in one Unicode form (NFC)."
            )
    near = get_close_matches(key, texts, 1)
    return f"{exact} Is {shown(near[0])} meant?" if near else exact
