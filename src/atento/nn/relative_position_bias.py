"""RelativePositionBias: a learned number for each head and each range of distances."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from atento.nn.checks import whole
from atento.positions import RelativeBias, relative_bias

__all__ = ["RelativePositionBias"]


class RelativePositionBias(nn.Module):
    """T5's relative positions: ``bias[h, i, j] = table[bucket(j − i), h]``, added to the scores.

    As ``position=`` of a module; several layers may share one, as in T5.

    Args:
        num_heads: query heads.
        num_buckets: ranges of distances; the nearer half are single distances, the farther half
            grow logarithmically.
        bidirectional: whether keys ahead have buckets of their own; False for a decoder.
        max_distance: all distances from here on share the last bucket.
        align: where query 0 stands when there are more or fewer queries than keys: ``"start"`` at
            key 0, ``"end"`` so that the last query stands at the last key.
        device, dtype: of the table.

    ``state_dict``: ``table`` (num_buckets, num_heads), which starts at 0: no bias at all.

    Source: Raffel et al. 2019 (arXiv 1910.10683), section 2.1.

    >>> RelativePositionBias(num_heads=3)(5).shape
    torch.Size([3, 5, 5])
    """

    def __init__(
        self,
        num_heads: int,
        num_buckets: int = 32,
        *,
        bidirectional: bool = True,
        max_distance: int = 128,
        align: Literal["start", "end"] | None = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.num_heads = whole("RelativePositionBias", "num_heads", num_heads)
        self.num_buckets = whole("RelativePositionBias", "num_buckets", num_buckets)
        self.bidirectional = bidirectional
        self.max_distance = max_distance
        self.align = align
        self.table = nn.Parameter(
            torch.zeros(self.num_buckets, self.num_heads, device=device, dtype=dtype)
        )
        self.rule()  # which refuses what does not fit together

    def reset_parameters(self) -> None:
        """Take all bias away again."""
        nn.init.zeros_(self.table)

    def forward(self, query_length: int, key_length: int | None = None) -> Tensor:
        """The bias of all pairs: (head, query, key)."""
        bias: Tensor = relative_bias(
            self.table,
            query_length,
            key_length,
            bidirectional=self.bidirectional,
            max_distance=self.max_distance,
            align=self.align,
        )
        return bias

    def rule(self) -> RelativeBias:
        """The bias as a rule of `atento.positions`, over this very table."""
        return RelativeBias(
            self.table,
            bidirectional=self.bidirectional,
            max_distance=self.max_distance,
            align=self.align,
        )

    def bind(self, shape: tuple[int, ...], xp: Any, device: Any, dtype: Any) -> Any:
        """The rule for weights of this shape: what `attention` asks of a bias rule."""
        return self.rule().bind(shape, xp, device, dtype)

    def aligned(self, align: Literal["start", "end"]) -> RelativeBias:
        """The rule with its alignment fixed where it is open: what a cache asks for."""
        return self.rule().aligned(align)

    def extra_repr(self) -> str:
        """The sizes and kind of the table."""
        return (
            f"{self.num_heads}, {self.num_buckets}, bidirectional={self.bidirectional}, "
            f"max_distance={self.max_distance}"
        )
