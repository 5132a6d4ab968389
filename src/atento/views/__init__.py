"""Pictures of records: the terminal, a self-contained page, JSON.

``show`` and ``save`` are resolved on first use, so that one view never loads what another needs.
"""

from importlib import import_module
from typing import Any

__all__ = ["save", "show"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("atento.views.doors"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
