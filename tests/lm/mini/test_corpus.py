"""The corpus: true, agreed, and silent about what is held out."""

import random
import re
from itertools import islice

import pytest

from atento.embedded import load_mini
from atento.lm.corpus import english, spanish
from atento.lm.corpus.corpus import is_for_evaluation, sentences
from atento.lm.corpus.grammar import Grammar, templates
from atento.lm.corpus.holdout import (
    PROBES_PER_LANGUAGE,
    draw_probes,
    held_out_concepts,
    load_probes,
    states_held_out_membership,
)
from atento.lm.corpus.words import LANGUAGES, load_lexicon
from atento.lm.mini.objective import Meanings
from atento.lm.mini.recipe import Recipe

pytestmark = pytest.mark.slow

SAMPLE = {language: list(islice(sentences(language, 5), 8000)) for language in LANGUAGES}
CAPITALS = {
    "france": "paris", "mexico": "mexico city", "germany": "berlin", "japan": "tokyo",
    "egypt": "cairo",
    "australia": "canberra", "turkey": "ankara", "brazil": "brasilia", "morocco": "rabat",
    "switzerland": "bern", "canada": "ottawa", "vietnam": "hanoi", "kenya": "nairobi",
    "peru": "lima", "ecuador": "quito", "norway": "oslo", "poland": "warsaw",
}  # fmt: skip
CAPITALES = {
    "españa": "madrid", "méxico": "ciudad de méxico", "alemania": "berlín",
    "cuba": "la habana", "suiza": "berna",
    "portugal": "lisboa", "china": "pekín", "marruecos": "rabat", "rusia": "moscú",
    "colombia": "bogotá", "egipto": "el cairo", "grecia": "atenas",
}  # fmt: skip


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_sentence_is_written_without_unknown_tokens(language: str) -> None:
    tokenizer = load_mini().tokenizer
    for sentence in SAMPLE[language]:
        assert tokenizer.unknown not in tokenizer.encode(sentence).ids, sentence
        assert not re.search(r"[{}@*~=]|  ", sentence), sentence


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_seed_draws_the_same_sentences(language: str) -> None:
    assert list(islice(sentences(language, 5), 200)) == SAMPLE[language][:200]
    assert list(islice(sentences(language, 6), 200)) != SAMPLE[language][:200]


def test_capitals_said_are_true() -> None:
    said: dict[tuple[str, str], set[str]] = {}
    for language, pattern in (
        ("en", r"the capital of (.+) is (.+)\."),
        ("es", r"la capital de (.+) es (.+)\."),
    ):
        grammar = Grammar(load_lexicon(), language, random.Random(1))  # noqa: S311
        grammar.sections = {"country": tuple(t for t in templates(language)["country"] if "@" in t)}
        grammar.section_names, grammar.section_weights = ["country"], [1.0]
        for _ in range(4000):
            if match := re.fullmatch(pattern, grammar.sentence()):
                said.setdefault((language, match[1]), set()).add(match[2])
    assert len(said) > 80
    for language, capitals in (("en", CAPITALS), ("es", CAPITALES)):
        for country, capital in capitals.items():
            assert said[language, country] == {capital}


def test_sums_said_are_true() -> None:
    numbers = {
        word.singular: value
        for concept, value in zip(
            load_lexicon().categories["number"].concepts,
            [*range(2, 21), *range(30, 100, 10)],
            strict=True,
        )
        for word in concept.en + concept.es
    }
    seen = 0
    for language, pattern in (
        ("en", r"(\w+) plus (\w+) is (.+)\."),
        ("es", r"(\w+) más (\w+) son (.+)\."),
    ):
        for sentence in islice(sentences(language, 1), 40_000):
            if match := re.fullmatch(pattern, sentence):
                total = match[3].replace(" ", "")
                assert numbers[match[1]] + numbers[match[2]] == (
                    int(total) if total.isdigit() else numbers[total]
                ), sentence
                seen += 1
    assert seen > 50


def test_no_training_sentence_states_a_held_out_membership() -> None:
    # Asked again by hand, from the probes themselves: not through the function that filters.
    categories = load_lexicon().categories
    for probe in load_probes():
        for word in probe.words:
            concept = next(
                c
                for c in held_out_concepts()
                if word in {w.singular for w in c.words(probe.language)}
            )
            names = {categories[concept.category].labels[n].singular for n in LANGUAGES}
            told = [
                s
                for s in SAMPLE[probe.language]
                if re.search(rf"\b{word}\b", s)
                and any(re.search(rf"\b{name}\b", s) for name in names)
            ]
            assert told == []


def test_the_filter_knows_both_languages_and_plurals() -> None:
    assert states_held_out_membership("méxico es un país.")
    assert states_held_out_membership("perros y gatos: animales.")
    assert states_held_out_membership('"dog" is an animal.')
    assert states_held_out_membership("un dog es un animal.")
    assert not states_held_out_membership("vivo en méxico.")
    assert not states_held_out_membership("el perro vive en un país.")


