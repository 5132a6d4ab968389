"""The site as it is built: every name, every option, every link; quiet, and fit for a phone."""

import contextlib
import functools
import http.server
import json
import os
import re
import shutil
import threading
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest
from docs.making.commands_page import commands
from docs.making.reference_pages import MODULES, public_names
from mkdocstrings import Inventory

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
SIZES = {"phone": {"width": 390, "height": 844}, "desk": {"width": 1280, "height": 900}}
LOOKED_AT = (
    "index.html",
    "es/index.html",
    "concepts/equation.html",
    "guides/inspect.html",
    "reference/atento.html",
    "reference/commands.html",
    "lessons/index.html",
    "gallery.html",
)
"""Pages that are looked at in both themes and both sizes; all others on a phone alone."""


class Links(HTMLParser):
    """What a page refers to, and the places within it that can be referred to."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loads, self.places = [], [], set()
        self.images, self.drawings, self.inside = [], [], 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        own = dict(attributes)
        self.places |= {own[name] for name in ("id", "name") if own.get(name)}
        if tag == "article":
            self.inside += 1
        if tag == "img":
            self.images.append(own)
        if tag in ("svg", "canvas") and self.inside:
            self.drawings.append(own)
        if tag == "a" and own.get("href"):
            self.links.append(own["href"])
        if tag == "link" and own.get("href") and own.get("rel") != "canonical":
            self.loads.append(own["href"])
        self.loads += [own[name] for name in ("src", "data", "srcset") if own.get(name)]

    def handle_endtag(self, tag):
        self.inside -= tag == "article"


@pytest.fixture(scope="session")
def parsed(site):
    return {
        path.relative_to(site): Links(path.read_text("utf-8"))
        for path in sorted(site.rglob("*.html"))
    }


def test_every_public_name_is_described_on_its_page(site, parsed):
    for module, stem in MODULES.items():
        page = Path(f"reference/{stem}.html")
        lacking = {f"{module}.{name}" for name in public_names(module)} - parsed[page].places
        assert not lacking
        assert "doc-module" not in (site / page).read_text("utf-8"), "a file instead of a name"


def test_the_inventory_holds_every_public_name(site):
    """For other projects' pages; a name that a file of its room shares stands there as made."""
    with (site / "objects.inv").open("rb") as file:
        held = set(Inventory.parse_sphinx(file))
    for module in MODULES:
        for name in import_module(module).__all__:
            made = getattr(import_module(module), name)
            home = f"{getattr(made, '__module__', module)}.{name}"
            assert {f"{module}.{name}", f"atento.{name}", home} & held, name


def test_every_public_module_has_a_page():
    import atento

    rooms = {"masks", "nn", "positions", "retrieval", "statistics", "lm", "lessons"}
    assert {f"atento.{room}" for room in rooms} | {"atento", "atento.nn.convert"} == set(MODULES)
    assert all(hasattr(import_module(f"atento.{room}"), "__all__") for room in rooms)
    assert atento.__all__


def test_every_command_and_option_is_on_the_page_of_commands(site):
    text = (site / "reference/commands.html").read_text("utf-8")
    asked = [
        (name, option)
        for name, command in commands()
        for parameter in command.params
        if parameter.param_type_name == "option"
        for option in (*parameter.opts, *parameter.secondary_opts)
    ]
    assert len(asked) > 80
    sections = dict(re.findall(r'<h2 id="([\w-]+)">(.*?)(?=<h2|</article>)', text, re.DOTALL))
    lacking = [
        f"{name} {option}"
        for name, option in asked
        if not re.search(rf"{re.escape(option)}\b", sections[name.replace(" ", "-")])
    ]
    assert not lacking


def test_every_option_says_what_it_does():
    silent = [
        f"{name} {parameter.opts[0]}"
        for name, command in commands()
        for parameter in command.params
        if not getattr(parameter, "help", None)
    ]
    assert not silent
    assert all(command.help for _, command in commands())


def test_every_link_leads_somewhere(site, parsed):
    lost = []
    for page, found in parsed.items():
        if page.name == "404.html":  # its addresses begin at the root of a server
            continue
        for link in found.links:
            address, place = urldefrag(unquote(link))
            if re.match(r"[a-z]+:", address):
                continue
            target = (site / page.parent / address).resolve() if address else site / page
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file():
                lost.append(f"{page}: {link}")
            elif place and target.suffix == ".html":
                known = parsed[target.relative_to(site.resolve())].places
                if place not in known and place != "__skip":
                    lost.append(f"{page}: {link}")
    assert not lost


def test_every_picture_has_words_in_the_language_of_its_page(parsed):
    """The theme's own signs stand outside the article, in buttons and links that have a name."""
    told = {page: [one.get("alt") or "" for one in found.images] for page, found in parsed.items()}
    assert "lee «the cat" in told[Path("es/index.html")][0]
    assert "One head reading" in told[Path("index.html")][0]
    for page, words in told.items():
        assert all(is_told(one) for one in words), page
    for page, found in parsed.items():
        assert all(is_told(own.get("aria-label") or "") for own in found.drawings), page


def is_told(words):
    """Whether these are words: no number, no name of a file."""
    return len(words.split()) > 1 and not re.fullmatch(r"[\d\W]*|\S+\.(png|svg|jpe?g)", words)


