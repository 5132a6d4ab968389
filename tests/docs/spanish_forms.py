"""From a Spanish form to the words that a dictionary may hold: plurals, gender, verbs, clitics."""

from collections.abc import Iterator

__all__ = ["lemmas"]

PLAIN = str.maketrans("áéíóú", "aeiou")
CLITICS = ("melo", "selo", "los", "las", "les", "nos", "lo", "la", "le", "se", "te", "me")
_IRREGULAR = (
    "fui fue fuimos fueron fuera fueran era eras eran éramos será serán sería serían somos "
    "sois estoy está estás están estaba estaban estuvo estuvieron esté estén estará estarán "
    "he has ha hemos han había habían habrá habrán habría habrían haya hayan hubo hubiera voy "
    "vas va vamos van iba iban vaya vayan irá irán iría ve tuvo tuvieron tuviera tendrá "
    "tendrán tendría tendrían tenga tengan tengamos hizo hicieron hará harás harán haría "
    "harían haga hagan hecho hechos pudo pudieron podrá podrán podría podrían quiso quisieron "
    "querrá querría dijo dijeron dirá dirán diría diga digan dicho di doy da damos dan dé den "
    "dio dieron vio vieron veía veían vea vean visto vista vistas supo supieron sabrá sabría "
    "sepa sepan sé puso pusieron pondrá pondría ponga pongan pon puesto puesta vino vinieron "
    "vendrá vendrán vendría venga vengan trajo trajeron traiga salga salgan saldrá saldrán "
    "cupo quepa cabrá oye oyen cayó cayeron leyó leyeron leyendo creyó construyó valdrá valga "
)
IRREGULAR = set(_IRREGULAR.split())
ENDINGS = {
    "ar": "o as a amos an ando ado ada ados adas é aste ó aron aba abas aban abamos "
    "aré arás ará aremos arán aría arías arían e es en emos ara aran é á",
    "er": "o es e emos en iendo ido ida idos idas í iste ió ieron ía ías ían íamos eré erás erá "
    "eremos erán ería erías erían a as an amos iera ieran ed",
    "ir": "o es e imos en iendo ido ida idos idas í iste ió ieron ía ías ían íamos iré irás irá "
    "iremos irán iría irías irían a as an amos iera ieran",
}
STEMS = (("ie", "e"), ("ue", "o"), ("i", "e"), ("u", "o"))
SPELLED = (("qu", "c"), ("gu", "g"), ("c", "z"), ("j", "g"), ("zc", "c"), ("g", ""), ("y", ""))


def lemmas(word: str) -> Iterator[str]:
    """The word, and what it may be a form of."""
    yield word
    if word in IRREGULAR:
        yield "ser"  # it is known, whatever verb it is of
    for form in _without_clitic(word):
        yield form
        yield from _nouns(form)
        yield from _verbs(form)


def _without_clitic(word: str) -> Iterator[str]:
    yield word
    for clitic in CLITICS:
        if word.endswith(clitic) and len(word) > len(clitic) + 2:
            yield word.removesuffix(clitic)
            yield word.removesuffix(clitic).translate(PLAIN)


def _nouns(form: str) -> Iterator[str]:
    for ending, others in (
        ("ces", ("z",)),
        ("ciones", ("ción",)),
        ("siones", ("sión",)),
        ("ones", ("ón",)),
        ("enes", ("en",)),
        ("eses", ("és",)),
        ("es", ("", "e")),
        ("as", ("a", "o")),
        ("os", ("o",)),
        ("a", ("o", "")),
        ("s", ("",)),
        ("amente", ("o",)),
        ("mente", ("",)),
    ):
        if form.endswith(ending):
            yield from (form.removesuffix(ending) + other for other in others)


def _verbs(form: str) -> Iterator[str]:
    for infinitive, endings in ENDINGS.items():
        for ending in endings.split():
            if form.endswith(ending) and len(form) > len(ending) + 1:
                for stem in _stems(form.removesuffix(ending)):
                    yield stem + infinitive


def _stems(stem: str) -> Iterator[str]:
    for one in (stem, *(_last(stem, *change) for change in STEMS)):
        yield one
        yield one.translate(PLAIN)
        for shown, meant in SPELLED:
            if one.endswith(shown):
                yield one.removesuffix(shown) + meant


def _last(stem: str, found: str, put: str) -> str:
    before, _, after = stem.rpartition(found)
    return before + put + after