def test_no_training_pair_holds_a_held_out_word() -> None:
    held = {form for concept in held_out_concepts() for form in concept.forms()}
    meanings = Meanings(load_mini().tokenizer)
    assert not held & {form for form, _ in meanings.pairs}
    assert len(meanings.pairs) > 2000
    assert {"méxico", "alemania", "inglaterra", "perro", "dog", "germany"} <= held


def test_held_out_words_are_met_in_use() -> None:
    for probe in load_probes():
        use = sentences(probe.language, Recipe().seed)
        words = set(probe.words)
        for sentence in islice(use, 40_000):
            words -= set(re.findall(r"\w+", sentence))
            if not words:
                break
        assert not words


def test_probes_are_the_drawn_ones_fifty_per_language_and_varied() -> None:
    probes = load_probes()
    assert list(probes) == draw_probes(load_lexicon(), 7)
    categories = load_lexicon().categories
    for language in LANGUAGES:
        own = [p for p in probes if p.language == language]
        assert len(own) == PROBES_PER_LANGUAGE
        assert len({p.category for p in own}) >= 15
        assert len({p.words.index(p.odd) for p in own}) == 4
        for probe in own:
            inside = {
                w.singular for c in categories[probe.category].concepts for w in c.words(language)
            }
            assert [word for word in probe.words if word not in inside] == [probe.odd]


def test_training_and_evaluation_share_no_sentence() -> None:
    evaluation = set(islice(sentences("es", 5, evaluation=True), 500))
    assert not evaluation & set(SAMPLE["es"])
    assert all(map(is_for_evaluation, evaluation))


@pytest.mark.parametrize(
    ("adjective", "gender", "many", "expected"),
    [
        ("rojo", "f", True, "rojas"), ("azul", "f", True, "azules"),
        ("feliz", "m", True, "felices"),
        ("joven", "m", True, "jóvenes"), ("trabajador", "f", False, "trabajadora"),
        ("inglés", "f", False, "inglesa"), ("marrón", "f", True, "marrones"),
        ("español", "f", True, "españolas"),
    ],
)  # fmt: skip
def test_spanish_agreement(adjective: str, gender: str, many: bool, expected: str) -> None:
    assert spanish.agree(adjective, gender, many) == expected


@pytest.mark.parametrize(
    ("word", "noun", "gender", "many", "expected"),
    [
        ("el", "agua", "f", False, "el"), ("el", "casa", "f", False, "la"),
        ("un", "águila", "f", False, "un"),
        ("el", "aguas", "f", True, "las"), ("este", "mano", "f", False, "esta"),
        ("mi", "libros", "m", True, "mis"),
    ],
)  # fmt: skip
def test_spanish_articles(word: str, noun: str, gender: str, many: bool, expected: str) -> None:
    assert spanish.determiner(word, noun, gender, many) == expected


@pytest.mark.parametrize(
    ("infinitive", "change", "tense", "expected"),
    [
        ("cerrar", "ie", "present", "cierro cierras cierra cerramos cierran"),
        ("dormir", "ue", "preterite", "dormí dormiste durmió dormimos durmieron"),
        ("sentir", "ie", "preterite", "sentí sentiste sintió sentimos sintieron"),
        ("vestir", "i", "present", "visto vistes viste vestimos visten"),
        ("conocer", "zc", "present", "conozco conoces conoce conocemos conocen"),
        ("empezar", "ie", "preterite", "empecé empezaste empezó empezamos empezaron"),
        ("buscar", "", "preterite", "busqué buscaste buscó buscamos buscaron"),
        ("jugar", "ue", "present", "juego juegas juega jugamos juegan"),
    ],
)
def test_spanish_conjugation(infinitive: str, change: str, tense: str, expected: str) -> None:
    assert spanish.verb_forms(infinitive, change)[tense] == expected.split()


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("stop/stopped", "stop stops stopped stopped stopping"),
        ("carry", "carry carries carried carried carrying"),
        ("write/wrote/written", "write writes wrote written writing"),
        ("wake_up/woke_up/woken_up/waking_up", "wake up|wakes up|woke up|woken up|waking up"),
        ("teach/taught/taught", "teach teaches taught taught teaching"),
        ("lie", "lie lies lied lied lying"),
        ("travel/travelled/travelled", "travel travels travelled travelled travelling"),
    ],
)
def test_english_verbs(entry: str, expected: str) -> None:
    forms = list(english.verb_forms(entry).values())
    assert forms == expected.split("|" if "|" in expected else " ")


def test_english_nouns() -> None:
    assert [english.plural(n) for n in ("box", "city", "day", "wolf", "man", "potato")] == [
        "boxes", "cities", "days", "wolves", "men", "potatoes",
    ]  # fmt: skip
    assert [english.a(n) for n in ("apple", "university", "honest man", "dog")] == [
        "an apple", "a university", "an honest man", "a dog",
    ]  # fmt: skip
