"""SimplifiedSelfAttention: attention before anything is learned."""

from typing import Any

from torch import Tensor, nn

from atento.nn.checks import check_input, check_keywords
from atento.nn.recorder import SILENT, Recorder, Silent
from atento.records import Trace

__all__ = ["SimplifiedSelfAttention"]


class SimplifiedSelfAttention(nn.Module):
    """Self-attention without parameters: ``softmax(x xᵀ) x``.

    Tokens are queries, keys and values as they are, and scores are not scaled: the first step
    towards attention, where every number can be checked by hand.

    Shapes: x (token, feature) or (batch, token, feature) -> the same.

    ``state_dict``: empty.

    Source: S. Raschka, "Build a Large Language Model (From Scratch)", section 3.3.

    >>> import torch
    >>> SimplifiedSelfAttention()(torch.eye(2)).round(decimals=4)
    tensor([[0.7311, 0.2689],
            [0.2689, 0.7311]])
    """

    def forward(
        self, x: Tensor, *, mask: Any = None, return_weights: bool = False, **unknown: Any
    ) -> Any:
        """The contexts of all tokens, or (contexts, weights) with ``return_weights``."""
        return self._attend(SILENT, x, mask=mask, return_weights=return_weights, **unknown)

    def trace(self, x: Tensor, *, mask: Any = None, **unknown: Any) -> Trace:
        """`forward`, with every step kept."""
        r = Recorder()
        self._attend(r, x, mask=mask, **unknown)
        return r.trace()

    def _attend(
        self,
        r: Silent,
        x: Tensor,
        *,
        mask: Any = None,
        return_weights: bool = False,
        **unknown: Any,
    ) -> Any:
        check_keywords(type(self).__name__, unknown)
        check_input(type(self).__name__, "x", x, x.shape[-1] if x.ndim else 1, None)
        alone = x.unsqueeze(-3)  # (..., head, token, feature)
        return r.attend(
            alone, alone, alone, mask=mask, scale=1.0, one_head=True, return_weights=return_weights
        )
