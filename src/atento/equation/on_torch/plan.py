"""Which engine serves a request on torch, and why."""

from math import prod

from atento._arrays import is_traced
from atento._errors import EngineError
from atento.equation.request import Request
from atento.masks import ALL, Mask
from atento.masks.band import Band
from atento.masks.mask import Both

__all__ = ["by_kernel", "hides_nothing", "is_causal", "plan_torch"]

SMALL = 2**16
"""Weights up to this count are computed whole where the kernel does not fit (benchmarks)."""

FEW, SHORT, MANY = 2**21, 2**16, 2**25
"""Where torch's kernel does not compute it both ways: up to FEW weights, or up to MANY in heads of
at most SHORT, the whole formula is faster than blocks, up to a hundred times (EXPERIMENTS.md)."""


def is_causal(mask: Mask | None, scale: float) -> bool:
    """Whether torch's ``is_causal`` stands for this bound mask: j <= i, and a positive scale.

    On the CPU torch hides keys by −∞ before it multiplies by the scale: 0 makes it NaN, −1 +∞.
    """
    return isinstance(mask, Band) and (mask.first, mask.last) == (None, 0) and scale > 0


def hides_nothing(request: Request) -> bool:
    """Whether the mask is known to let everybody see everybody, as with one query at the end.

    Only bands are asked (and pairs of them): they answer without an array.
    """
    if request.mask is None:
        return True
    rules = [request.mask]
    while rules:
        rule = rules.pop()
        if isinstance(rule, Both):
            rules += [rule.first, rule.second]
        elif not isinstance(rule, Band):
            return False
    Tq, Tk = request.weights_shape[-2:]
    return not is_traced() and request.mask.coverage(range(Tq), range(Tk)) is ALL


def by_kernel(request: Request) -> bool:
    """Whether torch's CPU kernel computes the pieces of this request, forward."""
    return request.query.device.type == "cpu" and request.softcap is None and not request.dropout


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
    count = prod(request.weights_shape)
    if request.opaque:
        return "dense", f"{misfit}, and the numbers cannot be looked at"
    if count <= SMALL:
        return "dense", f"{misfit}; {count:,} weights fit in the cache"
    short = count <= FEW or (prod(request.weights_shape[-2:]) <= SHORT and count <= MANY)
    learns = getattr(request.bias, "requires_grad", False)
    if short and (learns or not by_kernel(request)):
        return "dense", f"{misfit}; {count:,} weights in short rows: faster whole than in blocks"
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
    elif request.scale <= 0:
        found = "a scale that is not positive"
    elif not (is_causal(request.mask, request.scale) or hides_nothing(request)):
        found = "a mask other than causal from the start"
    elif request.value.shape[-1] != request.query.shape[-1]:
        found = "values of another size than queries"
    elif not (request.query.numel() and request.value.numel()):
        found = "nothing to compute"
    return found
