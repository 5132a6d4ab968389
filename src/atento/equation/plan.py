"""Which engine serves a request, and why."""

from dataclasses import dataclass
from math import prod

from atento._arrays import is_numpy, library_name
from atento._errors import EngineError
from atento.equation.request import Request

__all__ = ["ENGINES", "SMALL", "Plan", "plan_for"]

ENGINES = ("auto", "dense", "streaming")
SMALL = 2**18
"""Weights up to this count are computed whole: blocks and threads would not pay (benchmarks)."""


@dataclass(frozen=True)
class Plan:
    """The engine chosen, and the reason in words."""

    engine: str
    reason: str


def plan_for(request: Request, engine: str) -> Plan:
    """Choose the engine, or check that the one named can serve the request.

    Raises:
        EngineError: for an unknown engine, or one that cannot serve this request.
    """
    if engine not in ENGINES:
        raise EngineError(f"engine must be one of {', '.join(ENGINES)}; got {engine!r}.")
    numpy = is_numpy(request.query)
    if engine == "dense":
        return Plan("dense", "asked for")
    if engine == "streaming":
        if not numpy:
            raise EngineError(
                "the streaming engine computes NumPy arrays; got "
                f'{library_name(request.query)}. Use engine="dense", or "auto".'
            )
        return Plan("streaming", "asked for")
    if not numpy:
        return Plan("dense", f"{library_name(request.query)} arrays: the formula as it stands")
    count = prod(request.weights_shape)
    if count <= SMALL:
        return Plan("dense", f"{count:,} weights fit in the cache")
    return Plan("streaming", f"{count:,} weights: block by block, never all at once")
