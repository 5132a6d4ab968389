"""What the model is never told: the 100 probes, and the memberships kept out of all training.

A probe asks which of four words is not a country (say). Every one of the four words is *held out*:
no training sentence holds both a form of such a word and a name of its category, in either
language, and no training pair joins the two. The words are met in use ("vivo en méxico").
"""

import json
import random
import re
from dataclasses import asdict, dataclass
from functools import cache

from atento.lm.corpus.words import HERE, LANGUAGES, Category, Concept, Lexicon, load_lexicon

PROBES = HERE / "probes.json"
PROBES_PER_LANGUAGE = 50
HELD_OUT_PER_CATEGORY = 8
WORD = re.compile("[a-zß-öø-ÿ]+")

# Pairs of categories of which a speaker could dispute who is the odd one out.
CLOSE = (
    {"fruit", "vegetable", "food", "drink", "tree", "flower", "animal"},
    {"country", "city", "building"},
    {"family", "profession"},
    {"tool", "material", "instrument", "furniture"},
    {"body", "clothes"},
    {"colour", "material", "flower", "fruit", "tree"},
    {"subject", "sport", "instrument", "feeling"},
    {"month", "number"},
)
# The example that the documentation opens with is one of the probes.
FIRST = {"es": ("country", ("méxico", "alemania", "inglaterra"), "perro")}


@dataclass(frozen=True)
class Probe:
    """Four held-out words, three of them members of the category that `query` names."""

    language: str
    category: str
    query: str
    words: tuple[str, ...]
    odd: str


@cache
def load_probes() -> tuple[Probe, ...]:
    """Read the probes."""
    rows = json.loads(PROBES.read_text("utf-8"))
    return tuple(Probe(**{**row, "words": tuple(row["words"])}) for row in rows)


@cache
def held_out_concepts() -> frozenset[Concept]:
    """Return every concept that a word of a probe names, whichever the language."""
    asked = {(probe.language, word) for probe in load_probes() for word in probe.words}
    return frozenset(
        concept
        for category in load_lexicon().categories.values()
        for concept in category.concepts
        if any(
            (language, word.singular) in asked
            for language in LANGUAGES
            for word in concept.words(language)
        )
    )


@cache
def forbidden_names() -> dict[str, frozenset[str]]:
    """Map each form of a held-out word to the words that name its category."""
    categories = load_lexicon().categories
    return {
        form: frozenset(
            name for name in categories[concept.category].label_forms() if " " not in name
        )
        for concept in held_out_concepts()
        for form in concept.forms()
    }


def states_held_out_membership(sentence: str) -> bool:
    """Tell whether a sentence holds a held-out word beside a name of its category."""
    forbidden = forbidden_names()
    words = set(WORD.findall(sentence))
    return any(not forbidden[word].isdisjoint(words) for word in words & forbidden.keys())


def draw_probes(lexicon: Lexicon, seed: int) -> list[Probe]:
    """Draw the words to hold out and the probes that ask for them."""
    rng = random.Random(seed)  # noqa: S311
    uses: dict[str, int] = {}
    for category in lexicon.categories.values():
        for form in category.label_forms().union(*(c.forms() for c in category.concepts)):
            uses[form] = uses.get(form, 0) + 1
    categories = [c for c in lexicon.categories.values() if c.probe]
    held = {c.name: _draw_concepts(c, uses, rng) for c in categories}
    probes = []
    for language in LANGUAGES:
        order = [c.name for c in categories]
        rng.shuffle(order)
        for number in range(PROBES_PER_LANGUAGE):
            name = order[number % len(order)]
            others = [o for o in order if o != name and not any({o, name} <= c for c in CLOSE)]
            members = [c.words(language)[0].singular for c in rng.sample(held[name], 3)]
            odd = rng.choice(held[rng.choice(others)]).words(language)[0].singular
            if number == 0 and language in FIRST:
                name, given, odd = FIRST[language]
                members = list(given)
            words = [*members, odd]
            rng.shuffle(words)
            query = lexicon.categories[name].labels[language].singular
            probes.append(Probe(language, name, query, tuple(words), odd))
    return probes


def _draw_concepts(category: Category, uses: dict[str, int], rng: random.Random) -> list[Concept]:
    """Draw concepts whose words are single words that no other category uses."""
    fixed = {word for _, members, odd in FIRST.values() for word in (*members, odd)}
    clear = [
        c for c in category.concepts if not any(" " in f or uses[f] > 1 for f in c.forms())
    ]  # fmt: skip
    first = [c for c in clear if c.es[0].singular in fixed]
    rest = [c for c in clear if c not in first]
    rng.shuffle(rest)
    return (first + rest)[: min(HELD_OUT_PER_CATEGORY, max(3, len(category.concepts) // 4))]


def write_probes(seed: int = 7) -> None:
    """Write the probes that `draw_probes` draws."""
    rows = [asdict(probe) for probe in draw_probes(load_lexicon(), seed)]
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    PROBES.write_text(f"[\n{lines}\n]\n", "utf-8")
