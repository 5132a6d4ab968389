"""A record as the output of a notebook's cell: a bundle of kinds, of which each program takes one.

- ``text/html``: the whole page, in a frame of its own. Taken by Jupyter (Lab, Notebook), VS Code,
  Colab and marimo. The frame may run the page's script and nothing else: it has no origin, so it
  reaches neither the notebook nor the network, and the page's own policy holds inside. Where a
  program takes frames out of the HTML (JupyterLab and marimo in a notebook that is not trusted,
  GitHub), the still picture that follows the frame is left and shows.
- ``image/png``: that picture alone, where matplotlib is installed. Taken by VS Code in a workspace
  that is not trusted, and by programs that show no HTML. marimo, which would show it in a second
  tab, is not given it. Its alternative text stands in the output's metadata, where nbconvert looks.
- ``text/plain``: the terminal's table without colours. Taken by consoles.
"""

import base64
import io
import sys
import warnings
from collections.abc import Mapping
from html import escape
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

from atento._errors import AtentoError, DTypeError, InputError
from atento.records import Explanation, Trace
from atento.views.doors import is_match, is_watched
from atento.views.words import Words, choose_language, words

if TYPE_CHECKING:
    from atento.views.figures.described import Figure

__all__ = [
    "Frame",
    "cell_bundle",
    "figure_bundle",
    "framed_page",
    "in_notebook",
    "mime_bundle",
    "show_in_notebook",
    "still_picture",
]

MENTIONED, MOST = 10, 64
"""Megabytes of a page: from the first on its size is said; more than the second is refused."""

LOWEST, HIGHEST, FIRST_HEIGHT = 240, 840, 640
"""Pixels: how low and how high a frame gets, and its height until the page has said its own."""

MEGABYTE = 1_000_000

SCREEN = 150
"""Dots per inch of the still picture: a figure as wide as a text is 1,035 pixels wide."""

FITTING = (
    "((frame)=>{"
    "const hear=({source,data})=>{"
    "if(!frame.isConnected)return window.removeEventListener('message',hear);"
    "if(source===frame.contentWindow&&data?.atento===1&&Number.isFinite(data.height))"
    f"frame.style.height=Math.min({HIGHEST},Math.max({LOWEST},data.height))+'px'}};"
    "if(!frame.fitted)window.addEventListener('message',hear);"
    "frame.fitted=true;"
    "frame.contentWindow.postMessage({atento:1},'*')"
    "})(this)"
)
"""What the frame does once loaded: asks its page how tall it is, and hears nobody else."""

STYLE = f"display:block;width:100%;height:{FIRST_HEIGHT}px;border:0;resize:vertical;overflow:auto"


Output = tuple[dict[str, str], dict[str, dict[str, str]]]
"""Text by kind, and by kind what else there is to say of it."""


class Still(NamedTuple):
    """A picture in base64, and what it shows in words."""

    picture: str
    told: str


class Frame(NamedTuple):
    """A page, and what it is called.

    Attributes:
        page: a complete HTML document.
        title: for those who cannot see it.
    """

    page: str
    title: str


def in_notebook() -> bool:
    """Whether outputs are shown by a notebook: an IPython kernel runs this, or marimo does.

    Neither is imported: who runs under one has it loaded.
    """
    return _kernel_shell() is not None or _marimo() is not None


def show_in_notebook(record: Any, *, lang: str | None = None, **options: Any) -> None:
    """Display a record beneath the cell that is running.

    Raises:
        as `mime_bundle`.
    """
    bundle, metadata = _output(record, lang, options)
    marimo = _marimo()
    if marimo is not None:
        text = f"<pre>{escape(bundle['text/plain'])}</pre>"
        marimo.output.append(marimo.Html(bundle.get("text/html", text)))
        return
    shell = _kernel_shell()
    assert shell is not None  # noqa: S101 - for mypy: `in_notebook` was asked
    shell.display_pub.publish(data=bundle, metadata=metadata)


def cell_bundle(record: Any) -> Output | None:
    """What the record is as the last line of a cell.

    Returns:
        The bundle and its metadata; None where its ``repr`` is to be shown: in IPython's terminal,
        and for what cannot be drawn.
    """
    if _in_ipythons_terminal():
        return None
    try:
        return _output(record, None, {})
    except AtentoError:
        return None


