"""Which engine serves a request, and why."""

from dataclasses import dataclass
from math import prod

from atento._arrays import is_numpy, is_torch, library_name
from atento._errors import EngineError
from atento.equation.request import Request

__all__ = ["ENGINES", "SMALL", "Plan", "choose"]

ENGINES = ("auto", "dense", "streaming", "fused")
SMALL = 2**18
"""Weights up to this count are computed whole: blocks and threads would not pay (benchmarks)."""


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
        from atento.equation.on_torch.plan import plan_torch

        return plan_torch(request, engine)
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
