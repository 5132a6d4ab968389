"""MultiHeadAttention: several heads side by side, and their contexts projected together."""

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import nn

from atento._errors import InputError
from atento.nn.attention_head import AttentionHead
from atento.nn.one_of_heads import (
    head_of_mask,
    head_of_position,
    mask_of_heads,
    position_of_heads,
)
from atento.nn.projected_attention import ProjectedAttention

__all__ = ["MultiHeadAttention"]

Loaded = TypeVar("Loaded", bound=nn.Module)


class MultiHeadAttention(ProjectedAttention):
    """Multi-head attention: built of heads in meaning, one projection each in fact.

    ``head_h = softmax(mask(softcap(Q_h K_hᵀ · scale) + bias_h)) V_h``,
    ``output = [head_0 … head_H−1] W_output``, where head h has its own columns of
    ``Q = query_in W_query``, ``K = key_in W_key`` and ``V = value_in W_value``.

    Args:
        d_model: features of query_in.
        num_heads: query heads.
        num_kv_heads: heads of keys and values, each shared by consecutive query heads; as many as
            query heads when left out. (Ainslie et al. 2023, arXiv 2305.13245.)
        head_dim: features of a head's queries and keys; d_model / num_heads when left out.
        kdim, vdim: features of key_in (d_model when left out) and value_in (kdim).
        value_head_dim: features of a head's values; head_dim when left out.
        d_out: features of the output; d_model when left out.
        bias: whether the projections of queries, keys and values add one.
        output_bias: whether the output projection adds one; as bias when left out.
        mask: who may look at whom in every call, True = attends: a rule of `atento.masks` or a
            bool array. A call can give another: both must allow.
        position: one of `atento.positions` or of this room: rotations of queries and keys
            (``Rotary``), biases on the scores (``Alibi``, ``RelativePositionBias``), or vectors
            added to the input (``Sinusoidal``, ``LearnedPositions``).
        dropout: the probability with which a weight is set to 0, in training only. The seed comes
            from torch's generator.
        scale: multiplies Q Kᵀ; 1/√head_dim when left out.
        softcap: ``softcap · tanh(scores / softcap)`` (Gemma 2, arXiv 2408.00118, section 2).
        sinks: one learned number per head whose exponential joins the softmax's denominator. They
            start at 0. (gpt-oss; Xiao et al. 2023, arXiv 2309.17453.)
        qk_norm: "rms" or "layer": queries and keys are normalised over each head's features, with
            learned weights, before they are rotated.
        gate: contexts are multiplied by ``sigmoid(query_in W_gate)``, feature by feature, before
            the output projection (Qiu et al. 2025, arXiv 2505.06708: after the weighted sum,
            elementwise, each head its own).
        engine: of `atento.attention`.
        device, dtype: of the parameters.

    Shapes: query_in (..., query, d_model), key_in (..., key, kdim), value_in (..., key, vdim) ->
    (..., query, d_out), where ... is nothing or a batch axis.

    ``state_dict``: ``query.weight`` (num_heads · head_dim, d_model), ``key.weight``
    (num_kv_heads · head_dim, kdim), ``value.weight`` (num_kv_heads · value_head_dim, vdim),
    ``output.weight`` (d_out, num_heads · value_head_dim), their ``.bias``; with gate,
    ``gate.weight``; with qk_norm, ``query_norm.weight`` and ``key_norm.weight`` (and ``.bias`` for
    "layer"); with sinks, ``sinks`` (num_heads,); ``position.…`` for positions that learn.
    Rows h · head_dim … (h + 1) · head_dim − 1 belong to head h.

    Raises:
        ShapeError, DTypeError, InputError: what was expected, what came, and what to do.

    Source: Vaswani et al. 2017 (arXiv 1706.03762), section 3.2.2.

    >>> import torch
    >>> from atento.masks import Causal
    >>> attention = MultiHeadAttention(d_model=16, num_heads=2, mask=Causal())
    >>> x = torch.ones(1, 5, 16)
    >>> attention(x).shape
    torch.Size([1, 5, 16])
    >>> attention(x, return_weights=True)[1].shape
    torch.Size([1, 2, 5, 5])
    >>> [step.name for step in attention.trace(x)][-4:]
    ['weights', 'contexts', 'concatenated', 'output']
    """

    output: nn.Linear

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        *,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        kdim: int | None = None,
        vdim: int | None = None,
        value_head_dim: int | None = None,
        d_out: int | None = None,
        bias: bool = True,
        output_bias: bool | None = None,
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
            num_heads,
            num_kv_heads=num_kv_heads,
            head_dim=head_dim,
            kdim=kdim,
            vdim=vdim,
            value_head_dim=value_head_dim,
            d_out=d_model if d_out is None else d_out,
            bias=bias,
            output_bias=bias if output_bias is None else output_bias,
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

    @classmethod
    def from_heads(
        cls, heads: Sequence[AttentionHead], output: nn.Linear | None = None
    ) -> "MultiHeadAttention":
        """The module that computes these heads side by side.

        Args:
            heads: alike in sizes and options; their weights are copied.
            output: what projects the concatenated contexts, copied; None: they are the output as
                they are (the projection is the identity, without bias).

        Raises:
            InputError: for no heads, or heads that differ in more than their weights.

        >>> heads = [AttentionHead(5, 3), AttentionHead(5, 3)]
        >>> MultiHeadAttention.from_heads(heads)(torch.ones(7, 5)).shape
        torch.Size([7, 6])
        """
        alike = _what_is_alike(heads)
        first, weight = heads[0], heads[0].query.weight
        contexts = len(heads) * first.value_head_dim
        joined = MultiHeadAttention(
            num_heads=len(heads),
            d_out=contexts if output is None else output.out_features,
            output_bias=output is not None and output.bias is not None,
            mask=mask_of_heads([head.mask for head in heads]),
            position=position_of_heads([head.position for head in heads]),
            device=weight.device,
            dtype=weight.dtype,
            **alike,
        )
        state = {
            name: torch.cat([head.state_dict()[name] for head in heads])
            for name in first.state_dict()
            if name.startswith(OF_EACH_HEAD)
        }
        for name in first.state_dict():
            if name.startswith(("query_norm.", "key_norm.")):
                state[name] = _one_for_all(name, [head.state_dict()[name] for head in heads])
        if output is None:
            eye = torch.eye(contexts, device=weight.device, dtype=weight.dtype)
            state["output.weight"] = eye
        else:
            state |= {f"output.{name}": tensor for name, tensor in output.state_dict().items()}
        return _loaded(joined, state)

    @classmethod
    def from_torch(cls, module: nn.MultiheadAttention) -> "MultiHeadAttention":
        """The module that computes what an nn.MultiheadAttention does: `atento.nn.convert`.

        >>> theirs = nn.MultiheadAttention(6, 2, batch_first=True)
        >>> x = torch.ones(1, 5, 6)
        >>> torch.allclose(MultiHeadAttention.from_torch(theirs)(x), theirs(x, x, x)[0], atol=1e-6)
        True
        """
        from atento.nn.convert import from_torch

        return from_torch(module)

    def to_torch(self, *, batch_first: bool = True) -> nn.MultiheadAttention:
        """The nn.MultiheadAttention that computes what this does: `atento.nn.convert`."""
        from atento.nn.convert import to_torch

        return to_torch(self, batch_first=batch_first)

    def head(self, index: int) -> AttentionHead:
        """One of the heads, with copies of its weights.

        The module is the sum of its heads, each through its own columns of the output projection:
        ``output = Σ_h head_h(x) W_output[:, h · value_head_dim : (h + 1) · value_head_dim]ᵀ + b``.

        Args:
            index: which query head, from 0 on.

        Raises:
            InputError: when there is no such head.

        >>> MultiHeadAttention(6, 3).head(2)(torch.ones(7, 6)).shape
        torch.Size([7, 2])
        """
        if isinstance(index, bool) or not hasattr(index, "__index__"):
            raise InputError(f"head takes a whole number; got {index!r}.")
        if not 0 <= index < self.num_heads:
            raise InputError(f"there are heads from 0 to {self.num_heads - 1}; got {index}.")
        weight = self.query.weight
        head = AttentionHead(
            mask=head_of_mask(self.mask, self.num_heads, index),
            position=head_of_position(self.position, self.num_heads, index),
            value_dim=self.value_head_dim,
            device=weight.device,
            dtype=weight.dtype,
            **{name: value for name, value in _alike(self).items() if name != "value_head_dim"},
        )
        shared = index // (self.num_heads // self.num_kv_heads)
        rows = {
            "query.": _rows(index, self.head_dim),
            "key.": _rows(shared, self.head_dim),
            "value.": _rows(shared, self.value_head_dim),
            "gate.": _rows(index, self.value_head_dim),
            "sinks": _rows(index, 1),
            "query_norm.": slice(None),
            "key_norm.": slice(None),
        }
        state = {
            name: tensor[where]
            for name, tensor in self.state_dict().items()
            for start, where in rows.items()
            if name.startswith(start)
        }
        return _loaded(head, state)