def figure_bundle(figure: "Figure", shown: Any) -> Output | None:
    """What a figure of `atento.plot` is as the last line of a cell: a picture, told in words.

    Args:
        figure: the whole.
        shown: what the cell ends in: the figure, or its axes.

    Returns:
        The bundle and its metadata; None where its ``repr`` is to be shown: in IPython's terminal,
        and where nothing is left in the figure.
    """
    if _in_ipythons_terminal() or not figure.axes:
        return None
    from atento.views.figures import render_figure

    drawn = render_figure(figure.axes[0], ".png", dots=SCREEN)
    bundle = {"image/png": base64.b64encode(drawn).decode("ascii"), "text/plain": repr(shown)}
    return bundle, _metadata(figure.description)


def mime_bundle(record: Any, *, lang: str | None = None, **options: Any) -> dict[str, str]:
    """The kinds in which a notebook can show a record.

    Args:
        record: a Trace, Explanation, Recording, Survey, Match, or a training that was watched.
        lang: "en" or "es"; by default from the locale.
        **options: of a recording's page: batch, layers, heads, other.

    Returns:
        Text by kind: ``text/html`` (the page, unless it has more than 64 MB, and the picture),
        ``image/png`` in base64 (where matplotlib is installed and can draw the record; not in
        marimo), ``text/plain``.

    Raises:
        DTypeError: for what is no record.
        InputError: for an option that the page has not, or a language that there is not.

    >>> import numpy as np, atento
    >>> sorted(mime_bundle(atento.trace(np.eye(2), np.eye(2), np.eye(2)), lang="en"))
    ['image/png', 'text/html', 'text/plain']
    """
    return _output(record, lang, options)[0]


def _output(record: Any, lang: str | None, options: Mapping[str, Any]) -> Output:
    word = words(choose_language(lang))
    still = _still(record, word)
    frame, note = None, None
    if not _is_survey(record):
        frame, note = _frame_or_note(record, word, options)
    notes = [note] if note else []
    bundle = {}
    metadata = {}
    if frame or still or notes:
        bundle["text/html"] = _html(frame, still, notes, word)
    if still and _marimo() is None:
        bundle["image/png"] = still.picture
        metadata = _metadata(still.told)
    bundle["text/plain"] = "\n".join([*notes, _text(record, word)])
    return bundle, metadata


def _metadata(told: str) -> dict[str, dict[str, str]]:
    return {"image/png": {"alt": told}} if told else {}


def framed_page(record: Any, word: Words, options: Mapping[str, Any]) -> Frame:
    """The page of a record, if it is not too large for a notebook.

    Raises:
        InputError: it is; or as `render_recording`.
        DTypeError: the record has no page.
    """
    from atento.views.page_shell import page_words

    if _is_recording(record):
        from atento.views.recording_page import render_recording

        _check_size(_at_least(record, options), word, record)
        page, kind = render_recording(record, lang=word.lang, **options), "recording"
    elif is_watched(record) and not options:
        from atento.views.watch_page import render_watched

        page, kind = render_watched(record, lang=word.lang), "watch"
    else:
        from atento.views.page import render_page

        if options:
            raise InputError(f"{', '.join(options)}: is for recordings; got a {_name(record)}.")
        page, kind = render_page(_explanation(record), lang=word.lang), "page"
    _check_size(len(page), word, record)
    return Frame(page, page_words(word.lang, kind)[f"{kind}.title"])


def _frame_or_note(
    record: Any, word: Words, options: Mapping[str, Any]
) -> tuple[Frame | None, str | None]:
    try:
        frame = framed_page(record, word, options)
    except _TooLargeError as error:
        return None, str(error)
    size = len(frame.page) / MEGABYTE
    if size < MENTIONED:
        return frame, None
    return frame, word("notebook.large", size=word.number(f"{size:.0f}"))


class _TooLargeError(InputError):
    """A page that a notebook should not hold."""


def _check_size(size: float, word: Words, record: Any) -> None:
    if size > MOST * MEGABYTE:
        part = word("notebook.part") if _is_recording(record) else ""
        known = {"size": f"{size / MEGABYTE:.0f}", "most": MOST, "part": part}
        raise _TooLargeError(word("notebook.too_large", **known))


