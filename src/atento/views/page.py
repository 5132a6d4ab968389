"""The self-contained page: every step of attention, with the arithmetic of every number."""

from atento.records import Explanation
from atento.views.page_data import page_data
from atento.views.page_shell import LANGUAGES, render_shell

__all__ = ["LANGUAGES", "render_page"]


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
    return render_shell(
        page_data(explanation), lang=lang, kind="page", entry="main.js", styles=("page.css",)
    )
