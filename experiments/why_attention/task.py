"""The task: a list of dates in words, in English or Spanish, to ISO dates, two digits at a time.

    the fifth of march nineteen ninety nine , el uno de mayo de dos mil uno
    19 99 03 05  20 01 05 01                                  (1999-03-05 2001-05-01)

The order turns (day, month, year becomes year, month, day), a year's two numbers may be five words,
and a list can be made as long as one likes: every date in it is as easy as the first, so whatever
fails on long lists fails to remember, or to find, what it has read.
"""

import datetime
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["LANGUAGES", "PAD", "START", "TARGETS", "WORDS", "Batch", "Sample"]

LANGUAGES = ("en", "es")
FORMS = 2  # of a date in each language
FIRST, LAST = datetime.date(1900, 1, 1), datetime.date(2099, 12, 31)
HELD_OUT = 10  # one day in so many is for the tests alone
PER_DATE = 4  # numbers: century, year, month, day
COMMA = ","


def _list(words: str) -> list[str]:
    return words.split()


MONTHS = {
    "en": _list(
        "january february march april may june july august september october november december"
    ),
    "es": _list(
        "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre"
    ),
}
UNITS = {
    "en": _list(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
        "fifteen sixteen seventeen eighteen nineteen"
    ),
    "es": _list(
        "cero uno dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince "
        "dieciséis diecisiete dieciocho diecinueve veinte veintiuno veintidós veintitrés "
        "veinticuatro veinticinco veintiséis veintisiete veintiocho veintinueve"
    ),
}
TENS = {
    "en": _list("_ _ twenty thirty forty fifty sixty seventy eighty ninety"),
    "es": _list("_ _ veinte treinta cuarenta cincuenta sesenta setenta ochenta noventa"),
}
ORDINALS = _list(
    "_ first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth "
    "thirteenth fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth"
)