OF_EACH_HEAD = ("query.", "key.", "value.", "gate.", "sinks")
"""What a head has of its own in a state_dict: rows of the joined module's."""


def _alike(module: ProjectedAttention) -> dict[str, Any]:
    """The arguments that a module shares with its heads."""
    return {
        "d_model": module.d_model,
        "head_dim": module.head_dim,
        "kdim": module.kdim,
        "vdim": module.vdim,
        "value_head_dim": module.value_head_dim,
        "bias": module.query.bias is not None,
        "dropout": module.dropout,
        "scale": module.scale,
        "softcap": module.softcap,
        "sinks": module.sinks is not None,
        "qk_norm": module.qk_norm,
        "gate": module.gate is not None,
        "engine": module.engine,
    }


def _what_is_alike(heads: Sequence[AttentionHead]) -> dict[str, Any]:
    """The arguments that all the heads share.

    Raises:
        InputError: for no heads, no AttentionHead, or the first argument in which they differ.
    """
    if not heads:
        raise InputError("from_heads needs at least one AttentionHead; got none.")
    for head in heads:
        if not isinstance(head, AttentionHead):
            raise InputError(f"from_heads joins AttentionHeads; got {type(head).__name__}.")
    first = _alike(heads[0])
    for index, head in enumerate(heads):
        for name, value in _alike(head).items():
            if value != first[name]:
                raise InputError(
                    f"from_heads joins heads that are alike: head 0 has {name}={first[name]!r} "
                    f"and head {index} {name}={value!r}."
                )
    return first


def _one_for_all(name: str, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """The tensor that all heads share.

    Raises:
        InputError: when they differ.
    """
    if any(not torch.equal(tensor, tensors[0]) for tensor in tensors):
        raise InputError(
            f"the joined module normalises all heads with one {name}, and these heads have "
            "different ones."
        )
    return tensors[0]


def _rows(index: int, size: int) -> slice:
    return slice(index * size, (index + 1) * size)


def _loaded(module: Loaded, state: dict[str, torch.Tensor]) -> Loaded:
    """The module with these weights; positions that learn came with the module itself."""
    learned = {
        name: tensor for name, tensor in module.state_dict().items() if name.startswith("position.")
    }
    module.load_state_dict(learned | state)
    return module
