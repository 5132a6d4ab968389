"""Static figures for papers: matplotlib in, axes or a file out.

One file per picture: `head_map`, `head_grid`, `arcs`, `step_strip`, `curves`. Each is a class that
holds what it shows and draws it into axes; `drawing.plot` is the door. What is shown comes from
`heads`, which knows the records. matplotlib is imported inside functions alone, never pyplot.
"""

from importlib import import_module
from typing import Any

__all__ = ["plot", "render_figure"]

_HOME = {"plot": "drawing", "render_figure": "rendering"}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"atento.views.figures.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
