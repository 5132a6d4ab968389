"""Which engine serves a request on torch, and why."""

from math import prod

from atento._errors import EngineError
from atento.equation.request import Request
from atento.masks.band import Band

__all__ = ["is_causal", "plan_torch"]

SMALL = 2**16
"""Weights up to this count are computed whole where the kernel does not fit (benchmarks)."""


def is_causal(request: Request) -> bool:
    """Whether the mask is the one that torch's ``is_causal`` stands for: j <= i."""
    mask = request.mask
    return isinstance(mask, Band) and (mask.first, mask.last) == (None, 0)


def plan_torch(request: Request, engine: str) -> tuple[str, str]:
    """The engine and the reason, for "auto", "fused" or "streaming"."""
    misfit = _misfit(request)
    if engine == "fused":
        if misfit:
            raise EngineError(
                f"the fused engine computes what PyTorch's own attention can: {misfit}. "
                'Use engine="streaming", "dense", or "auto".'
            )
        return "fused", "asked for"
    count = prod(request.weights_shape)
    if engine == "streaming":
        if request.opaque:
            raise EngineError(
                "the streaming engine looks at the mask block by block, which cannot be done "
                "while torch traces the call or without numbers (meta device, torch.func). "
                'Use engine="auto": it takes the fused or the dense engine there.'
            )
        return "streaming", "asked for"
    if misfit is None:
        return "fused", "PyTorch's own attention computes exactly this"
    if request.opaque:
        return "dense", f"{misfit}, and the numbers cannot be looked at"
    if count <= SMALL:
        return "dense", f"{misfit}; {count:,} weights fit in the cache"
    return "streaming", f"{misfit}; {count:,} weights: block by block, never all at once"


def _misfit(request: Request) -> str | None:
    """What PyTorch's own attention cannot do of this request exactly; None when it can."""
    found: str | None = None
    if request.softcap is not None:
        found = "a softcap"
    elif request.sinks is not None:
        found = "sinks"
    elif request.dropout:
        found = "dropout by seed"
    elif request.bias is not None:
        found = "a bias"
    elif request.mask is not None and not is_causal(request):
        found = "a mask other than causal from the start"
    elif request.value.shape[-1] != request.query.shape[-1]:
        found = "values of another size than queries"
    elif 0 in request.output_shape or request.key.shape[-2] == 0:
        found = "nothing to compute"
    return found
