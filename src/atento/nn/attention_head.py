"""AttentionHead: one head, from its input to its context."""

from typing import Any

from atento.nn.projected_attention import ProjectedAttention

__all__ = ["AttentionHead"]


class AttentionHead(ProjectedAttention):
    """One attention head with trainable projections.

    ``Q = x W_query``, ``K = x W_key``, ``V = x W_value``;
    ``output = softmax(mask(softcap(Q Kᵀ · scale) + bias)) V``.

    Args:
        d_model: features of query_in.
        head_dim: features of queries and keys.
        kdim, vdim: features of key_in (d_model when left out) and value_in (kdim).
        value_dim: features of the values, and so of the output; head_dim when left out.
        bias: whether the projections add one.
        mask, position, dropout, scale, softcap, sinks, qk_norm, gate, engine: as in
            `MultiHeadAttention`.
        device, dtype: of the parameters.

    Shapes: query_in (..., query, d_model) -> output (..., query, value_dim), weights
    (..., query, key); there is no head axis.

    ``state_dict``: ``query.weight``, ``key.weight``, ``value.weight`` and their ``.bias``;
    ``gate.weight``, ``query_norm.…``, ``key_norm.…``, ``sinks`` where there are such.

    Raises:
        ShapeError, DTypeError, InputError: what was expected, what came, and what to do.

    Source: Vaswani et al. 2017 (arXiv 1706.03762), section 3.2.

    >>> import torch
    >>> AttentionHead(d_model=5, head_dim=3)(torch.ones(2, 7, 5)).shape
    torch.Size([2, 7, 3])
    """

    def __init__(
        self,
        d_model: int,
        head_dim: int,
        *,
        kdim: int | None = None,
        vdim: int | None = None,
        value_dim: int | None = None,
        bias: bool = True,
        mask: Any = None,
        position: Any = None,
        dropout: float = 0.0,
        scale: float | None = None,
        softcap: float | None = None,
        sinks: bool = False,
        qk_norm: str | None = None,
        gate: bool = False,
        engine: str = "auto",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            d_model,
            1,
            num_kv_heads=None,
            head_dim=head_dim,
            kdim=kdim,
            vdim=vdim,
            value_head_dim=value_dim,
            d_out=None,
            bias=bias,
            output_bias=False,
            mask=mask,
            position=position,
            dropout=dropout,
            scale=scale,
            softcap=softcap,
            sinks=sinks,
            qk_norm=qk_norm,
            gate=gate,
            engine=engine,
            device=device,
            dtype=dtype,
        )
