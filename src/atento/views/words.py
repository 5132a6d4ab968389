"""The words of the terminal and the command line, in the reader's language."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from atento._errors import AtentoError, InputError

__all__ = ["LANGUAGES", "Words", "choose_language", "in_words_of", "mistake", "words"]

LANGUAGES = ("en", "es")


@dataclass(frozen=True)
class Words:
    """Sentences by name, and how numbers are written."""

    lang: str
    sentences: Mapping[str, str]

    def __call__(self, name: str, /, **values: object) -> str:
        """The sentence of that name, with its blanks filled in."""
        return self.sentences[name].format(**values)

    def __contains__(self, name: object) -> bool:
        return name in self.sentences

    def count(self, name: str, number: int, /) -> str:
        """``3 rows``, ``1 row``: the singular for one, the plural for the rest."""
        form = "one" if number == 1 else "many"
        return self(f"{name}.{form}", n=number)

    def number(self, text: str) -> str:
        """A formatted number, with the decimal sign of the language."""
        return text.replace(".", ",") if self.lang == "es" else text

    def percent(self, share: float) -> str:
        """A share of 1 in percent, without decimals."""
        return f"{share:.0%}" if self.lang == "en" else f"{100 * share:.0f}\u00a0%"


@cache
def words(lang: str) -> Words:
    """The words of one language.

    Raises:
        InputError: there are none for it.

    >>> words("es")("weights")
    'pesos'
    """
    if lang not in LANGUAGES:
        raise InputError(
            f"lang must be one of {', '.join(LANGUAGES)}. Got {lang!r}: choose one of these."
        )
    path = files("atento.views") / "locales" / f"cli.{lang}.json"
    return Words(lang=lang, sentences=json.loads(path.read_text(encoding="utf-8")))


def choose_language(asked: str | None = None, environment: Mapping[str, str] | None = None) -> str:
    """The language to speak: the one asked for, or the environment's, or English.

    The first of ATENTO_LANG, LC_ALL, LC_MESSAGES and LANG that is set decides, as in other
    programs; a language without a translation is English.

    Raises:
        InputError: a language was asked for that there is none of.

    >>> choose_language(None, {"LANG": "es_MX.UTF-8"})
    'es'
    """
    if asked is not None:
        return words(asked.lower()).lang
    environment = os.environ if environment is None else environment
    for name in ("ATENTO_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        if setting := environment.get(name):
            code = setting.replace("-", "_").split("_")[0].split(".")[0].lower()
            return code if code in LANGUAGES else "en"
    return "en"


def in_words_of(word: Words, error: AtentoError) -> AtentoError:
    """The error in the user's language, where the words for it are there."""
    if error.name is None or f"error.{error.name}" not in word:
        return error
    facts = dict(error.facts)
    if f"wanted.{facts.get('wanted')}" in word:  # said in English where the mistake was found
        facts["wanted"] = word(f"wanted.{facts['wanted']}")
    return mistake(word, error.name, **facts)


def mistake(word: Words, name: str, /, **values: object) -> InputError:
    """A user's mistake, told in the user's language: the error of that name, to be raised."""
    return InputError(word(f"error.{name}", **values))
