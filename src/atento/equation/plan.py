"""Which engine serves a request, and why."""

from dataclasses import dataclass
from math import prod
from types import ModuleType

from atento._arrays import is_numpy, is_torch, library_name
from atento._errors import EngineError
from atento.equation.request import Request

__all__ = ["ENGINES", "SMALL", "Plan", "choose", "torch_engines"]

ENGINES = ("auto", "dense", "streaming", "fused")
SMALL = 2**18
"""Weights up to this count are computed whole: blocks and threads would not pay (benchmarks)."""


_torch_engines: ModuleType | None = None


def torch_engines() -> ModuleType:
    """The engines for torch, loaded with the first tensor.

    An import statement finds what is loaded too, but takes as long as a check of all arguments.
    """
    global _torch_engines
    if _torch_engines is None:
        from atento.equation import on_torch

        _torch_engines = on_torch
    return _torch_engines


@dataclass(frozen=True)
class Plan:
    """The engine chosen, and the reason in words."""

    engine: str
    reason: str


def choose(request: Request, engine: str) -> tuple[str, str]:
    """The engine and the reason; where one is named, whether it can serve the request.

    Raises:
        EngineError: for an unknown engine, or one that cannot serve this request.
    """
    if engine not in ENGINES:
        raise EngineError(f"engine must be one of {', '.join(ENGINES)}; got {engine!r}.")
    if engine == "dense":
        return ("dense", "asked for")
    if is_torch(request.query):
        chosen: tuple[str, str] = torch_engines().plan_torch(request, engine)
        return chosen
    library = library_name(request.query)
    if engine == "fused":
        raise EngineError(
            f"the fused engine is PyTorch's own attention; got {library} arrays. "
            'Use engine="streaming" for NumPy, "dense", or "auto".'
        )
    if not is_numpy(request.query):
        if engine == "streaming":
            raise EngineError(
                f"the streaming engine computes NumPy arrays and PyTorch tensors; got {library}. "
                'Use engine="dense", or "auto".'
            )
        return ("dense", f"{library} arrays: the formula as it stands")
    if engine == "streaming":
        return ("streaming", "asked for")
    count = prod(request.weights_shape)
    if count <= SMALL:
        return ("dense", f"{count:,} weights fit in the cache")
    return ("streaming", f"{count:,} weights: block by block, never all at once")
