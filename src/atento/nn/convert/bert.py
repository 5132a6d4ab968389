"""To and from BERT's attention: three projections in one module, the fourth in the next."""

from collections.abc import Mapping
from typing import Any, overload

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

__all__ = ["from_bert", "to_bert"]

KINDS = ("BertAttention",)
PEER = "BERT's attention"
NAMES = ("self.query", "self.key", "self.value", "output.dense")


def from_bert(
    layer: nn.Module | Mapping[str, Tensor], config: Any = None, *, prefix: str = ""
) -> MultiHeadAttention:
    """The `MultiHeadAttention` that is within a BertAttention of transformers.

    A BertAttention is ``LayerNorm(dropout(attention(x)) + x)``. Included is ``attention``: its
    BertSelfAttention (or BertCrossAttention: the encoder's states are then ``key_in``) and
    ``output.dense`` of its BertSelfOutput, and dropout of the weights. Not included: the LayerNorm,
    the residual sum, and the dropout of the output (``hidden_dropout_prob``).

    Every query sees every key, but for a decoder's (``is_decoder``), which is causal. Padding goes
    in at each call, as in ``module(x, mask=KeyPadding(attention_mask != 0))``.

    Args:
        layer: the live layer, as in ``model.encoder.layer[3].attention``, or a state dict.
        config: of the model, where layer is a state dict.
        prefix: what the names in the state dict begin with, as "encoder.layer.3.attention.", or
            "encoder.layer.3.crossattention." (that name says that it is one).

    Raises:
        InputError, DTypeError: for another kind of layer, or names that are missing or unknown.

    Source: Devlin et al. 2018 (arXiv 1810.04805).

    >>> import torch
    >>> ours = MultiHeadAttention(6, 2)
    >>> config = {"num_attention_heads": 2, "attention_probs_dropout_prob": 0.0}
    >>> x = torch.ones(1, 5, 6)
    >>> torch.allclose(from_bert(to_bert(ours), config)(x), ours(x))
    True
    """
    read = Layer(
        "from_bert",
        layer,
        config,
        prefix,
        kinds=KINDS,
        model_type="bert",
        projections=NAMES,
        ignored=("output.LayerNorm.",),
    )
    kind = read.setting("position_embedding_type", "absolute")
    if kind != "absolute":
        raise InputError(
            f"from_bert: this config adds {kind!r} positions to the scores "
            "(position_embedding_type), which MultiHeadAttention does not."
        )
    query, key, value, output = (read.projection(name) for name in NAMES)
    dropout = float(read.setting("attention_probs_dropout_prob", 0.1))
    cross = "crossattention" in prefix
    causal, training = bool(read.setting("is_decoder", False)) and not cross, True
    if isinstance(layer, nn.Module):
        dropout, training = float(layer.self.dropout.p), layer.training  # type: ignore[arg-type, union-attr]
        causal = _is_causal(layer)
    return built(
        query,
        key,
        value,
        output,
        num_heads=int(read.setting("num_attention_heads")),
        mask=Causal() if causal else None,
        dropout=dropout,
        training=training,
    )


@overload
def to_bert(module: MultiHeadAttention) -> dict[str, Tensor]: ...


@overload
def to_bert(module: MultiHeadAttention, layer: L) -> L: ...


def to_bert(module: MultiHeadAttention, layer: Any = None) -> Any:
    """The attention within a BertAttention of transformers, as `from_bert` reads it.

    Without a layer: the tensors, by the names of a BertAttention's ``state_dict`` (LayerNorm is not
    among them). With one, as in ``model.encoder.layer[3].attention``: these parameters are
    overwritten, and it is returned; its LayerNorm, dtype, device, dropouts, and which of its
    parameters are trained stay.

    Shared key heads are repeated, one for every query head; a bias that is missing is 0.

    Args:
        module: what is converted.
        layer: a layer of transformers whose parameters are overwritten; None: tensors are returned.

    Raises:
        InputError: saying all that BERT's attention cannot compute.
        ShapeError, DTypeError: for a layer of other sizes, or of another kind.

    >>> list(to_bert(MultiHeadAttention(6, 2)))[:3]
    ['self.query.weight', 'self.query.bias', 'self.key.weight']
    """
    check_ours("to_bert", module)
    num_heads, causal = module.num_heads, False
    if layer is not None:
        check_kind("to_bert", layer, KINDS)
        num_heads, causal = layer.self.num_attention_heads, _is_causal(layer)
    reasons = lacking(module, peer=PEER, scale=module.head_dim**-0.5, causal=causal)
    reasons += other_sizes(module, peer=PEER, num_heads=num_heads)
    refuse("to_bert", reasons)
    tensors = {}
    for name, part in zip(NAMES, full_projections("to_bert", module), strict=True):
        tensors[f"{name}.weight"] = part.weight.clone()
        tensors[f"{name}.bias"] = part.bias_or_zeros().clone()
    if layer is None:
        return tensors
    write("to_bert", layer, tensors)
    return layer


def _is_causal(layer: Any) -> bool:
    """A decoder's self-attention: its model masks what lies ahead."""
    return bool(getattr(layer.self, "is_decoder", False) or layer.self.is_causal)
