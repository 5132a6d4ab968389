"""plot: a record as a figure, or drawn into axes that are there."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from atento._errors import InputError
from atento._optional import require
from atento.records import Explanation, Trace
from atento.statistics import Survey
from atento.views.doors import is_match, is_watched
from atento.views.figures.choosing import Choice, as_explanation, heads_of
from atento.views.figures.labels import label_width, shown
from atento.views.figures.style import (
    as_inches,
    check_axes,
    describe,
    fit,
    frame_of,
    new_axes,
    plain_text,
    style,
)
from atento.views.figures.words import figure_words
from atento.views.terminal_text import fit as fit_text
from atento.views.words import Words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from atento.lm.watching import Watched
    from atento.views.figures.heads import Head
    from atento.views.figures.pictures import Picture

__all__ = ["KINDS", "plot"]

Make = Callable[..., "Picture"]

TITLE, SMALLEST_TITLE = 8.0, 6.0
"""Points."""

WIDE_LETTER = 0.65
"""The width of most capitals, in sizes."""


def _map(record: Any, choice: Choice, word: Words, **options: Any) -> "Picture":
    from atento.views.figures.head_map import head_map

    return head_map(_only(_one_layer(record, choice)), word, **options)


def _grid(record: Any, choice: Choice, word: Words, **options: Any) -> "Picture":
    from atento.views.figures.head_grid import head_grid

    return head_grid(heads_of(record, choice, every=True), word, **options)


def _arcs(record: Any, choice: Choice, word: Words, **options: Any) -> "Picture":
    from atento.views.figures.arcs import arcs

    return arcs(_one_layer(record, choice), word, **options)


def _steps(record: Any, choice: Choice, word: Words) -> "Picture":
    from atento.views.figures.pictures import title_of
    from atento.views.figures.step_strip import step_strip

    if not isinstance(record, Explanation | Trace):
        raise InputError(
            "steps draws every step of a head, which a Trace or an Explanation keeps; got a "
            f'{type(record).__name__}: draw kind="map".'
        )
    explanation = as_explanation(record)
    head = _only(_one_layer(explanation, choice))
    layer = explanation.layers[int(head.layer or 0)]
    return step_strip(layer, head.number, head.tokens, title_of(head, word), word)


def _curves(record: Any, choice: Choice, word: Words, **options: Any) -> "Picture":
    from atento.views.figures.curves import curves

    return curves(_one_layer(record, choice), word, **options)


def _training(watched: "Watched", choice: Choice, word: Words, **options: Any) -> "Picture":
    from atento.views.figures.training import training_curves

    _check_no_choice(choice)
    return training_curves(watched, word, **options)


def _training_grid(watched: "Watched", choice: Choice, word: Words, **options: Any) -> "Picture":
    from atento.views.figures.training import training_grid

    _check_no_choice(choice)
    return training_grid(watched, word, **options)


def _check_no_choice(choice: Choice) -> None:
    if vars(choice) != vars(Choice()):
        raise InputError(
            "of a training that was watched, all heads are drawn: leave out layer, head, batch and "
            "tokens."
        )


def _one_layer(record: Any, choice: Choice) -> "list[Head]":
    """The heads that were named, all of one layer."""
    (heads,) = heads_of(record, choice, every=False)
    return heads


def _only(heads: "list[Head]") -> "Head":
    if len(heads) > 1:
        raise InputError(
            f'one head is drawn at a time; got {len(heads)}: for several, draw kind="arcs" or '
            'kind="grid".'
        )
    return heads[0]


KINDS: dict[str, tuple[Make, str, tuple[str, ...]]] = {
    "map": (_map, "column", ("rows", "cols", "pool", "log", "labels")),
    "grid": (_grid, "text", ("pool", "log")),
    "arcs": (_arcs, "column", ("rows", "cols", "threshold")),
    "steps": (_steps, "text", ()),
    "curves": (_curves, "column", ("statistics",)),
}
"""What makes each picture, its usual width, and the options that are its own."""

OF_TRAININGS: dict[str, tuple[Make, str, tuple[str, ...]]] = {
    "curves": (_training, "column", ("statistics",)),
    "grid": (_training_grid, "text", ("step", "prompt", "pool", "log")),
}
"""The same of what `atento.lm.load_watch` returned."""


def plot(
    record: Any,
    kind: str | None = None,
    *,
    ax: "Axes | None" = None,
    layer: int | str | None = None,
    head: int | Iterable[int] | None = None,
    batch: int = 0,
    tokens: Sequence[str] | None = None,
    key_tokens: Sequence[str] | None = None,
    width: str | float | None = None,
    title: str | None = None,
    lang: str | None = None,
    **options: Any,
) -> "Axes":
    """Draw a record with matplotlib, in a figure of its own or into axes that are there.

    The kinds, and the options that are theirs:

    - ``"map"``: one head, a row for each query and a column for each key. ``rows=`` and ``cols=``
      choose a part; ``pool="max"`` or ``"mean"`` says what of the weights of a cell is shown where
      there are too many for a cell each; ``log=True`` colours by the logarithm; ``labels=`` asks
      for tokens at the edges (True, False, or None: where they fit). What a mask hides is hatched.
    - ``"grid"``: all layers × heads as small maps, each with its role; ``pool=``, ``log=``.
    - ``"arcs"``: tokens left and right with a line for each weight from ``threshold=`` on, for one
      head or several; ``rows=``, ``cols=``.
    - ``"steps"``: one head from input through Q, K, V, scores and weights to the output, each
      matrix over its shape.
    - ``"curves"``: ``statistics=`` along the text, for one head or several.

    Of a training that was watched: ``"curves"``, the loss and ``statistics=`` of all heads over the
    steps; ``"grid"``, all heads at ``step=`` on ``prompt=``, with ``pool=`` and ``log=``.

    Text stays text where the figure is saved with `atento.save`; with matplotlib's own ``savefig``
    that is so under ``rc_context({"svg.fonttype": "none", "pdf.fonttype": 42})``.

    Args:
        record: a Trace, Explanation, Recording, layer of a recording, Survey, Match, or what
            `atento.lm.load_watch` returned.
        kind: one of the above. By default curves for a survey, the grid for a recording of which
            no head is named, and otherwise the map.
        ax: plain matplotlib axes to draw into; their style is then the user's. Left out, a figure
            is made, without pyplot, and sized so that nothing is cut.
        layer: a number or a name; for an explanation the one that it shows first.
        head: a number as the record counts, for arcs and curves also several.
        batch: of which batch item.
        tokens: names for the queries, where the record has none or others are wanted.
        key_tokens: names for the keys.
        width: "column" (3.3 inches), "text" (6.9) or inches; by default what suits the kind.
        title: other words above the picture; "" for none.
        lang: "en" or "es"; by default from the locale.
        **options: of the kind.

    Returns:
        The axes; ``.figure`` is the whole. As the last line of a notebook's cell both show the
        picture, where ``ax`` was left out; ``.figure.description`` says in words what it shows.

    Raises:
        MissingLibraryError: matplotlib is not installed.
        InputError: an unknown kind, option, layer or head, or what the record has not kept.
        DTypeError: for what is no record, or no axes.

    >>> import numpy as np, atento
    >>> x = np.eye(3)
    >>> axes = plot(atento.trace(x, x, x), tokens=["a", "b", "c"], lang="en")
    >>> [label.get_text() for label in axes.get_yticklabels()]
    ['a', 'b', 'c']
    """
    require("matplotlib", "to draw figures")
    word = figure_words(lang)
    several = tuple(head) if isinstance(head, Iterable) and not isinstance(head, str) else head
    choice = Choice(layer, several, batch, tokens, key_tokens)
    if is_match(record):
        from atento.explanation.of_match import explanation_of_match

        record = explanation_of_match(record)
    kind = _usual_kind(record, choice) if kind is None else kind
    make, usual, own_options = _kind(kind, OF_TRAININGS if is_watched(record) else KINDS)
    _check_options(kind, options, own_options)
    picture = make(record, choice, word, **options)
    text = picture.title if title is None else shown(title, 80) if title else ""
    if ax is not None:
        with plain_text():
            own = check_axes(ax)
            picture.draw(own, frame_of(own))
            _entitle(own, text, picture.pad, frame_of(own)[0])
        return own
    inches = as_inches(usual if width is None else width)
    with style():
        frame = picture.frame(inches)
        made = new_axes(inches, frame)
        picture.draw(made, frame)
        _entitle(made, text, picture.pad, frame[0])
        fit(made, inches, picture.height, picture.widest)
    describe(made, picture.description)
    return made


def _entitle(ax: "Axes", text: str, pad: float, width: float) -> None:
    """The title over the frame, smaller or cut where it would be wider."""
    if not text:
        return
    size = min(TITLE, TITLE * width / max(label_width([text], TITLE), 0.1))
    if size < SMALLEST_TITLE:
        size = SMALLEST_TITLE
        text = fit_text(text, max(4, int(width * 72 / (size * WIDE_LETTER))))
    ax.set_title(text, fontsize=size, pad=pad, parse_math=False)


def _usual_kind(record: Any, choice: Choice) -> str:
    """Statistics of a survey, all heads of a recording, otherwise one head."""
    if isinstance(record, Survey) or is_watched(record):
        return "curves"
    recorded = not isinstance(record, Explanation | Trace)
    return "grid" if recorded and choice.head is None else "map"


def _kind(
    kind: Any, kinds: dict[str, tuple[Make, str, tuple[str, ...]]]
) -> tuple[Make, str, tuple[str, ...]]:
    if not isinstance(kind, str) or kind not in kinds:
        raise InputError(f"kind must be one of {', '.join(kinds)}; got {kind!r}.")
    return kinds[kind]


def _check_options(kind: str, options: dict[str, Any], known: tuple[str, ...]) -> None:
    foreign = [name for name in options if name not in known]
    if foreign:
        takes = ", ".join(known) or "no options of its own"
        raise InputError(f"the kind {kind!r} takes {takes}; got {', '.join(foreign)}.")