def number(n: int, language: str) -> str:
    """0 to 99 in words: "ninety nine", "noventa y nueve"."""
    units, tens = UNITS[language], TENS[language]
    if n < len(units):
        return units[n]
    if n % 10 == 0:
        return tens[n // 10]
    return f"{tens[n // 10]} {'y ' if language == 'es' else ''}{units[n % 10]}"


def ordinal(n: int) -> str:
    """1 to 31 as an English ordinal: "twenty first"."""
    if n < len(ORDINALS):
        return ORDINALS[n]
    if n % 10 == 0:
        return {20: "twentieth", 30: "thirtieth"}[n]
    return f"{TENS['en'][n // 10]} {ORDINALS[n % 10]}"


def year(n: int, language: str) -> str:
    """1900 to 2099 in words: "nineteen oh five", "dos mil uno"."""
    century, rest = divmod(n, 100)
    if language == "es":
        head = {19: "mil novecientos", 20: "dos mil"}[century]
        return f"{head} {number(rest, 'es')}" if rest else head
    if century == 20 and rest < 10:
        return f"two thousand and {number(rest, 'en')}" if rest else "two thousand"
    head = {19: "nineteen", 20: "twenty"}[century]
    if rest < 10:
        return f"{head} oh {number(rest, 'en')}" if rest else f"{head} hundred"
    return f"{head} {number(rest, 'en')}"


def in_words(date: datetime.date, language: str, form: int = 0) -> str:
    """One date as one says it; each language has two forms.

    >>> day = datetime.date(1999, 3, 5)
    >>> in_words(day, "en"), in_words(day, "en", form=1)
    ('the fifth of march nineteen ninety nine', 'march fifth nineteen ninety nine')
    >>> in_words(day, "es")
    'el cinco de marzo de mil novecientos noventa y nueve'
    """
    month = MONTHS[language][date.month - 1]
    said = year(date.year, language)
    if language == "en":
        day = ordinal(date.day)
        return f"{month} {day} {said}" if form else f"the {day} of {month} {said}"
    day = "primero" if date.day == 1 and form else number(date.day, "es")
    if form:
        return f"{day} de {month} {'del' if date.year >= 2000 else 'de'} {said}"
    return f"el {day} de {month} de {said}"


def in_numbers(date: datetime.date) -> list[str]:
    """The ISO date, two digits at a time: ["19", "99", "03", "05"]."""
    return [f"{n:02d}" for n in (date.year // 100, date.year % 100, date.month, date.day)]


def _all_words() -> list[str]:
    """Every word that a list can hold, in alphabetical order."""
    words = {COMMA}
    january = [datetime.date(century, 1, day) for century in (1900, 2000) for day in range(1, 32)]
    for language in LANGUAGES:
        words |= set(MONTHS[language])
        for n in range(FIRST.year, LAST.year + 1):
            words |= set(year(n, language).split())
        for day in january:
            for form in range(FORMS):
                words |= set(in_words(day, language, form).split())
    return sorted(words)


PAD, START = "<pad>", "<start>"
WORDS = [PAD, *_all_words()]
TARGETS = [START, *(f"{n:02d}" for n in range(100))]
WORD_ID = {word: i for i, word in enumerate(WORDS)}
TARGET_ID = {target: i for i, target in enumerate(TARGETS)}


@dataclass(frozen=True)
class Sample:
    """One list of dates.

    Attributes:
        words: ("the", "fifth", "of", …, ",", "el", …).
        numbers: ("19", "99", "03", "05", "20", …), four to a date.
    """

    words: tuple[str, ...]
    numbers: tuple[str, ...]

    @staticmethod
    def of(
        dates: Sequence[datetime.date], languages: Sequence[str], forms: Sequence[int]
    ) -> "Sample":
        """The list of these dates, each in its language and form."""
        said = [in_words(*one) for one in zip(dates, languages, forms, strict=True)]
        numbers = [n for date in dates for n in in_numbers(date)]
        return Sample(tuple(f" {COMMA} ".join(said).split()), tuple(numbers))

    @staticmethod
    def draw(dates: int, draw: random.Random, *, held_out: bool) -> "Sample":
        """A list of so many dates of 1900 to 2099, each in a language and form of its own.

        With ``held_out`` all are days that lists without it never hold.
        """
        days = [_day(draw, held_out) for _ in range(dates)]
        languages = [draw.choice(LANGUAGES) for _ in days]
        return Sample.of(days, languages, [draw.randrange(FORMS) for _ in days])


def _day(draw: random.Random, held_out: bool) -> datetime.date:
    while True:
        day = draw.randint(FIRST.toordinal(), LAST.toordinal())
        if (day % HELD_OUT == 0) == held_out:
            return datetime.date.fromordinal(day)


@dataclass(frozen=True)
class Batch:
    """Lists with the same number of dates, as ids.

    Attributes:
        source: (batch, word) int64; short lists end in `PAD`.
        keep: (batch, word) bool, True = a word.
        target: (batch, number) int64.
    """

    source: Tensor
    keep: Tensor
    target: Tensor

    @staticmethod
    def of(samples: Sequence[Sample]) -> "Batch":
        """The samples side by side."""
        longest = max(len(sample.words) for sample in samples)
        source = torch.zeros(len(samples), longest, dtype=torch.int64)  # PAD is word 0
        for row, sample in zip(source, samples, strict=True):
            row[: len(sample.words)] = torch.tensor([WORD_ID[word] for word in sample.words])
        target = torch.tensor([[TARGET_ID[n] for n in sample.numbers] for sample in samples])
        return Batch(source, source != WORD_ID[PAD], target)

    @staticmethod
    def draw(size: int, dates: int, draw: random.Random, *, held_out: bool = False) -> "Batch":
        """So many lists of so many dates, for training or, held out of it, for tests."""
        return Batch.of([Sample.draw(dates, draw, held_out=held_out) for _ in range(size)])
