"""The functions of torch that attention is computed with, by name, and who reads each."""

from collections.abc import Callable
from typing import Any

from atento.reading.ways.functional import attend, attend_in_heads
from atento.reading.ways.scores import STEPS, write
from atento.reading.ways.written_out import normalise

__all__ = ["WAYS"]

Way = Callable[[Any, Any, tuple[Any, ...], dict[str, Any]], Any]

WAYS: dict[str, Way] = {
    "scaled_dot_product_attention": attend,
    "multi_head_attention_forward": attend_in_heads,
    "softmax": normalise,
    **dict.fromkeys(STEPS, write),
}
"""By ``__name__``: a function of torch, of torch.nn.functional and a tensor's method share one."""
