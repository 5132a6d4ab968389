"""The engines that compute PyTorch tensors: the only files of this room that name torch."""

from atento.equation.computed import Computed
from atento.equation.dense import dense
from atento.equation.on_torch.autocast import autocast_is_on, without_autocast
from atento.equation.on_torch.fused import fuse
from atento.equation.on_torch.plan import plan_torch
from atento.equation.on_torch.streaming import stream
from atento.equation.on_torch.weights import fits_in_place, in_place
from atento.equation.request import Request

__all__ = ["compute", "plan_torch", "without_autocast"]


def compute(request: Request, engine: str, with_lse: bool, with_weights: bool) -> Computed:
    """What the engine leaves of a request on torch."""
    if autocast_is_on(request.device.type):
        with without_autocast(request.device.type):
            return compute(request, engine, with_lse, with_weights)
    if with_weights and not with_lse and fits_in_place(request):
        return in_place(request)
    if engine == "dense" or (with_lse and request.opaque):
        return dense(request, with_lse, with_weights)
    return fuse(request, with_lse) if engine == "fused" else stream(request)
