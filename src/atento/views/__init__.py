"""Pictures of records: the terminal, a self-contained page, figures, JSON.

``show``, ``save`` and ``plot`` are resolved on first use, so that one view never loads what another
needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atento.views.doors import save, show
    from atento.views.figures.drawing import plot

__all__ = ["plot", "save", "show"]

_HOME = {
    "plot": "atento.views.figures.drawing",
    "save": "atento.views.doors",
    "show": "atento.views.doors",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
