"""Backward of backward: through the equation itself, which autograd can differentiate twice."""

from collections.abc import Sequence
from typing import Any

import torch

__all__ = ["differentiable_gradients"]


def differentiable_gradients(
    made: Sequence[torch.Tensor],
    grads: Sequence[torch.Tensor | None],
    inputs: Sequence[Any],
    wanted: Sequence[bool],
) -> tuple[torch.Tensor | None, ...]:
    """The gradients of the wanted inputs, as part of the graph, None for the others.

    Args:
        made: what the dense engine made of the inputs.
        grads: the gradients of these; None where nothing asked for one.
        inputs: the request's tensors.
        wanted: which of the inputs need a gradient.
    """
    asked = [(value, grad) for value, grad in zip(made, grads, strict=True) if grad is not None]
    found = iter(
        torch.autograd.grad(
            [value for value, _ in asked],
            [tensor for tensor, want in zip(inputs, wanted, strict=True) if want],
            [grad for _, grad in asked],
            create_graph=True,
            allow_unused=True,
        )
    )
    return tuple(next(found) if want else None for want in wanted)
