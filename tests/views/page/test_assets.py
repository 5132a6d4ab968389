"""The page's own files: what they may not do, and that they can be joined into one script."""

import json
import re
from collections import Counter
from importlib.resources import files

import pytest

from atento.views.page_bundle import asset, bundle, modules

SCRIPTS = modules("main.js")
FOLDER = files("atento.views") / "assets"
LOCALES = {
    lang: json.loads((files("atento.views") / "locales" / f"{lang}.json").read_text("utf-8"))
    for lang in ("en", "es")
}


def test_every_script_of_the_folder_is_reached():
    assert sorted(SCRIPTS) == sorted(
        entry.name for entry in FOLDER.iterdir() if entry.name.endswith(".js")
    )


@pytest.mark.parametrize("name", SCRIPTS)
def test_text_can_only_become_text(name):
    ways_to_markup = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|srcdoc|"
        r"createContextualFragment|setHTML|\beval\b|new Function|javascript:"
    )
    assert not re.search(ways_to_markup, asset(name))


@pytest.mark.parametrize("name", [*SCRIPTS, "page.css", "page.html"])
def test_nothing_is_loaded_from_anywhere(name):
    text = asset(name)
    assert not re.search(
        r"https?:|//[a-z]+\.|url\(|@import|\bfetch\(|XMLHttpRequest|WebSocket", text
    )
    assert not re.search(r"</script|<!--", text) or name == "page.html"


def test_top_level_names_are_unique():
    top = re.compile(r"^(?:export )?(?:async )?(?:const|let|class|function) (\w+)", re.MULTILINE)
    names = Counter(name for script in SCRIPTS for name in top.findall(asset(script)))
    assert [name for name, count in names.items() if count > 1] == []
    assert len(names) > 40


def test_imports_name_what_the_other_file_exports():
    for script in SCRIPTS:
        for names, source in re.findall(
            r'^import \{([^}]*)\} from "\./([\w-]+\.js)"', asset(script), re.MULTILINE
        ):
            for name in names.split(","):
                exported = rf"^export (?:async )?(?:const|function|class) {name.strip()}\b"
                assert re.search(exported, asset(source), re.MULTILINE), (script, name, source)
                uses = len(re.findall(rf"\b{name.strip()}\b", asset(script)))
                assert uses > 1, f"{script} imports {name} and does not use it"


def test_the_page_itself_is_small():
    files_of_the_page = (bundle("main.js"), asset("page.css"), asset("page.html"))
    assert sum(len(text.encode()) for text in files_of_the_page) <= 100_000


def test_both_languages_say_the_same_things():
    blanks = {
        lang: {key: sorted(re.findall(r"\{(\w+)\}", text)) for key, text in words.items()}
        for lang, words in LOCALES.items()
    }
    assert blanks["en"] == blanks["es"]
    for words in LOCALES.values():
        assert all(text.strip() for text in words.values())
    same = {key for key, text in LOCALES["en"].items() if LOCALES["es"][key] == text}
    assert same == {"page.step.tokens", "page.axis.query", "page.canvas.cell"}


def test_every_word_that_the_page_says_is_there_and_every_one_there_is_said():
    code = bundle("main.js") + (FOLDER.parent / "page.py").read_text("utf-8")
    literal = set(re.findall(r'["`](page\.[\w.-]*\w)["`]', code)) - {"page.html", "page.css"}
    prefixes = tuple(re.findall(r"`(page\.[\w.-]*\.(?:weight-)?)\$\{", code))
    assert sorted(literal - set(LOCALES["en"])) == []
    unsaid = {key for key in LOCALES["en"] if key not in literal and not key.startswith(prefixes)}
    assert unsaid == set()
