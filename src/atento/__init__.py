"""atento: where you see attention.

Everything public is reached from here, and loaded when it is first named: ``import atento`` costs
NumPy alone.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atento._errors import AtentoError, DTypeError, EngineError, InputError, ShapeError
    from atento.equation import attention, plan, trace
    from atento.explanation import explain
    from atento.reading.capturing import capture
    from atento.reading.interventions import (
        Boost,
        KnockOut,
        KnockOutEdges,
        Replace,
        Temperature,
    )
    from atento.reading.recording import Recording
    from atento.reading.saving import load_recording
    from atento.records import Explanation, Step, Trace
    from atento.retrieval import Match, SoftDict
    from atento.statistics import Survey, survey
    from atento.views import plot, save, show
    from atento.views.widget import widget

__version__ = "0.1.0"

_HOME = {
    "attention": "atento.equation",
    "plan": "atento.equation",
    "trace": "atento.equation",
    "survey": "atento.statistics",
    "Survey": "atento.statistics",
    "capture": "atento.reading.capturing",
    "Boost": "atento.reading.interventions",
    "KnockOut": "atento.reading.interventions",
    "KnockOutEdges": "atento.reading.interventions",
    "Replace": "atento.reading.interventions",
    "Temperature": "atento.reading.interventions",
    "load_recording": "atento.reading.saving",
    "Recording": "atento.reading.recording",
    "explain": "atento.explanation",
    "Match": "atento.retrieval",
    "SoftDict": "atento.retrieval",
    "plot": "atento.views",
    "save": "atento.views",
    "show": "atento.views",
    "widget": "atento.views.widget",
    "Explanation": "atento.records",
    "Step": "atento.records",
    "Trace": "atento.records",
    "AtentoError": "atento._errors",
    "DTypeError": "atento._errors",
    "EngineError": "atento._errors",
    "InputError": "atento._errors",
    "ShapeError": "atento._errors",
}

_ROOMS = ("lessons", "lm", "masks", "nn", "positions", "records", "retrieval", "statistics")

__all__ = [
    "AtentoError",
    "Boost",
    "DTypeError",
    "EngineError",
    "Explanation",
    "InputError",
    "KnockOut",
    "KnockOutEdges",
    "Match",
    "Recording",
    "Replace",
    "ShapeError",
    "SoftDict",
    "Step",
    "Survey",
    "Temperature",
    "Trace",
    "attention",
    "capture",
    "explain",
    "load_recording",
    "plan",
    "plot",
    "save",
    "show",
    "survey",
    "trace",
    "widget",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(import_module(_HOME[name]), name)
        globals()[name] = value
        return value
    if name in _ROOMS:
        return import_module(f"atento.{name}")
    raise AttributeError(f"module 'atento' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_ROOMS})
