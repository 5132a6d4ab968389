"""Output and weights together, where no gradient is asked for: one matrix, written in place.

The formula makes a new T×T array at every step; where memory is what takes the time, one array that
passes from scores to weights takes half of it.
"""

from math import isfinite

import torch

from atento.equation.computed import Computed
from atento.equation.dense import dense, dense_mask
from atento.equation.request import Request

__all__ = ["fits_in_place", "in_place"]


def fits_in_place(request: Request) -> bool:
    """Whether a request is the plain equation, or it with a mask, and nothing needs gradients."""
    tensors = (request.query, request.key, request.value)
    return not (
        request.opaque
        or request.softcap is not None
        or request.bias is not None
        or request.sinks is not None
        or request.dropout
        or request.group > 1
        or request.query.dtype != request.compute_dtype
        or 0 in request.weights_shape
        or (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors))
    )


def in_place(request: Request) -> Computed:
    """softmax(mask(Q Kᵀ · scale)) and its product with V."""
    weights = torch.matmul(request.query * request.scale, request.key.mT)
    visible = dense_mask(request)
    if visible is not None:
        weights += 1 - visible.to(weights.dtype).reciprocal_()  # 0 or −inf
    torch.softmax(weights, -1, out=weights)
    if visible is not None:
        empty = ~visible.any(-1, keepdim=True)
        if empty.any():  # the softmax of nothing but −inf is NaN
            weights.masked_fill_(empty, 0)
    output = torch.matmul(weights, request.value)
    if visible is not None and not isfinite(float(output.sum())):
        return dense(request, with_weights=True)  # 0 · NaN behind the mask
    return Computed(output, weights=weights)
