"""Attention as search by meaning: a dictionary that attends, and kernel regression.

Names are resolved on first use, so that a mistake in one file is not a mistake in the room.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from atento._optional import require

if TYPE_CHECKING:
    from atento.retrieval.match import Match, Matches
    from atento.retrieval.regression import AttentionClassifier, AttentionRegressor
    from atento.retrieval.soft_dict import SoftDict

__all__ = ["AttentionClassifier", "AttentionRegressor", "Match", "Matches", "SoftDict"]

_HOME = {
    "AttentionClassifier": "atento.retrieval.regression",
    "AttentionRegressor": "atento.retrieval.regression",
    "Match": "atento.retrieval.match",
    "Matches": "atento.retrieval.match",
    "SoftDict": "atento.retrieval.soft_dict",
}


def __getattr__(name: str) -> Any:
    if name in ("AttentionClassifier", "AttentionRegressor"):
        require("sklearn", f"for {name}, which is one of its estimators")
    if name in _HOME:
        value = getattr(import_module(_HOME[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
