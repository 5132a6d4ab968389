"""widget: the page of a record in a notebook, and what is looked at there as a value in Python."""

from typing import TYPE_CHECKING, Any

from atento._optional import require
from atento.views.notebook import framed_page, still_picture
from atento.views.words import choose_language, words

if TYPE_CHECKING:
    from atento.views.page_widget import PageWidget

__all__ = ["widget"]


def widget(record: Any, *, lang: str | None = None, **options: Any) -> "PageWidget":
    """The page of a record as a widget, for Jupyter, VS Code, Colab and marimo.

    As the last line of a cell it shows the page. ``widget.state`` says what is looked at, and
    what is set there is shown: of a recording ``view``, ``layer``, ``head``, ``row``, ``col``,
    ``pool``, ``log``, ``zoom``, ``x``, ``y`` and ``lang``; of a trace or an explanation ``layer``,
    ``head``, ``step``, ``row``, ``col`` and ``lang``. Layers, heads, rows (queries) and columns
    (keys) are counted from 0 within the page. What is left out stays as it is, and what is not
    there is ignored.

    Args:
        record: a Trace, Explanation or Recording.
        lang: the language in which the page opens, "en" or "es"; by default from the locale.
        **options: of a recording's page: ``batch``, ``layers``, ``heads`` and ``other``, as
            `atento.save` has them.

    Returns:
        The widget; ``widget.observe(f, "state")`` calls f when something else is looked at.

    Raises:
        MissingLibraryError: anywidget is not installed.
        InputError: a page of more than 64 MB, or as the page's options.
        DTypeError: for what has no page.

    >>> import numpy as np, atento
    >>> shown = atento.widget(atento.trace(np.eye(2), np.eye(2), np.eye(2)), lang="en")
    >>> shown.state = {"step": "weights", "row": 1, "col": 0}
    """
    require("anywidget", "for a widget in a notebook")
    from atento.views.page_widget import PageWidget

    word = words(choose_language(lang))
    frame = framed_page(record, word, options)
    return PageWidget(frame, still=lambda: still_picture(record, word))
