"""The page that the server shows: a text is read, and all views over that reading."""

from collections.abc import Sequence

from atento.views.page_shell import page_policy, render_shell

__all__ = ["render_live"]

ENTRY = "live-main.js"
STYLES = ("page.css", "recording.css", "live.css")


def render_live(
    models: Sequence[str], recordings: Sequence[tuple[str, str]] = (), *, lang: str = "en"
) -> tuple[str, str]:
    """Draw the page of the local server.

    Args:
        models: the names of those that texts can be read with, the first one chosen.
        recordings: (id, name) of those that were opened at the start.
        lang: the language in which the page opens, "en" or "es"; it can be switched there.

    Returns:
        A complete HTML document, and its Content-Security-Policy, which lets it ask the server
        that it came from and nobody else.

    Raises:
        InputError: a language that the page does not speak.
    """
    given = {
        "models": list(models),
        "recordings": [{"id": name, "name": shown} for name, shown in recordings],
    }
    page = render_shell(
        given,
        lang=lang,
        kind="live",
        entry=ENTRY,
        styles=STYLES,
        worker="tile-worker.js",
        also=("recording",),
        served=True,
    )
    return page, page_policy(ENTRY, STYLES, worker=True, served=True)
