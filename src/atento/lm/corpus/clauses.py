"""Free clauses: a subject, a verb in some tense, what the verb takes, and when or how."""

import random
import re
from collections.abc import Callable

from atento.lm.corpus import english, spanish
from atento.lm.corpus.words import Lexicon, Verb, Word

ENGLISH_PERSONS = {"i": 0, "you": 1, "he": 2, "she": 2, "it": 2, "we": 3, "they": 4}
SPANISH_PERSONS = {
    "yo": 0, "tú": 1, "él": 2, "ella": 2, "usted": 2, "nosotros": 3,
    "ellos": 4, "ellas": 4, "ustedes": 4,
}  # fmt: skip
TENSES = ("present", "present", "past", "past", "future", "progressive", "perfect", "modal")
BE, BE_PAST, HAVE = (
    ("am", "are", "is", "are", "are"),
    ("was", "were", "was", "were", "were"),
    ("have", "have", "has", "have", "have"),
)
ESTAR, ESTABA, HABER, IR = (
    ("estoy", "estás", "está", "estamos", "están"),
    ("estaba", "estabas", "estaba", "estábamos", "estaban"),
    ("he", "has", "ha", "hemos", "han"),
    ("voy", "vas", "va", "vamos", "van"),
)
REFLEXIVE = ("me", "te", "se", "nos", "se")
ENGLISH_MODALS = ("can", "must", "should", "could", "may", "would", "might")
SPANISH_MODALS = (
    ("puedo", "puedes", "puede", "podemos", "pueden"),
    ("debo", "debes", "debe", "debemos", "deben"),
    ("quiero", "quieres", "quiere", "queremos", "quieren"),
    ("tengo que", "tienes que", "tiene que", "tenemos que", "tienen que"),
    ("suelo", "sueles", "suele", "solemos", "suelen"),
    ("podría", "podrías", "podría", "podríamos", "podrían"),
    ("necesito", "necesitas", "necesita", "necesitamos", "necesitan"),
)
ADJECTIVES = {
    "food": "food", "fruit": "food", "vegetable": "food", "animal": "animal", "person": "character",
    "profession": "character", "thing": "thing", "clothes": "thing", "furniture": "thing",
    "vehicle": "thing", "building": "thing", "tool": "thing", "toy": "thing",
}  # fmt: skip
BARE = {"country", "city", "month", "weekday", "number"}
PEOPLE = {"person", "profession", "family"}
WHEN = {"perfect": "", "modal": "future"}


def _ignore(_word: Word, _many: bool) -> None:
    """Stand in where nobody asks which noun was used."""


