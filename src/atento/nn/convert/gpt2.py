"""To and from GPT-2's attention: one fused projection, whose weight is stored as (in, out)."""

from collections.abc import Mapping
from typing import Any, overload

import torch
from torch import Tensor, nn

from atento._errors import InputError
from atento.masks import Causal
from atento.nn.convert.layers import L, Layer, check_kind, write
from atento.nn.convert.projections import (
    built,
    check_ours,
    full_projections,
    lacking,
    other_sizes,
    refuse,
)
from atento.nn.multi_head_attention import MultiHeadAttention

__all__ = ["from_gpt2", "to_gpt2"]

KINDS = ("GPT2Attention",)
PEER = "GPT-2's attention"
BUFFERS = ("bias", "masked_bias")  # the causal mask, in checkpoints of older releases


def from_gpt2(
    layer: nn.Module | Mapping[str, Tensor],
    config: Any = None,
    *,
    prefix: str = "",
    layer_idx: int | None = None,
) -> MultiHeadAttention:
    """The `MultiHeadAttention` that computes what a GPT2Attention of transformers does.

    It is causal; of a cross-attention (``is_cross_attention=True``) it is not, and takes the
    encoder's states as ``key_in``. Included: the projections, dropout of the weights
    (``attn_pdrop``), ``scale_attn_weights`` and ``scale_attn_by_inverse_layer_idx``. Not included:
    LayerNorm, residual sum, and the dropout of the output (``resid_pdrop``).

    Args:
        layer: the live layer, as in ``model.transformer.h[3].attn``, or a state dict.
        config: of the model, where layer is a state dict.
        prefix: what the names in the state dict begin with, as "transformer.h.3.attn.".
        layer_idx: where the state dict's layer stands, if the config scales by it.

    Raises:
        InputError, DTypeError: for another kind of layer, or names that are missing or unknown.

    Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners".

    >>> ours = MultiHeadAttention(6, 2, mask=Causal())
    >>> config = {"model_type": "gpt2", "n_head": 2, "attn_pdrop": 0.0}
    >>> x = torch.ones(1, 5, 6)
    >>> torch.allclose(from_gpt2(to_gpt2(ours), config)(x), ours(x))
    True
    """
    cross = isinstance(layer, nn.Module) and hasattr(layer, "q_attn")
    cross = cross or (isinstance(layer, Mapping) and f"{prefix}q_attn.weight" in layer)
    read = Layer(
        "from_gpt2",
        layer,
        config,
        prefix,
        kinds=KINDS,
        model_type="gpt2",
        projections=("c_attn", "c_proj", *(["q_attn"] if cross else [])),
        ignored=BUFFERS,
    )
    fused = read.projection("c_attn", transposed=True)
    size, num_heads = fused.weight.shape[1], int(read.setting("n_head"))
    if cross:
        query = read.projection("q_attn", transposed=True)
        key, value = fused.rows(0, size), fused.rows(size, 2 * size)
    else:
        query, key, value = (fused.rows(i * size, (i + 1) * size) for i in range(3))
    standard = (size // num_heads) ** -0.5
    if isinstance(layer, nn.Module):
        scale, dropout = float(layer.scaling), float(layer.attn_dropout.p)  # type: ignore[arg-type, union-attr]
    else:
        scale = _scale(read, standard, layer_idx)
        dropout = float(read.setting("attn_pdrop", 0.1))
    return built(
        query,
        key,
        value,
        read.projection("c_proj", transposed=True),
        num_heads=num_heads,
        mask=None if cross else Causal(),
        scale=None if scale == standard else scale,
        dropout=dropout,
        training=layer.training if isinstance(layer, nn.Module) else True,
    )


@overload
def to_gpt2(module: MultiHeadAttention) -> dict[str, Tensor]: ...


@overload
def to_gpt2(module: MultiHeadAttention, layer: L) -> L: ...


def to_gpt2(module: MultiHeadAttention, layer: Any = None) -> Any:
    """A GPT2Attention of transformers that computes what this module does.

    Without a layer: the tensors, by the names of a GPT2Attention's ``state_dict``. With one, as in
    ``model.transformer.h[3].attn``: its parameters are overwritten, and it is returned; its dtype,
    device, dropouts, and which of its parameters are trained stay.

    Shared key heads are repeated, one for every query head; a bias that is missing is 0.

    Args:
        module: what is converted.
        layer: a layer of transformers whose parameters are overwritten; None: tensors are returned.

    Raises:
        InputError: saying all that GPT-2's attention cannot compute.
        ShapeError, DTypeError: for a layer of other sizes, or of another kind.

    >>> tensors = to_gpt2(MultiHeadAttention(6, 2, mask=Causal()))
    >>> {name: tuple(tensor.shape) for name, tensor in tensors.items() if "weight" in name}
    {'c_attn.weight': (6, 18), 'c_proj.weight': (6, 6)}
    """
    check_ours("to_gpt2", module)
    cross = False
    scale, num_heads = module.head_dim**-0.5, module.num_heads
    if layer is not None:
        check_kind("to_gpt2", layer, KINDS)
        cross = layer.is_cross_attention
        scale, num_heads = float(layer.scaling), layer.num_heads
    reasons = lacking(module, peer=PEER, scale=scale, causal=not cross)
    reasons += other_sizes(module, peer=PEER, num_heads=num_heads)
    refuse("to_gpt2", reasons)
    query, key, value, output = full_projections("to_gpt2", module)
    fused = [key, value] if cross else [query, key, value]
    tensors = {
        "c_attn.weight": torch.cat([part.weight for part in fused]).mT.contiguous(),
        "c_attn.bias": torch.cat([part.bias_or_zeros() for part in fused]),
        "c_proj.weight": output.weight.mT.clone(memory_format=torch.contiguous_format),
        "c_proj.bias": output.bias_or_zeros().clone(),
    }
    if cross:
        tensors["q_attn.weight"] = query.weight.mT.clone(memory_format=torch.contiguous_format)
        tensors["q_attn.bias"] = query.bias_or_zeros().clone()
    if layer is None:
        return tensors
    write("to_gpt2", layer, tensors)
    return layer


def _scale(read: Layer, standard: float, layer_idx: int | None) -> float:
    """What the layer of a state dict multiplies its scores by."""
    scale = standard if read.setting("scale_attn_weights", True) else 1.0
    if not read.setting("scale_attn_by_inverse_layer_idx", False):
        return scale
    if layer_idx is None:
        raise InputError(
            "from_gpt2: this config divides the scores by the layer's number "
            "(scale_attn_by_inverse_layer_idx): say layer_idx= too, from 0 on."
        )
    return scale / (layer_idx + 1)
