"""The words of figures: those of the terminal for steps and roles, and their own."""

import json
from functools import cache
from importlib.resources import files

from atento.views.words import Words, choose_language, words

__all__ = ["figure_words"]


def figure_words(asked: str | None = None) -> Words:
    """The words in the language asked for, or that of the environment.

    Raises:
        InputError: a language that there is none of.

    >>> figure_words("es")("figure.weight")
    'peso'
    """
    return _both(choose_language(asked))


@cache
def _both(lang: str) -> Words:
    path = files("atento.views") / "locales" / f"figure.{lang}.json"
    own = json.loads(path.read_text(encoding="utf-8"))
    return Words(lang, {**words(lang).sentences, **own})
