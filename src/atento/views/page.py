"""The self-contained page: every step of attention, with the arithmetic of every number.

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
from atento.records import Explanation
from atento.views.page_bundle import asset, bundle
from atento.views.page_data import page_data, script_safe_json

__all__ = ["LANGUAGES", "render_page"]

LANGUAGES = ("en", "es")


def render_page(explanation: Explanation, *, lang: str = "en") -> str:
    """Draw an explanation as one HTML page.

    Args:
        explanation: what to show.
        lang: the language in which the page opens, "en" or "es"; it can be switched there.

    Returns:
        A complete HTML document; ASCII but for the page's own words, so it can be written as
        UTF-8 whatever the tokens hold.

    Raises:
        InputError: a language that the page does not speak.
    """
    if lang not in LANGUAGES:
        raise InputError(f"lang must be one of {', '.join(LANGUAGES)}. Got {lang!r} instead.")
    style, script = _assets()
    words = {language: _words(language) for language in LANGUAGES}
    data = {"lang": lang, "words": words, "record": page_data(explanation)}
    parts = {
        "lang": lang,
        "title": words[lang]["page.title"],
        "policy": _policy(style, script),
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
def _assets() -> tuple[str, str]:
    return asset("page.css"), bundle("main.js")


@cache
def _words(language: str) -> dict[str, Any]:
    text = (files("atento.views") / "locales" / f"{language}.json").read_text(encoding="utf-8")
    words: dict[str, Any] = json.loads(text)
    return words


def _policy(style: str, script: str) -> str:
    """Nothing may load or run but this page's own style and script."""
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {_sha256(script)}",
            f"style-src {_sha256(style)}",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        ]
    )


def _sha256(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