@pytest.mark.parametrize("words", ["", "3", "lesson-3.png", "4 – 7"])
def test_what_is_no_words_for_a_picture(words):
    assert not is_told(words)


def test_nothing_is_loaded_from_elsewhere(site, parsed):
    away = [
        f"{page}: {load}"
        for page, found in parsed.items()
        for load in found.loads
        if re.match(r"(https?:)?//", load)
    ]
    assert not away
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(\s*['\"]?(https?:)?//", style.read_text("utf-8")), style


def test_no_page_names_the_machine_it_was_built_on(site):
    marks = [os.uname().nodename, os.path.expanduser("~"), os.getcwd()]  # noqa: PTH109, PTH111
    marks = [mark for mark in marks if len(mark) > 3 and mark != "localhost"]
    for path in [*site.rglob("*.html"), site / "search/search_index.json"]:
        text = path.read_text("utf-8")
        assert not [mark for mark in marks if mark in text], path


def test_what_only_installs_is_folded_away(site):
    for page, said in (("", "Install what is missing"), ("es/", "Instalar lo que falte")):
        text = (site / f"{page}lessons/02_self_attention_by_hand.html").read_text("utf-8")
        folded = re.search(r"<details[^>]*>(.*?)</details>", text, re.DOTALL)[1]
        assert said in folded
        assert "subprocess" in folded
        assert "subprocess" not in text.replace(folded, "")


def test_both_languages_are_there(site):
    for page in ("index", "start", "concepts/index", "concepts/masks", "lessons/index"):
        assert 'lang="en"' in (site / f"{page}.html").read_text("utf-8")[:400]
        assert 'lang="es"' in (site / f"es/{page}.html").read_text("utf-8")[:400]


def test_buttons_and_links_of_spanish_pages_speak_spanish(site):
    text = (site / "es/concepts/masks.html").read_text("utf-8")
    names = set(re.findall(r'(?:title|aria-label)="([^"]*)"', text))
    assert {"Enlace permanente", "Oscuro", "Claro"} <= names
    assert not {"Permanent link", "Dark", "Light"} & names
    assert 'content="Mira la atención' in text


@pytest.fixture(scope="session")
def served(site):
    """The site on a port of this machine."""
    handler = functools.partial(Quiet, directory=str(site))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")  # while it is open, no other test of the process may run asyncio
def chromium():
    program = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chrome")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("Chromium is missing, and CI must run these tests")
        pytest.skip("Chromium is not installed here")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield running
        running.close()


@contextlib.contextmanager
def looked_at(chromium, size, scheme):
    """A page that notes every request and every complaint."""
    context = chromium.new_context(viewport=SIZES[size], color_scheme=scheme)
    context.set_default_timeout(120_000)  # a busy machine takes its time
    page = context.new_page()
    page.requests, page.complaints = [], []
    page.on("request", lambda request: page.requests.append(request.url))
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    yield page
    context.close()


def too_wide(page):
    """By how many pixels the page can be scrolled sideways, and what sticks out."""
    return page.evaluate(
        """() => {
          const wide = document.scrollingElement.clientWidth;
          const out = document.scrollingElement.scrollWidth - wide;
          const parts = [...document.querySelectorAll("article *")].filter(
            (part) => part.getBoundingClientRect().right > wide + 1
              && !part.closest("pre, .formula, .md-typeset__scrollwrap, table"));
          return [out, parts.slice(0, 3).map((part) => part.outerHTML.slice(0, 80))];
        }"""
    )


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_pages_fit_and_are_quiet(site, served, chromium, parsed, size, scheme):
    empty = json.loads((site / "search/search_index.json").read_text("utf-8")) | {"docs": []}
    pages = [str(page) for page in parsed if page.name != "404.html"]
    every = size == "phone" and scheme == "dark"
    with looked_at(chromium, size, scheme) as page:
        # the search has a test of its own: here each page would build its whole index again
        page.route("**/search_index.json", lambda route: route.fulfill(json=empty))
        for name in pages if every else LOOKED_AT:
            page.goto(served + name)
            assert too_wide(page) == [0, []], name
            ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
            light = sum(map(int, re.findall(r"\d+", ground)[:3])) > 3 * 128
            assert light == (scheme == "light"), name
        assert not page.complaints
        assert not [url for url in page.requests if not url.startswith((served, "data:", "blob:"))]


@pytest.mark.browser
def test_search_finds_a_name_without_any_network(served, chromium):
    with looked_at(chromium, "desk", "light") as page:
        page.goto(served + "index.html")
        page.locator("input.md-search__input").click()
        # What is written before the index is there is forgotten.
        said = "document.querySelector('.md-search-result__meta').innerText"
        page.wait_for_function(f"() => !/Initializing/.test({said})")
        page.locator("input.md-search__input").press_sequentially("MultiHeadAttention")
        page.locator(".md-search-result__item").first.wait_for()
        assert "MultiHeadAttention" in page.locator(".md-search-result__list").inner_text()
        assert not [url for url in page.requests if not url.startswith((served, "data:", "blob:"))]


@pytest.mark.browser
def test_the_site_opens_from_a_folder(site, chromium):
    with looked_at(chromium, "desk", "light") as page:
        page.goto((site / "index.html").as_uri())
        page.get_by_role("link", name="five minutes").click()
        assert page.url.endswith("/start.html")
        assert not [url for url in page.requests if not url.startswith(("file:", "data:", "blob:"))]
