"""English inflection: plurals, articles and the forms of a verb."""

IRREGULAR_PLURALS = {
    "man": "men", "woman": "women", "child": "children", "person": "people", "foot": "feet",
    "tooth": "teeth", "mouse": "mice", "knife": "knives", "wolf": "wolves", "leaf": "leaves",
    "shelf": "shelves", "scarf": "scarves", "thief": "thieves", "wife": "wives", "deer": "deer",
    "potato": "potatoes", "tomato": "tomatoes", "mango": "mangoes", "hero": "heroes",
    "mosquito": "mosquitoes", "policeman": "policemen", "fireman": "firemen",
    "postman": "postmen", "fisherman": "fishermen", "gentleman": "gentlemen",
    "asparagus": "asparagus", "spinach": "spinach", "broccoli": "broccoli", "garlic": "garlic",
    "celery": "celery", "volcano": "volcanoes",
}  # fmt: skip


def plural(noun: str) -> str:
    """Return the plural of an English noun."""
    if noun in IRREGULAR_PLURALS:
        return IRREGULAR_PLURALS[noun]
    if noun.endswith(("s", "x", "z", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def a(phrase: str) -> str:
    """Put the indefinite article before a phrase, by its first sound."""
    vowel = phrase[0] in "aeiou" and not phrase.startswith(("uni", "use", "eu", "one", "ukulele"))
    return f"{'an' if vowel or phrase.startswith(('hour', 'honest')) else 'a'} {phrase}"


def verb_forms(entry: str) -> dict[str, str]:
    """Return base, third, past, participle and progressive of ``base[/past/participle[/-ing]]``."""
    given = entry.replace("_", " ").split("/")
    base, *particle = given[0].split(" ")
    tail = " " + " ".join(particle) if particle else ""
    if base.endswith(("s", "x", "z", "ch", "sh", "o")):
        third = base + "es"
    elif base.endswith("y") and base[-2] not in "aeiou":
        third = base[:-1] + "ies"
    else:
        third = base + "s"
    if base == "have":
        third = "has"
    if len(given) > 1:
        past, participle = given[1], given[2] if len(given) > 2 else given[1]
    elif base.endswith("e"):
        past = participle = base + "d" + tail
    elif base.endswith("y") and base[-2] not in "aeiou":
        past = participle = base[:-1] + "ied" + tail
    else:
        past = participle = base + "ed" + tail
    if len(given) > 3:
        progressive = given[3]
    elif base == "lie" or base == "die":
        progressive = base[:-2] + "ying"
    elif base.endswith("e") and not base.endswith("ee"):
        progressive = base[:-1] + "ing" + tail
    elif past.endswith(("lled", "pped")):
        progressive = past[:-2] + "ing"
    else:
        progressive = base + "ing" + tail
    return {
        "base": base + tail,
        "third": third + tail,
        "past": past,
        "participle": participle,
        "progressive": progressive,
    }
