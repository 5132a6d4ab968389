"""The page's own files: what they may not do, and that they can be joined into one script."""

import json
import re
from collections import Counter
from importlib.resources import files

import pytest

from atento.views.page_bundle import asset, bundle, joined, modules, without_comments
from atento.views.page_shell import page_words

ENTRIES = ("main.js", "recording-main.js", "tile-worker.js", "live-main.js", "watch-main.js")
SCRIPTS = list(dict.fromkeys(name for entry in ENTRIES for name in modules(entry)))
STYLES = ("page.css", "recording.css", "live.css", "watch.css")
NAMED = ("recording.role.", "recording.number.")
"""`named` says names of roles and numbers that the page knows, and others as they are."""
FILES = {"page.html", "page.css", "recording.js", "recording.css", "live.css"}
ASKING = {"live-server.js"}
"""The one module that asks a server: the one that its page came from."""
FOLDER = files("atento.views") / "assets"
LOCALES = {
    lang: json.loads((files("atento.views") / "locales" / f"{lang}.json").read_text("utf-8"))
    for lang in ("en", "es")
}


def test_every_script_of_the_folder_is_reached():
    there = {entry.name for entry in FOLDER.iterdir() if entry.name.endswith(".js")}
    assert there - {"widget.js"} == set(SCRIPTS)  # that one is a notebook's, and no page's


@pytest.mark.parametrize("name", SCRIPTS)
def test_text_can_only_become_text(name):
    ways_to_markup = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|srcdoc|"
        r"createContextualFragment|setHTML|\beval\b|new Function|javascript:"
    )
    assert not re.search(ways_to_markup, asset(name))


@pytest.mark.parametrize("name", [*SCRIPTS, *STYLES, "page.html"])
def test_nothing_is_loaded_from_anywhere(name):
    text = asset(name)
    assert not re.search(r"https?:|//[a-z]+\.|url\(|@import|XMLHttpRequest|WebSocket", text)
    asked = re.findall(r"\bfetch\((.{8})", text)
    assert asked == (["`/api/${"] if name in ASKING else [])
    assert not ASKING & {*modules("main.js"), *modules("recording-main.js")}
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


def carried(entries, styles):
    """The bytes of what pages have of these scripts and style sheets, each module once."""
    scripts = {name for entry in entries for name in modules(entry)}
    texts = [*map(joined, scripts), *map(without_comments, map(asset, (*styles, "page.html")))]
    return sum(len(text.encode()) for text in texts)


@pytest.mark.parametrize(
    ("entries", "styles", "most"),
    [
        (ENTRIES[:1], STYLES[:1], 75_000),
        (ENTRIES[1:3], STYLES[:2], 125_000),
        (ENTRIES[2:4], STYLES[:3], 145_000),
        (ENTRIES[4:], (*STYLES[:2], STYLES[3]), 60_000),
    ],
    ids=["explanation", "recording", "live", "watched"],
)
def test_each_page_itself_is_small(entries, styles, most):
    assert carried(entries, styles) <= most


def test_both_languages_say_the_same_things():
    blanks = {
        lang: {key: sorted(re.findall(r"\{(\w+)\}", text)) for key, text in words.items()}
        for lang, words in LOCALES.items()
    }
    assert blanks["en"] == blanks["es"]
    for words in LOCALES.values():
        assert all(text.strip() for text in words.values())
    same = {key for key, text in LOCALES["en"].items() if LOCALES["es"][key] == text}
    assert same == {
        "page.step.tokens",
        "page.axis.query",
        "page.canvas.cell",
        "recording.arcs.token",
        "recording.role.diagonal",
        "live.option.tokens",
    }


def test_every_word_that_the_page_says_is_there_and_every_one_there_is_said():
    code = "".join(map(asset, SCRIPTS)) + (FOLDER.parent / "page_shell.py").read_text("utf-8")
    said = r"((?:page|recording|live|watch)\.[\w.-]*"
    literal = set(re.findall(rf'["`]{said}\w)["`]', code)) - {"page.html", "page.css"}
    prefixes = (*re.findall(rf"`{said}\.(?:weight-)?)\$\{{", code), *NAMED)
    assert sorted(literal - set(LOCALES["en"]) - FILES) == []
    known = {"page.title", "recording.title", "watch.title"}  # said by the shell
    unsaid = {
        key for key in LOCALES["en"] if key not in literal | known and not key.startswith(prefixes)
    }
    assert unsaid == set()


def test_each_page_carries_its_own_words_and_no_others():
    for kinds, entry in (
        (["page"], "main.js"),
        (["recording"], "recording-main.js"),
        (["live", "recording"], "live-main.js"),
        (["watch", "recording"], "watch-main.js"),
    ):
        carried = set(page_words("en", *kinds))
        said = set(re.findall(r'["`]((?:page|recording|live|watch)\.[\w.-]*\w)["`]', bundle(entry)))
        assert sorted(said - carried - FILES) == []
