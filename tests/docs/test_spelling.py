"""Words of the pages are words: of a dictionary, of the code, or of docs/words.txt."""

import re

import pytest
from spellchecker import SpellChecker

from docs.pages import PAGES, ROOT
from docs.spanish_forms import lemmas

LESSONS = sorted((ROOT / "lessons").glob("e[ns]/[0-9]*.py"))
WORD = re.compile(r"[^\W\d_]+(?:[’'][^\W\d_]+)?")


@pytest.fixture(scope="module")
def dictionaries():
    own = {
        line.strip().lower() for line in (ROOT / "docs/words.txt").read_text("utf-8").split("\n")
    }
    made = {"en": SpellChecker(language="en"), "es": SpellChecker(language="es")}
    both = SpellChecker(language=["en", "es"])  # names of the field are English in both
    return made, both, own


def prose(path):
    """A page's or a lesson's words without code, links, addresses and quotations of commands."""
    text = path.read_text("utf-8")
    if path.suffix == ".py":
        cells = re.split(r"^# %%", text, flags=re.MULTILINE)
        kept = (cell.partition("\n")[2] for cell in cells if cell.startswith(" [markdown]"))
        text = re.sub(r"^# ?", "", "\n".join(kept), flags=re.MULTILINE)
    for away in (
        r"\$\$.+?\$\$",
        r"```.*?```",
        r"<!--.*?-->",
        r"^ {4}[^\n]*$",
        r"\$\$?[^$\n]+\$\$?",
        r"`[^`]*`",
        r"\]\([^)]*\)",
        r"https?://\S+",
        r"\S+\.(py|md|csv|json|html|es)\b",
    ):
        text = re.sub(away, " ", text, flags=re.DOTALL | re.MULTILINE)
    return text


def unknown(path, lang, dictionaries):
    """The words of the page that nobody knows."""
    made, both, own = dictionaries
    asked = set()
    for word in WORD.findall(prose(path)):
        plain = re.sub(r"[’']s$", "", word).replace("’", "'")
        if (
            len(plain) > 2
            and plain.lower() not in own
            and not re.search(r"[a-z][A-Z]|^[A-Z]+s?$", plain)
        ):
            asked.add(plain.lower())
    if lang == "en":
        return sorted(made["en"].unknown(asked))
    return sorted(word for word in both.unknown(asked) if not both.known(set(lemmas(word))))


@pytest.mark.parametrize("path", [*PAGES, *LESSONS], ids=lambda p: str(p.relative_to(ROOT)))
def test_every_word_is_a_word(path, dictionaries):
    lang = "es" if path.name.endswith(".es.md") or path.parent.name == "es" else "en"
    assert not unknown(path, lang, dictionaries)


def test_a_wrong_word_is_found(tmp_path, dictionaries):
    page = tmp_path / "page.md"
    page.write_text("The wieghts of a head, and `wieghts` in code.\n", "utf-8")
    assert unknown(page, "en", dictionaries) == ["wieghts"]
    page.write_text("Los pesos de una caveza.\n", "utf-8")
    assert unknown(page, "es", dictionaries) == ["caveza"]
