"""The fused engine: PyTorch's own attention, where it computes the request exactly."""

from math import isfinite

import torch
from torch.nn.functional import scaled_dot_product_attention

from atento.equation.computed import Computed
from atento.equation.on_torch.plan import is_causal
from atento.equation.on_torch.streaming import stream
from atento.equation.request import Request

__all__ = ["fuse"]

SMALL = 2**14


def fuse(request: Request, with_lse: bool) -> Computed:
    """Output, and log-sum-exp where it is asked for."""
    device = request.device.type
    if not request.opaque and (with_lse or (device == "cpu" and _needs_gradients(request))):
        return stream(request)  # the same kernel in one piece, keeping the log-sum-exp
    query, key, value = request.query, request.key, request.value
    lifted = query.ndim == 2
    if lifted:
        query, key, value = query[None], key[None], value[None]
    causal = is_causal(request.mask, request.scale)
    grouped = query.shape[-3] != key.shape[-3]
    output = scaled_dot_product_attention(
        query, key, value, is_causal=causal, scale=request.scale, enable_gqa=grouped
    )
    # Within a block of the kernel 0 · NaN reaches queries that may not see it.
    suspect = causal and not request.opaque and device == "cpu"
    if suspect and not isfinite(_telling(output).sum().item()):
        return stream(request)
    return Computed(output[0] if lifted else output)


def _telling(output: torch.Tensor) -> torch.Tensor:
    """What shows a NaN in the values: the last query sees all that can reach any.

    Taking it out costs as much as adding up SMALL numbers.
    """
    return output if output.numel() <= SMALL else output.select(-2, -1)


def _needs_gradients(request: Request) -> bool:
    return torch.is_grad_enabled() and (
        request.query.requires_grad or request.key.requires_grad or request.value.requires_grad
    )
