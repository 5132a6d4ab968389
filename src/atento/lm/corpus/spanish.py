"""Spanish inflection: gender, plurals, articles, agreement and conjugation."""

import re
from functools import cache
from pathlib import Path

Person = int  # 0 yo, 1 tú, 2 él/ella/usted, 3 nosotros, 4 ellos/ellas/ustedes

PLURALS = {
    "joven": "jóvenes", "examen": "exámenes", "mes": "meses", "autobús": "autobuses",
    "árbol": "árboles", "imagen": "imágenes", "hámster": "hámsteres", "jersey": "jerséis",
    "kiwi": "kiwis", "robot": "robots", "taxi": "taxis", "rey": "reyes", "sofá": "sofás",
    "papá": "papás", "mamá": "mamás", "café": "cafés", "ciprés": "cipreses",
}  # fmt: skip
STRESSED_A = {"agua", "águila", "aula", "hacha", "arpa", "alma", "arma", "ave", "haya", "álgebra"}
UNACCENTED = str.maketrans("áéíóú", "aeiou")


def gender(noun: str) -> str:
    """Return "f" or "m" by the ending of a noun."""
    feminine = noun.endswith(("a", "ión", "dad", "tad", "tud", "umbre", "ez"))
    return "f" if feminine and not noun.endswith(("avión", "camión", "juez", "guión")) else "m"


def plural(noun: str) -> str:
    """Return the plural of a noun or an adjective (of the first word of a phrase with "de")."""
    head, *rest = noun.split(" ")
    tail = " " + " ".join(rest) if rest else ""
    if head in PLURALS:
        return PLURALS[head] + tail
    if head.endswith("z"):
        return head[:-1] + "ces" + tail
    if head[-1] in "aeiouáéó":
        return head + "s" + tail
    if head[-1] in "íú":
        return head + "es" + tail
    if re.search("[áéíóú][ns]$", head):  # melón, inglés: the accent goes
        return head[:-2] + head[-2].translate(UNACCENTED) + head[-1] + "es" + tail
    if head.endswith("s"):  # lunes, paraguas
        return head + tail
    return head + "es" + tail


def feminine(adjective: str) -> str:
    """Return the feminine of an adjective."""
    if adjective in {"marrón", "mejor", "peor", "mayor", "menor"}:
        return adjective
    if adjective.endswith("o"):
        return adjective[:-1] + "a"
    for ending, other in (("ón", "ona"), ("án", "ana"), ("és", "esa"), ("dor", "dora")):
        if adjective.endswith(ending):
            return adjective[: -len(ending)] + other
    return "española" if adjective == "español" else adjective


def agree(adjective: str, noun_gender: str, many: bool) -> str:
    """Return the adjective in the gender and number of its noun."""
    form = feminine(adjective) if noun_gender == "f" else adjective
    return plural(form) if many else form


def determiner(word: str, noun: str, noun_gender: str, many: bool) -> str:
    """Return el, un, este, ese, mi, tu, su or nuestro in the form that the noun asks for."""
    if word in {"mi", "tu", "su"}:
        return word + "s" if many else word
    if word == "nuestro":
        return agree(word, noun_gender, many)
    if many:
        stem = {"el": "l", "un": "un", "este": "est", "ese": "es"}[word]
        return stem + ("as" if noun_gender == "f" else "os")
    if noun_gender == "f" and not (word in {"el", "un"} and noun in STRESSED_A):
        return {"el": "la", "un": "una", "este": "esta", "ese": "esa"}[word]
    return word


PARTICIPLES = {
    "abrir": "abierto", "romper": "roto", "escribir": "escrito", "volver": "vuelto",
    "morir": "muerto",
}  # fmt: skip
ENDINGS = {
    "ar": ("o as a amos an", "é aste ó amos aron", "ando", "ado"),
    "er": ("o es e emos en", "í iste ió imos ieron", "iendo", "ido"),
    "ir": ("o es e imos en", "í iste ió imos ieron", "iendo", "ido"),
}  # fmt: skip
CHANGES = {"ie": ("e", "ie"), "ue": ("o", "ue"), "i": ("e", "i")}


@cache
def irregular_verbs() -> dict[str, dict[str, list[str]]]:
    """Read the verbs whose forms no rule gives."""
    verbs = {}
    for line in (Path(__file__).parent / "irregular_verbs.txt").read_text("utf-8").splitlines():
        if not line.startswith("#"):
            infinitive, *forms = (part.split() for part in line.split(";"))
            tenses = ("present", "preterite", "gerund", "participle")
            verbs[infinitive[0]] = {
                "infinitive": infinitive,
                **dict(zip(tenses, forms, strict=True)),
            }
    return verbs


def _raise_vowel(stem: str, change: str) -> str:
    """Change the stem's last e or o: cerr- to cierr-, dorm- to duerm-."""
    old, new = CHANGES[change]
    at = stem.rfind(old)
    return stem[:at] + new + stem[at + 1 :]


def verb_forms(infinitive: str, change: str = "") -> dict[str, list[str]]:
    """Return the present and preterite (five persons each), gerund and participle of a verb."""
    if infinitive in irregular_verbs():
        return irregular_verbs()[infinitive]
    stem, ending = infinitive[:-2], infinitive[-2:]
    present_ends, preterite_ends, gerund_end, participle_end = ENDINGS[ending]
    present = [stem + e for e in present_ends.split()]
    preterite = [stem + e for e in preterite_ends.split()]
    gerund = stem + gerund_end
    if change in CHANGES:
        changed = _raise_vowel(stem, change)
        present = [
            (stem if person == 3 else changed) + e for person, e in enumerate(present_ends.split())
        ]
        if ending == "ir":  # pidió, durmió, sintieron
            weak = _raise_vowel(stem, "i") if change != "ue" else stem.replace("o", "u")
            preterite[2], preterite[4], gerund = weak + "ió", weak + "ieron", weak + "iendo"
    if change == "zc":
        present[0] = stem[:-1] + "zco"
    if stem.endswith("g") and ending != "ar":  # recoger, elegir: recojo
        present[0] = present[0][:-2] + "jo"
    if ending == "ar":  # busqué, pagué, empecé: the sound stays, the letter changes
        for letter, other in (("c", "qu"), ("g", "gu"), ("z", "c")):
            if stem.endswith(letter):
                preterite[0] = stem[: -len(letter)] + other + "é"
    return {
        "infinitive": [infinitive],
        "present": present,
        "preterite": preterite,
        "gerund": [gerund],
        "participle": [PARTICIPLES.get(infinitive, stem + participle_end)],
    }
