"""Hooks of mkdocs: the pages that are made join those that are written."""

import posixpath
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:  # mkdocs looks for modules beside this file alone
    sys.path.insert(0, str(ROOT))

from docs.making.assembling import assemble  # noqa: E402
from docs.making.lesson_pages import titles  # noqa: E402

SPANISH = {"Permanent link": "Enlace permanente", "Dark": "Oscuro", "Light": "Claro"}
"""What mkdocs and its theme say of buttons and links in one language for all pages."""

_assembled: list[tempfile.TemporaryDirectory[str]] = []
_inventory: list[bytes] = []


@event_priority(100)  # before the languages are told apart
def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Build from a folder that holds both; i18n takes no pages that are not files."""
    if not _assembled:
        _assembled.append(tempfile.TemporaryDirectory(prefix="atento-docs-"))
        assemble(Path(_assembled[0].name))
        config.nav = _with_lessons(config.nav or [], "en")
        for language in config.plugins["i18n"].config.languages:  # type: ignore[attr-defined]
            if language.nav:
                language.nav = _with_lessons(language.nav, language.locale)
    config.docs_dir = _assembled[0].name
    return config


@event_priority(-100)  # after the languages are told apart
def on_post_page(output: str, *, page: Page, config: MkDocsConfig) -> str:
    """Addresses that begin at the root of a server are nowhere in a folder.

    Material asks for a sitemap beside each alternate link, which there is not.
    """
    del config
    output = re.sub(r'\s*<link rel="alternate"[^>]*>', "", output)
    if page.url.startswith("es/"):
        output = re.sub(
            r'\b(title|aria-label)="([^"]*)"',
            lambda found: f'{found[1]}="{SPANISH.get(found[2], found[2])}"',
            output,
        )
    here = posixpath.dirname(page.url)
    return re.sub(
        r'href="/([^"/][^"]*)"', lambda found: f'href="{posixpath.relpath(found[1], here)}"', output
    )


@event_priority(100)
def on_post_build(config: MkDocsConfig) -> None:
    """The inventory of English stays: the site is built once more for each language."""
    path = Path(config.site_dir) / "objects.inv"
    if _inventory:
        path.write_bytes(_inventory[0])
    else:
        _inventory.append(path.read_bytes())


def _with_lessons(nav: list[Any], lang: str) -> list[Any]:
    """The navigation, with all lessons where their index stands."""
    pages = [{title: f"lessons/{stem}.md"} for stem, title in titles(lang).items()]
    filled: list[Any] = []
    for entry in nav:
        (name, target), *_ = entry.items()
        here = target == "lessons/index.md"
        filled.append({name: [target, *pages]} if here else entry)
    return filled