class Clauses:
    """Draws clauses of one language."""

    def __init__(self, lexicon: Lexicon, language: str, rng: random.Random) -> None:
        self.lexicon, self.language, self.rng = lexicon, language, rng
        self.loose = lexicon.loose[language]

    def noun_phrase(
        self,
        word: Word,
        determiners: list[str],
        remember: Callable[[Word, bool], None] = _ignore,
    ) -> str:
        """Return a noun with its determiners: a, the, pl; el, un, los, mi, este, pl."""
        many = "pl" in determiners or "los" in determiners
        remember(word, many)
        noun = word.plural if many else word.singular
        words = [d for d in determiners if d != "pl"]
        if not words:
            return noun
        if self.language == "en":
            return english.a(noun) if words == ["a"] else f"the {noun}"
        kind = "el" if words[0] == "los" else words[0]
        return f"{spanish.determiner(kind, noun, word.gender, many)} {noun}"

    def clause(self) -> str:
        """Draw a clause: two in three tell what someone does, the rest how someone is."""
        subject, person, gender = self._subject()
        if self.rng.random() < 0.25:
            said = self._state(subject, person, gender)
        else:
            said = self._action(subject, person)
        return re.sub(" +", " ", said).strip()

    def _subject(self) -> tuple[str, int, str]:
        draw = self.rng.random()
        if draw < 0.55:
            pronoun = self.rng.choice(self.loose["subjects"])
            if self.language == "en":
                return pronoun, ENGLISH_PERSONS[pronoun], "m"
            gender = "f" if pronoun in {"ella", "ellas"} else "m"
            shown = pronoun if self.rng.random() < 0.4 or gender == "f" else ""
            return shown, SPANISH_PERSONS[pronoun], gender
        if draw < 0.7:
            name = self.rng.choice(self.lexicon.names)
            return name, 2, "f" if name.endswith("a") or name in {"carmen", "isabel"} else "m"
        category = self.rng.choice(("family", "person", "profession", "person", "profession"))
        word = self._word(category)
        if category == "family":
            determiner = self.rng.choice(("mi", "tu", "su"))
            if self.language == "en":
                determiner = self.rng.choice(("my", "your", "his", "her", "our", "their"))
            return f"{determiner} {word.singular}", 2, word.gender
        kind = self.rng.choice(("a", "the")) if self.language == "en" else "el"
        return self.noun_phrase(word, [kind]), 2, word.gender

    def _word(self, category: str) -> Word:
        concept = self.rng.choice(self.lexicon.categories[category].concepts)
        return self.rng.choice(concept.words(self.language))

    def _state(self, subject: str, person: int, gender: str) -> str:
        kind = self.rng.choice(("person", "person", "character"))
        adjective = self.rng.choice(self.lexicon.adjectives[kind])[self.language]
        degree = self.rng.choice((*self.loose["degree"], "", "", "", "", "", ""))
        past = self.rng.random() < 0.4
        if self.language == "en":
            return f"{subject} {(BE_PAST if past else BE)[person]} {degree} {adjective}"
        adjective = spanish.agree(adjective, gender, person > 2)
        verb = (ESTABA if past else ESTAR)[person]
        if kind == "character":
            verb = (("era", "eras", "era", "éramos", "eran") if past
                    else ("soy", "eres", "es", "somos", "son"))[person]  # fmt: skip
        if degree in {"no", "nunca", "siempre", "casi"}:
            return f"{subject} {degree.replace('casi', 'casi siempre')} {verb} {adjective}"
        return f"{subject} {verb} {degree} {adjective}"

    def _action(self, subject: str, person: int) -> str:
        verb = self.rng.choice(self.lexicon.verbs)
        tense = self.rng.choice(TENSES)
        if verb.state and tense == "progressive":
            tense = "present"
        negative = self.rng.random() < 0.1
        spoken = self._english_verb if self.language == "en" else self._spanish_verb
        parts = [subject, spoken(verb, tense, person, negative), self._complement(verb)]
        when = self.loose.get(WHEN.get(tense, tense), ())
        if when and self.rng.random() < 0.4:
            parts.append(self._time(self.rng.choice(when)))
        elif self.rng.random() < 0.15:
            parts.append(self.rng.choice(self.loose["manner"]))
        return " ".join(parts)

    def _time(self, phrase: str) -> str:
        return re.sub(r"\{(\w+)\}", lambda m: self._word(m[1]).singular, phrase)

    def _english_verb(self, verb: Verb, tense: str, person: int, negative: bool) -> str:
        forms, third = verb.en, person == 2
        no = " not" if negative else ""
        if tense == "future":
            return f"will{no} {forms['base']}"
        if tense == "modal":
            if self.rng.random() < 0.4:
                ask = self.rng.choice(("want", "have", "need"))
                ask = {"have": "has"}.get(ask, ask + "s") if third else ask
                return f"{ask} to {forms['base']}"
            return f"{self.rng.choice(ENGLISH_MODALS)}{no} {forms['base']}"
        if tense == "progressive":
            return f"{BE[person]}{no} {forms['progressive']}"
        if tense == "perfect":
            return f"{HAVE[person]}{no} {forms['participle']}"
        if negative:
            auxiliary = "did" if tense == "past" else "does" if third else "do"
            shape = self.rng.choice((" not", "n't"))
            return f"{auxiliary}{shape} {forms['base']}"
        return forms["past"] if tense == "past" else forms["third" if third else "base"]

    def _spanish_verb(self, verb: Verb, tense: str, person: int, negative: bool) -> str:
        forms = verb.es
        clitic = f"{REFLEXIVE[person]} " if verb.reflexive else ""
        if tense == "future":
            said = f"{IR[person]} a {forms['infinitive'][0]}"
        elif tense == "modal":
            said = f"{self.rng.choice(SPANISH_MODALS)[person]} {forms['infinitive'][0]}"
        elif tense == "progressive":
            said = f"{ESTAR[person]} {forms['gerund'][0]}"
        elif tense == "perfect":
            said = f"{HABER[person]} {forms['participle'][0]}"
        else:
            said = forms["preterite" if tense == "past" else "present"][person]
        return ("no " if negative else "") + clitic + said

    def _complement(self, verb: Verb) -> str:
        en, es, category = self.rng.choice(verb.complements)
        if not category:
            return ""
        word = self._word(category)
        if self.language == "en":
            return f"{en} {self._english_object(word, category)}".strip()
        if not es and category in PEOPLE:
            es = "a"
        return f"{es} {self._spanish_object(word, category)}".strip()

    def _adjective(self, category: str) -> str:
        if category in ADJECTIVES and self.rng.random() < 0.2:
            return self.rng.choice(self.lexicon.adjectives[ADJECTIVES[category]])[self.language]
        return ""

    def _english_object(self, word: Word, category: str) -> str:
        if category in BARE:
            return word.singular
        if category == "family":
            return f"{self.rng.choice(('my', 'your', 'his', 'her'))} {word.singular}"
        adjective = self._adjective(category)
        if self.lexicon.categories[category].mass:
            determiner = self.rng.choice(("", "some ", "the "))
            if category in {"subject", "sport"}:
                determiner = ""
            return f"{determiner}{adjective} {word.singular}".strip()
        noun = f"{adjective} {word.singular}".strip()
        draw = self.rng.random()
        if draw < 0.4:
            return english.a(noun)
        if draw < 0.5:
            return f"{self.rng.choice(('my', 'your', 'his', 'her'))} {noun}"
        if draw < 0.6:
            return f"{adjective} {word.plural}".strip()
        return f"the {noun}"

    def _spanish_object(self, word: Word, category: str) -> str:
        if category in BARE:
            return word.singular
        if category == "family":
            return f"{self.rng.choice(('mi', 'tu', 'su'))} {word.singular}"
        adjective = self._adjective(category)
        draw = self.rng.random()
        many = False
        if self.lexicon.categories[category].mass:
            kind = "" if category in {"food", "drink", "sport", "subject"} and draw < 0.5 else "el"
        else:
            kind = "un" if draw < 0.4 else "mi" if draw < 0.5 else "el"
            many = draw > 0.9
        noun = word.plural if many else word.singular
        determiner = spanish.determiner(kind, noun, word.gender, many) if kind else ""
        agreed = spanish.agree(adjective, word.gender, many) if adjective else ""
        return f"{determiner} {noun} {agreed}".strip()
