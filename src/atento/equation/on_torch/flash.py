"""Torch's own CPU kernel on one piece of the weights, and how pieces become one.

The kernel returns the log-sum-exp beside the output, so that pieces of a row can be joined. Its
backward takes output and log-sum-exp as arguments: given those of the whole row it returns just
that piece's part of the gradients (Dao et al. 2022, arXiv 2205.14135, appendix B.2).
"""

import torch

from atento.equation.on_torch.layout import four_axes, ones_where, penalty
from atento.equation.schedule import Piece

__all__ = ["additive", "backward_piece", "forward_piece", "join", "pad_features"]

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def forward_piece(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scale: float,
    added: torch.Tensor | None,
    causal: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output and log-sum-exp (batch, head, query) of a piece; −inf where a row is empty."""
    if added is None:
        made = _forward(query, key, value, 0.0, causal, scale=scale)
        return made[0], made[1]
    everywhere = added.expand(*query.shape[:-1], key.shape[-2])
    output, lse = _forward(query, key, value, 0.0, causal, attn_mask=everywhere, scale=scale)
    return output, _without_empty_rows(lse, everywhere)


def _without_empty_rows(lse: torch.Tensor, added: torch.Tensor) -> torch.Tensor:
    """−∞ for a row that sees no key, where the kernel says 0.

    Without a 0 nothing is looked at: a bias may be as large as the weights.
    """
    zero = lse == 0
    if not zero.any():
        return lse
    return torch.where(zero & (added.amax(-1) == -torch.inf), -torch.inf, lse)


def backward_piece(
    grad: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    output: torch.Tensor,
    lse: torch.Tensor,
    scale: float,
    added: torch.Tensor | None,
    causal: bool = False,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A piece's part of the gradients of query, key and value."""
    if added is not None:
        added = added.expand(*query.shape[:-1], key.shape[-2])
    made = _backward(
        grad, query, key, value, output, lse, 0.0, causal, attn_mask=added, scale=scale
    )
    return made[0], made[1], made[2]


def join(
    output: torch.Tensor, lse: torch.Tensor, more: torch.Tensor, more_lse: torch.Tensor
) -> None:
    """Add a piece to what its rows have so far, in place: weights are relative to both sums."""
    top = torch.logaddexp(lse, more_lse)
    shift = torch.where(top == -torch.inf, 0, top)
    output.mul_((lse - shift).exp_()[..., None])
    output.add_(more * (more_lse - shift).exp_()[..., None])
    lse.copy_(top)


def additive(piece: Piece, bias: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor | None:
    """What is added to a piece's scores: the bias, and −inf where a key may not be seen."""
    if piece.visible is None:
        return bias
    added = penalty(ones_where(piece.visible, like))
    return four_axes(added) if bias is None else bias + added


def pad_features(array: torch.Tensor, features: int) -> torch.Tensor:
    """The array with zeros as further features: they change no product."""
    missing = features - array.shape[-1]
    return torch.nn.functional.pad(array, (0, missing)) if missing else array
