"""The page of what was watched: curves of every head over the training, and a film of maps."""

from typing import TYPE_CHECKING, Any

import numpy as np

from atento.lm.watching.look import STATISTICS
from atento.reading.roles import ROLES
from atento.views.page_arrays import ArrayPool
from atento.views.page_shell import render_shell
from atento.views.recording_data import coded

if TYPE_CHECKING:
    from atento.lm.watching import Watched

__all__ = ["render_watched", "watch_data"]

MOST_CELLS = 2**24
"""Of all maps together: of more, the film has fewer pictures."""


def render_watched(watched: "Watched", *, lang: str = "en") -> str:
    """Draw what was watched of a training as one HTML page.

    Args:
        watched: what `atento.lm.load_watch` returned.
        lang: the language in which the page opens, "en" or "es"; it can be switched there.

    Returns:
        A complete HTML document; ASCII but for the page's own words.

    Raises:
        InputError: a language that the page does not speak.
    """
    return render_shell(
        watch_data(watched),
        lang=lang,
        kind="watch",
        entry="watch-main.js",
        styles=("page.css", "recording.css", "watch.css"),
        also=("recording",),
    )


def watch_data(watched: "Watched") -> dict[str, Any]:
    """The data of the page: plain lists, and ``arrays``, the pool that numbers in them point into.

    The maps are bytes, as in the pages of recordings: u stands for 2^((u − 255) / 12).
    """
    pool = ArrayPool()
    frames = _frames(watched)
    return {
        "format": "atento.page/watch/1",
        "steps": watched.steps.tolist(),
        "total": watched.total,
        "layers": list(watched.layers),
        "heads": list(watched.heads),
        "statistics": list(STATISTICS),
        "thresholds": {role.number: role.threshold for role in ROLES},
        "numbers": pool.typed(watched.numbers.astype("<f4")),
        "loss": pool.typed(watched.loss.astype("<f4")),
        "log": [[row["step"], row["loss"]] for row in watched.log if row["loss"] is not None],
        "formed": [_finite(row) for row in watched.formed()],
        "roles": _roles(watched),
        "frames": frames,
        "prompts": [list(prompt.tokens) for prompt in watched.prompts],
        "maps": [pool.typed(coded(maps[frames].astype(np.float32))) for maps in watched.maps],
        "arrays": pool.entries,
    }


def _frames(watched: "Watched") -> list[int]:
    """Which of the steps have pictures: all, or some at equal distances and the last."""
    cells = sum(maps.size for maps in watched.maps)
    every = max(1, -(-cells // MOST_CELLS))
    return sorted({*range(0, len(watched), every), len(watched) - 1})


def _roles(watched: "Watched") -> list[list[str]]:
    """The role of each head, layer by layer, at each step."""
    places = [
        (layer, head) for layer in range(len(watched.layers)) for head in range(len(watched.heads))
    ]
    return [[watched.role(step, *place) for place in places] for step in range(len(watched))]


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    value = row["value"]
    return row | {"value": value if value is None or np.isfinite(value) else None}
