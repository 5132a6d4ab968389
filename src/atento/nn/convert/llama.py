"""To and from Llama's attention: rotary positions and shared key heads, no masks but causality."""

from collections.abc import Mapping
from typing import Any, overload

from torch import Tensor, nn

from atento.masks import Causal
from atento.nn.convert.layers import L, Layer, check_kind, write
from atento.nn.convert.projections import (
    built,
    check_ours,
    lacking,
    other_sizes,
    own_projections,
    refuse,
)
from atento.nn.convert.rotary_settings import rotary_of
from atento.nn.multi_head_attention import MultiHeadAttention
from atento.positions import Rotary

__all__ = ["from_llama", "to_llama"]

KINDS = ("LlamaAttention",)
NAMES = ("q_proj", "k_proj", "v_proj", "o_proj")


def from_llama(
    layer: nn.Module | Mapping[str, Tensor], config: Any = None, *, prefix: str = ""
) -> MultiHeadAttention:
    """The `MultiHeadAttention` that computes what a LlamaAttention of transformers does.

    It is causal, and rotates queries and keys by their places in the sequence: `Rotary` with the
    base and the scaling (linear, dynamic, yarn, llama3) of the config. Included: the projections,
    shared key heads, dropout of the weights. Not included: RMSNorm and residual sum.

    Args:
        layer: the live layer, as in ``model.layers[3].self_attn``, or a state dict.
        config: of the model, where layer is a state dict.
        prefix: what the names in the state dict begin with, as "model.layers.3.self_attn.".

    Raises:
        InputError, DTypeError: for another kind of layer, names that are missing or unknown, or a
            rotary scaling that we do not have.

    Source: Touvron et al. 2023 (arXiv 2302.13971), section 2.2.

    >>> import torch
    >>> ours = MultiHeadAttention(8, 2, num_kv_heads=1, mask=Causal(), position=Rotary())
    >>> config = {"num_attention_heads": 2, "rope_parameters": {"rope_theta": 10000.0}}
    >>> x = torch.ones(1, 5, 8)
    >>> torch.allclose(from_llama(to_llama(ours), config)(x), ours(x))
    True
    """
    read = Layer(
        "from_llama",
        layer,
        config,
        prefix,
        kinds=KINDS,
        model_type="llama",
        projections=NAMES,
        ignored=("rotary_emb.",),
    )
    query, key, value, output = (read.projection(name) for name in NAMES)
    num_heads = int(read.setting("num_attention_heads"))
    head_dim = query.weight.shape[0] // num_heads
    scale, training = head_dim**-0.5, True
    dropout = float(read.setting("attention_dropout", 0.0))
    if isinstance(layer, nn.Module):
        scale, training = float(layer.scaling), layer.training  # type: ignore[arg-type]
        dropout = float(layer.attention_dropout)  # type: ignore[arg-type]
    return built(
        query,
        key,
        value,
        output,
        num_heads=num_heads,
        num_kv_heads=key.weight.shape[0] // head_dim,
        head_dim=head_dim,
        mask=Causal(),
        position=rotary_of("from_llama", read.setting, head_dim),
        scale=None if scale == head_dim**-0.5 else scale,
        dropout=dropout,
        training=training,
    )


@overload
def to_llama(module: MultiHeadAttention) -> dict[str, Tensor]: ...


@overload
def to_llama(module: MultiHeadAttention, layer: L) -> L: ...


def to_llama(module: MultiHeadAttention, layer: Any = None) -> Any:
    """A LlamaAttention of transformers that computes what this module does.

    Without a layer: the tensors, by the names of a LlamaAttention's ``state_dict``; the config
    that goes with them has this module's heads and rotary parameters. With one, as in
    ``model.layers[3].self_attn``: its parameters are overwritten, and it is returned; its dtype,
    device, dropout, and which of its parameters are trained stay. A bias that is missing is 0.

    Args:
        module: what is converted.
        layer: a layer of transformers whose parameters are overwritten; None: tensors are returned.

    Raises:
        InputError: saying all that this layer cannot compute; positions among them, which come
            from its config.
        ShapeError, DTypeError: for a layer of other sizes, or of another kind.

    >>> tensors = to_llama(MultiHeadAttention(8, 2, mask=Causal(), position=Rotary(), bias=False))
    >>> list(tensors)
    ['q_proj.weight', 'k_proj.weight', 'v_proj.weight', 'o_proj.weight']
    """
    check_ours("to_llama", module)
    num_heads, num_kv_heads = module.num_heads, module.num_kv_heads
    head_dim, position, peer = module.head_dim, module.position, "Llama's attention"
    scale = head_dim**-0.5
    reasons = []
    if layer is not None:
        check_kind("to_llama", layer, KINDS)
        read = Layer(
            "to_llama", layer, None, "", kinds=KINDS, model_type="llama", projections=NAMES
        )
        peer = "this LlamaAttention"
        num_heads = read.setting("num_attention_heads")
        num_kv_heads = read.setting("num_key_value_heads", num_heads)
        head_dim, scale = layer.head_dim, float(layer.scaling)
        position = rotary_of("to_llama", read.setting, head_dim)
    elif not isinstance(position, Rotary):
        reasons.append(f"{peer} rotates queries and keys, and this module's position is {position}")
    reasons += lacking(module, peer=peer, scale=scale, causal=True, position=position)
    reasons += other_sizes(
        module, peer=peer, num_heads=num_heads, num_kv_heads=num_kv_heads, head_dim=head_dim
    )
    parts = dict(zip(NAMES, own_projections("to_llama", module), strict=True))
    biased = any(part.bias is not None for part in parts.values())
    if layer is not None:
        if biased and layer.q_proj.bias is None:
            reasons.append(f"{peer} has no biases (attention_bias=False), and this module has")
        biased = layer.q_proj.bias is not None
    refuse("to_llama", reasons)
    tensors = {f"{name}.weight": part.weight.clone() for name, part in parts.items()}
    if biased:
        tensors |= {f"{name}.bias": part.bias_or_zeros().clone() for name, part in parts.items()}
    if layer is None:
        return tensors
    write("to_llama", layer, tensors)
    return layer
