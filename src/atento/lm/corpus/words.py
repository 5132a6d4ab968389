"""The word lists, read into nouns, verbs, adjectives and countries of both languages."""

import tomllib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from atento.lm.corpus import english, spanish

HERE = Path(__file__).parent
LANGUAGES = ("en", "es")


@dataclass(frozen=True)
class Word:
    """One noun of one language: singular, plural and, in Spanish, its gender."""

    singular: str
    plural: str
    gender: str = "m"


@dataclass(frozen=True)
class Concept:
    """What a word names, with its words in both languages and its category."""

    category: str
    en: tuple[Word, ...]
    es: tuple[Word, ...]  # two where a profession has a masculine and a feminine

    def words(self, language: str) -> tuple[Word, ...]:
        """Return the words of one language."""
        return self.en if language == "en" else self.es

    def forms(self) -> set[str]:
        """Return every written form, in both languages."""
        return {form for word in self.en + self.es for form in (word.singular, word.plural)}


@dataclass(frozen=True)
class Category:
    """A set of concepts with the words that name it ("country", "país")."""

    name: str
    labels: dict[str, Word]
    aliases: dict[str, str | None]
    predicates: dict[str, str]
    mass: bool
    article: bool
    probe: bool
    concepts: tuple[Concept, ...]

    def label_forms(self) -> set[str]:
        """Return every written form of the category's name, in both languages."""
        forms = {f for word in self.labels.values() for f in (word.singular, word.plural)}
        return forms | {alias for alias in self.aliases.values() if alias}


@dataclass(frozen=True)
class Country:
    """What is true of a country, by language."""

    capital: dict[str, str]
    continent: dict[str, str]
    language: dict[str, str]
    nationality: dict[str, str]


@dataclass(frozen=True)
class Verb:
    """A verb of both languages and the complements that it takes."""

    en: dict[str, str]
    es: dict[str, list[str]]
    reflexive: bool
    state: bool
    complements: tuple[tuple[str, str, str], ...]  # preposition (en), preposition (es), category


@dataclass(frozen=True)
class Lexicon:
    """Everything the grammar draws from."""

    categories: dict[str, Category]
    countries: dict[str, Country]  # by the English name
    verbs: tuple[Verb, ...]
    adjectives: dict[str, tuple[dict[str, str], ...]]
    loose: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict)
    names: tuple[str, ...] = ()


def _pair(text: str) -> dict[str, str]:
    en, es = (part.strip().replace("_", " ") for part in text.split("="))
    return {"en": en, "es": es}


def _spanish_words(text: str) -> tuple[Word, ...]:
    """Read "perro", "leche:f", "médico/a" or "actor/actriz"."""
    if ":" in text:
        noun, marked = text.split(":")
        return (Word(noun, spanish.plural(noun), marked),)
    if "/" in text:
        masculine, other = text.split("/")
        if other == "a":
            stem = masculine[:-1] if masculine.endswith("o") else masculine
            other = (stem[:-2] + "on" if stem.endswith("ón") else stem) + "a"
        return (
            Word(masculine, spanish.plural(masculine), "m"),
            Word(other, spanish.plural(other), "f"),
        )
    return (Word(text, spanish.plural(text), spanish.gender(text)),)


def _concept(category: str, entry: str) -> Concept:
    pair = _pair(entry)
    return Concept(
        category, (Word(pair["en"], english.plural(pair["en"])),), _spanish_words(pair["es"])
    )


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.replace("\n", " ").split(",") if part.strip()]


def _verb(line: str) -> Verb:
    head, complements = line.split(":")
    pair = _pair(head)
    infinitive, _, change = pair["es"].partition("*")
    reflexive = infinitive.endswith("se")
    read = []
    entries = complements.split()
    for position, entry in enumerate(entries):
        if ">" in entry:
            en, es = entry.split(">")
            read.append((en, es, entries[position + 1]))
        elif position == 0 or ">" not in entries[position - 1]:
            read.append(("", "", entry.strip("-")))
    return Verb(
        english.verb_forms(pair["en"].lstrip("!")),
        spanish.verb_forms(infinitive.removesuffix("se"), change),
        reflexive,
        pair["en"].startswith("!"),
        tuple(read),
    )


def _category(name: str, entry: dict[str, Any], concepts: tuple[Concept, ...]) -> Category:
    label, plural = _pair(entry["label"]), _pair(entry["plural"])
    alias = _pair(entry["alias"]) if "alias" in entry else {"en": None, "es": None}
    labels = {
        "en": Word(label["en"], plural["en"]),
        "es": Word(label["es"], plural["es"], spanish.gender(label["es"])),
    }
    article = spanish.determiner("un", label["es"], labels["es"].gender, many=False)
    predicates = (
        _pair(entry["predicate"])
        if "predicate" in entry
        else {
            "en": english.a(label["en"]),
            "es": f"{article} {label['es']}",
        }
    )
    return Category(
        name,
        labels,
        dict(alias),
        predicates,
        bool(entry.get("mass", False)),
        bool(entry.get("article", True)),
        bool(entry.get("probe", False)),
        concepts,
    )


@cache
def load_lexicon() -> Lexicon:
    """Read the word lists that stand beside this file."""
    categories = {}
    for name, entry in tomllib.loads((HERE / "nouns.toml").read_text("utf-8")).items():
        concepts = tuple(_concept(name, word) for word in _split(entry["words"]))
        categories[name] = _category(name, entry, concepts)
    lexicon = tomllib.loads((HERE / "lexicon.toml").read_text("utf-8"))
    countries, states, cities = {}, [], [_concept("city", c) for c in _split(lexicon["cities"])]
    for line in (HERE / "countries.txt").read_text("utf-8").splitlines():
        if line.startswith("#"):
            continue
        name, *facts = line.split(";")
        states.append(_concept("country", name))
        capital, continent, language, nationality = (_pair(fact) for fact in facts)
        countries[states[-1].en[0].singular] = Country(capital, continent, language, nationality)
        if " " not in capital["en"] + capital["es"]:
            cities.append(_concept("city", facts[0]))
    plain: dict[str, Any] = {"mass": True, "article": False, "probe": True}
    categories["country"] = _category(
        "country", {"label": "country=país", "plural": "countries=países", **plain}, tuple(states)
    )
    categories["city"] = _category(
        "city", {"label": "city=ciudad", "plural": "cities=ciudades", **plain}, tuple(cities)
    )
    verbs = tomllib.loads((HERE / "verbs.toml").read_text("utf-8"))["verbs"]
    adjectives = tomllib.loads((HERE / "adjectives.toml").read_text("utf-8"))
    return Lexicon(
        categories,
        countries,
        tuple(_verb(line) for line in verbs.splitlines() if line),
        {kind: tuple(_pair(a) for a in _split(words)) for kind, words in adjectives.items()},
        {
            language: {kind: tuple(_split(words)) for kind, words in lexicon[language].items()}
            for language in LANGUAGES
        },
        tuple(_split(lexicon["names"])),
    )
