"""The page of a recording: all heads of a model on one text, each as deep as one wants to look."""

from collections.abc import Iterable
from typing import Any

from atento.views.page_shell import render_shell
from atento.views.recording_data import recording_data

__all__ = ["render_recording"]


def render_recording(
    recording: Any,
    *,
    lang: str = "en",
    batch: int = 0,
    layers: Iterable[int | str] | None = None,
    heads: Iterable[int] | None = None,
    other: Any = None,
) -> str:
    """Draw a recording as one HTML page.

    The page computes the weights that it shows from q, k, log-sum-exp and mask, so its size grows
    with the tokens, not with their square.

    Args:
        recording: what `atento.capture` made; of several passes the first is drawn, and
            ``recording.passes[k]`` is a recording too.
        lang: the language in which the page opens, "en" or "es"; it can be switched there.
        batch: which batch item.
        layers: which layers, by number or name; None: all.
        heads: which heads, by their numbers in the model; None: all.
        other: a second recording to compare with.

    Returns:
        A complete HTML document; ASCII but for the page's own words.

    Raises:
        InputError: a language that the page does not speak; a layer, head or batch item that is
            not there; a mask or bias that is too large for a page.
    """
    return render_shell(
        recording_data(recording, batch=batch, layers=layers, heads=heads, other=other),
        lang=lang,
        kind="recording",
        entry="recording-main.js",
        styles=("page.css", "recording.css"),
        worker="tile-worker.js",
    )
