"""What every page has around its data: the frame, the words, and the policy.

One HTML file, which makes no network request: style, script, words and data are inside, and the
Content-Security-Policy allows nothing else. Text of the user reaches the page as JSON and then as
text nodes or canvas text, never as markup.
"""

import base64
import hashlib
import json
from functools import cache
from importlib.resources import files
from typing import Any

from atento._errors import InputError
from atento.views.page_bundle import asset, bundle, without_comments
from atento.views.page_data import script_safe_json

__all__ = ["LANGUAGES", "WORKER_POLICY", "page_policy", "page_words", "render_shell"]

LANGUAGES = ("en", "es")

WORKER_POLICY = "atento-worker"
"""The name under which a page may make the URL of its worker, and nothing else."""

SHARED = (
    "page.noscript",
    "page.failure",
    "page.layer",
    "page.head",
    "page.language",
    "page.astext",
)
"""What all pages say."""


def render_shell(
    record: Any,
    *,
    lang: str,
    kind: str,
    entry: str,
    styles: tuple[str, ...],
    worker: str | None = None,
    also: tuple[str, ...] = (),
    served: bool = False,
) -> str:
    """A complete HTML document around the data of one page.

    Args:
        record: plain data, as JSON has it.
        lang: the language in which the page opens; it can be switched there.
        kind: the words that the page says begin with this and a dot.
        entry: the module that draws the page.
        styles: the style sheets.
        worker: the module that runs in a worker, or None.
        also: further kinds whose words the page says.
        served: whether the page may ask the server that it came from, and nobody else.

    Returns:
        ASCII but for the page's own words, so it can be written as UTF-8 whatever the tokens hold.

    Raises:
        InputError: a language that the page does not speak.
    """
    if lang not in LANGUAGES:
        raise InputError(f"lang must be one of {', '.join(LANGUAGES)}. Got {lang!r} instead.")
    style, script = _style(styles), _script(entry)
    words = {language: page_words(language, kind, *also) for language in LANGUAGES}
    data = {"lang": lang, "words": words, "record": record}
    if worker is not None:
        data["worker"] = _script(worker)
    parts = {
        "lang": lang,
        "title": words[lang][f"{kind}.title"],
        "policy": _policy(style, script, worker is not None, served),
        "style": style,
        "noscript_en": words["en"]["page.noscript"],
        "noscript_es": words["es"]["page.noscript"],
        "failure_en": words["en"]["page.failure"],
        "failure_es": words["es"]["page.failure"],
        "data": script_safe_json(data),
        "script": script,
    }
    pieces = asset("page.html").split("%%")  # text, name, text, name, … text
    return "".join(parts[piece] if i % 2 else piece for i, piece in enumerate(pieces))


@cache
def page_words(language: str, *kinds: str) -> dict[str, str]:
    """The sentences of some kinds of pages, and those that all pages say."""
    text = (files("atento.views") / "locales" / f"{language}.json").read_text(encoding="utf-8")
    return {
        key: sentence
        for key, sentence in json.loads(text).items()
        if key.partition(".")[0] in kinds or key in SHARED
    }


def page_policy(entry: str, styles: tuple[str, ...], worker: bool, served: bool) -> str:
    """The Content-Security-Policy of such a page, for a server to send with it."""
    return _policy(_style(styles), _script(entry), worker, served)


@cache
def _style(names: tuple[str, ...]) -> str:
    return "".join(without_comments(asset(name)) for name in names)


@cache
def _script(entry: str) -> str:
    return bundle(entry)


def _policy(style: str, script: str, worker: bool, served: bool = False) -> str:
    """Nothing may load or run but this page's own style and script."""
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {_sha256(script)}",
            f"style-src {_sha256(style)}",
            "img-src data:",
            *(["worker-src blob:"] if worker else []),
            *(["connect-src 'self'"] if served else []),
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            f"trusted-types {WORKER_POLICY if worker else chr(39) + 'none' + chr(39)}",
        ]
    )


def _sha256(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
