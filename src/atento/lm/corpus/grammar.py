"""Sentences from templates: from "vivo en {country}." to "vivo en méxico.".

A template's slots are filled left to right; a slot may ask for a noun with its determiner
(`{the animal}`, `{los animal}`), an adjective that agrees with the noun before it
(`{~maduro}`, `{adj food}`), a fact about it (`{@capital}`), or a whole clause.
"""

import random
import re
from functools import cache

from atento.lm.corpus import english, spanish
from atento.lm.corpus.clauses import Clauses
from atento.lm.corpus.words import HERE, Category, Concept, Lexicon, Word

SLOT = re.compile(r"\{([^}]+)\}")
# How often a section is drawn; the rest have weight 1.
SECTION_WEIGHTS = {"clause": 9.0, "phrases": 4.0, "is_a": 4.0, "bilingual": 2.0, "country": 2.0}
NUMBERS = [*range(2, 21), *range(30, 100, 10)]  # in the order of the number words


@cache
def templates(language: str) -> dict[str, tuple[str, ...]]:
    """Read the templates of a language by section."""
    sections: dict[str, list[str]] = {}
    current: list[str] = []
    for line in (HERE / f"usage_{language}.txt").read_text("utf-8").splitlines():
        if line.startswith("["):
            current = sections.setdefault(line.strip("[]"), [])
        else:
            current.append(line)
    sections["phrases"] = (HERE / f"phrases_{language}.txt").read_text("utf-8").splitlines()
    return {name: tuple(lines) for name, lines in sections.items()}


class Grammar:
    """Draws sentences of one language."""

    def __init__(self, lexicon: Lexicon, language: str, rng: random.Random) -> None:
        self.lexicon, self.language, self.rng = lexicon, language, rng
        self.sections = templates(language)
        self.section_names = list(self.sections)
        self.section_weights = [SECTION_WEIGHTS.get(name, 1.0) for name in self.sections]
        self.clauses = Clauses(lexicon, language, rng)
        self.asked_categories = list(lexicon.categories.values())
        self.word = Word("", "")
        self.many = False
        self.country: Concept | None = None
        self.numbers: list[int] = []
        self.concept: Concept | None = None
        self.category = self.asked_categories[0]

    def sentence(self) -> str:
        """Draw one sentence."""
        section = self.rng.choices(self.section_names, self.section_weights)[0]
        template = self.rng.choice(self.sections[section])
        self.numbers, self.concept = [], None
        if section in {"is_a", "bilingual"}:
            self.category = self.rng.choice(self.asked_categories)
        return self.tidy(SLOT.sub(self._fill, template))

    def tidy(self, sentence: str) -> str:
        """Apply what depends on neighbouring words: del, al, "e" before i-, "u" before o-."""
        if self.language == "en":
            return sentence
        sentence = re.sub(r"\b(a|de) el\b(?! cairo)", r"\1l", sentence)
        sentence = re.sub(r"\by (?=h?i(?!e))", "e ", sentence)
        return re.sub(r"\bo (?=h?o)", "u ", sentence)

    def _fill(self, match: re.Match[str]) -> str:
        slot = match[1]
        if slot.startswith("@"):
            return self._fact(slot[1:])
        if slot.startswith("~"):
            return spanish.agree(slot[1:], self.word.gender, self.many)
        if slot.startswith("=colour"):
            colour = self.rng.choice(self.lexicon.categories["colour"].concepts).es[0].singular
            return spanish.agree(colour, self.word.gender, False)
        head, _, rest = slot.partition(" ")
        if "label" in slot:
            return self._label(slot)
        if "*" in slot:
            return self._asked(head, rest)
        if head == "adj":
            pair = self.rng.choice(self.lexicon.adjectives[rest])
            if self.language == "en":
                return pair["en"]
            return spanish.agree(pair["es"], self.word.gender, self.many)
        if slot == "clause":
            return self.clauses.clause()
        if slot == "link":
            return self.rng.choice(self.lexicon.loose[self.language]["link"])
        if slot == "name":
            return self.rng.choice(self.lexicon.names)
        *determiners, category = slot.split(" ")
        return self._noun(determiners, category)

    def _noun(self, determiners: list[str], category_name: str) -> str:
        category = self.lexicon.categories[category_name]
        concept = self.rng.choice(category.concepts)
        if category_name == "country":
            self.country = concept
        if category_name == "number":
            self.numbers.append(NUMBERS[category.concepts.index(concept)])
        word = self.rng.choice(concept.words(self.language))
        return self.clauses.noun_phrase(word, determiners, self._remember)

    def _remember(self, word: Word, many: bool) -> None:
        self.word, self.many = word, many

    def _fact(self, name: str) -> str:
        if name == "sum":
            total = sum(self.numbers[-2:])
            if total in NUMBERS:
                concept = self.lexicon.categories["number"].concepts[NUMBERS.index(total)]
                return concept.words(self.language)[0].singular
            return " ".join(str(total))
        if self.country is None:
            raise LookupError(f"a template asks for @{name} before it names a country")
        country = self.lexicon.countries[self.country.en[0].singular]
        fact: dict[str, str] = getattr(country, name)
        return fact[self.language]

    def _label(self, slot: str) -> str:
        label = self.category.labels[self.language]
        if slot == "label":
            return label.singular
        if slot == "labels":
            return label.plural
        return self.category.predicates[self.language]

    def _asked(self, head: str, language: str) -> str:
        """Name a concept of the category in question; both languages name the same one."""
        if head == "*" and language:
            if self.concept is None:
                self.concept = self.rng.choice(self.category.concepts)
            return self.concept.words(language)[0].singular
        if self.concept is None or head in {"pl", "los"}:
            self.concept = self.rng.choice(self.category.concepts)
        word = self.concept.words(self.language)[0]
        if head == "*":
            return word.singular
        return self._with_determiner(head, word, self.category)

    def _with_determiner(self, head: str, word: Word, category: Category) -> str:
        if self.language == "en":
            if head == "pl":
                return word.singular if category.mass else word.plural
            return word.singular if category.mass else english.a(word.singular)
        if not category.article:
            return word.singular
        many = head == "los" and not category.mass
        noun = word.plural if many else word.singular
        return f"{spanish.determiner('el', noun, word.gender, many)} {noun}"
