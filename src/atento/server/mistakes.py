"""What the server says of a mistake, in the language of whoever asked."""

import json
from functools import cache
from importlib.resources import files
from typing import Any

from atento._errors import AtentoError, InputError
from atento.views.words import LANGUAGES, Words, words

__all__ = ["language_of", "said_of", "say", "wrong"]


def say(lang: str, name: str, /, **facts: object) -> str:
    """A sentence of the server, its blanks filled in; long numbers in groups of three.

    >>> say("es", "no_layer", layer=9, last=1)
    'no hay ninguna capa 9: las hay de 0 a 1.'
    """
    grouped = {key: _grouped(lang, value) for key, value in facts.items()}
    return _sentences(lang)(f"error.{name}", **grouped)


def wrong(name: str, /, **facts: object) -> InputError:
    """A mistake in a request, to be raised: in English, and by name for other languages.

    >>> wrong("no_array", place=9, count=2)
    InputError('there is no array 9: there are 2.')
    """
    return InputError(say("en", name, **facts), name=name, **facts)


def said_of(error: AtentoError, lang: str) -> str:
    """The error in a language, where there are words for it; else as it is."""
    if error.name is None or f"error.{error.name}" not in _sentences(lang):
        return str(error)
    return say(lang, error.name, **error.facts)


def language_of(asked: str | None, accepted: str) -> str:
    """The language to answer in.

    Args:
        asked: the parameter ``lang`` of the request; it decides where it is a language of ours.
        accepted: the header Accept-Language; its favourite among ours is taken, or English.

    >>> language_of(None, "fr-FR, es-MX;q=0.8, en;q=0.5")
    'es'
    """
    if asked in LANGUAGES:
        return str(asked)
    liked = [(-_quality(part), part.strip()[:2].lower()) for part in accepted.split(",")[:20]]
    found = [(dislike, lang) for dislike, lang in liked if lang in LANGUAGES and dislike < 0]
    return min(found, key=lambda each: each[0])[1] if found else "en"


def _quality(part: str) -> float:
    _, _, said = part.partition("q=")
    try:
        return float(said) if said else 1.0
    except ValueError:
        return 0.0


def _grouped(lang: str, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) < 10_000:
        return value
    return f"{value:,}".replace(",", "," if lang == "en" else "\u202f")


@cache
def _sentences(lang: str) -> Words:
    path = files("atento.views") / "locales" / f"server.{lang}.json"
    own: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return Words(lang, {**words(lang).sentences, **own})