def _at_least(recording: Any, options: Mapping[str, Any]) -> float:
    """Bytes of the queries and keys that the page would carry, in float16; 0: parts were chosen."""
    if options.get("layers") is not None or options.get("heads") is not None:
        return 0.0
    kept = [array for layer in recording for array in (layer.query, layer.key) if array is not None]
    return float(sum(2 * array.size / array.shape[0] for array in kept))


def _html(frame: Frame | None, still: Still | None, notes: list[str], word: Words) -> str:
    parts = []
    if frame is not None:
        parts.append(
            f'<iframe class="atento-page" title="{escape(frame.title)}" sandbox="allow-scripts" '
            f'loading="lazy" style="{STYLE}" onload="{escape(FITTING)}" '
            f'srcdoc="{escape(frame.page)}"></iframe>'
        )
    if still:
        # For those who are given no frame; hidden from all others without a script.
        hidden = "<style>.atento-page ~ .atento-still { display: none }</style>" * bool(frame)
        words_for_it = escape(f"{word('notebook.still')} {still.told}".strip())
        source = f"data:image/png;base64,{still.picture}"
        parts.append(f'{hidden}<img class="atento-still" alt="{words_for_it}" src="{source}">')
    parts += [f"<p>{escape(note)}</p>" for note in notes]
    return f"<div>{''.join(parts)}</div>"


def still_picture(record: Any, word: Words) -> str | None:
    """The usual figure in base64; None without matplotlib, or for what has no figure."""
    still = _still(record, word)
    return still.picture if still else None


def _still(record: Any, word: Words) -> Still | None:
    if find_spec("matplotlib") is None:
        return None
    from atento.views.figures import plot, render_figure
    from atento.views.figures.style import description_of

    try:
        axes = plot(record, lang=word.lang)
        drawn = render_figure(axes, ".png", dots=SCREEN)
    except AtentoError:
        return None
    except Exception as error:  # the page is what was asked for: it does not fall with its picture
        warnings.warn(f"the still picture could not be drawn: {error!r}", RuntimeWarning, 2)
        return None
    return Still(base64.b64encode(drawn).decode("ascii"), description_of(axes))


def _text(record: Any, word: Words) -> str:
    """What a terminal would show, without colours."""
    from rich.console import Console

    console = Console(file=io.StringIO(), width=100, color_system=None, force_jupyter=False)
    if _is_survey(record):
        from atento.views.survey_doors import show_survey

        show_survey(record, word.lang, console)
        return str(console.file.getvalue()).rstrip("\n")  # type: ignore[attr-defined]
    if _is_recording(record):
        from atento.views.recording_doors import show_recording

        show_recording(record, word.lang, console)
    elif is_watched(record):
        from atento.views.watch_doors import show_watched

        show_watched(record, word.lang, console)
    elif is_match(record):
        from atento.views.terminal_match import render_match

        render_match(record, lang=word.lang, console=console)
    else:
        from atento.views.terminal import render_terminal

        render_terminal(_explanation(record), lang=word.lang, console=console)
    return str(console.file.getvalue()).rstrip("\n")  # type: ignore[attr-defined]


def _explanation(record: Any) -> Explanation:
    if isinstance(record, Explanation):
        return record
    if is_match(record):
        from atento.explanation.of_match import explanation_of_match

        return explanation_of_match(record)
    if not isinstance(record, Trace):
        raise DTypeError(
            "a notebook shows a Trace, an Explanation, a Recording, a Survey or a Match; got a "
            f"{_name(record)}."
        )
    from atento.explanation import explanation_of

    return explanation_of(record)


def _name(record: Any) -> str:
    return type(record).__name__


def _is_recording(record: object) -> bool:
    room = sys.modules.get("atento.reading.recording")
    return room is not None and isinstance(record, room.Recording)


def _is_survey(record: object) -> bool:
    room = sys.modules.get("atento.statistics.survey")
    return room is not None and isinstance(record, room.Survey)


def _kernel_shell() -> Any:
    """IPython's shell, if a kernel runs it; None otherwise."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell if getattr(shell, "kernel", None) is not None else None


def _in_ipythons_terminal() -> bool:
    ipython = sys.modules.get("IPython")
    return ipython is not None and ipython.get_ipython() is not None and not in_notebook()


def _marimo() -> Any:
    """The library, if a marimo notebook runs this; None otherwise."""
    marimo = sys.modules.get("marimo")
    return marimo if marimo is not None and marimo.running_in_notebook() else None
