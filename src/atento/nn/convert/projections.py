"""What all conversions do: read projections, build a module of them, and give them back."""

from dataclasses import dataclass
from math import isclose, sqrt
from typing import Any

import torch
from torch import Tensor, nn

from atento._errors import DTypeError, InputError
from atento.masks import Causal
from atento.nn.multi_head_attention import MultiHeadAttention

__all__ = [
    "Projection",
    "built",
    "check_ours",
    "full_projections",
    "is_trained",
    "lacking",
    "other_sizes",
    "own_projection",
    "own_projections",
    "refuse",
]

LINEAR = ("Linear", "NonDynamicallyQuantizableLinear", "Conv1D")


@dataclass(frozen=True)
class Projection:
    """One projection ``x weightᵀ + bias``: (out, in) and (out,), and whether they are trained."""

    weight: Tensor
    bias: Tensor | None
    trained: tuple[bool, bool] = (True, True)

    def rows(self, start: int, stop: int) -> "Projection":
        """The projection onto the output features from start to stop."""
        bias = None if self.bias is None else self.bias[start:stop]
        return Projection(self.weight[start:stop], bias, self.trained)

    def bias_or_zeros(self) -> Tensor:
        """The bias; zeros, which compute the same, where there is none."""
        return self.weight.new_zeros(self.weight.shape[0]) if self.bias is None else self.bias


def is_trained(tensor: Tensor | None) -> bool:
    """Parameters say so themselves; what comes from a file is trained from now on."""
    return tensor.requires_grad if isinstance(tensor, nn.Parameter) else True


def own_projection(caller: str, name: str, layer: Any) -> Projection:
    """The projection of a live Linear (or of transformers' Conv1D, which is one transposed).

    Raises:
        InputError: for anything that does more than that, such as an adapter.
    """
    kind = type(layer)
    known = kind.__module__.startswith(("torch.nn.modules.", "transformers."))
    if not known or kind.__name__ not in LINEAR:
        raise InputError(
            f"{caller}: {name} is of class {kind.__name__}, and may compute more than its weight "
            "says. Merge adapters and undo quantisation or parametrisation first."
        )
    trained = (is_trained(layer.weight), is_trained(layer.bias))
    weight = layer.weight.detach()
    bias = None if layer.bias is None else layer.bias.detach()
    return Projection(weight.mT if kind.__name__ == "Conv1D" else weight, bias, trained)


def built(
    query: Projection,
    key: Projection,
    value: Projection,
    output: Projection,
    *,
    num_heads: int,
    training: bool = True,
    **options: Any,
) -> MultiHeadAttention:
    """The module of these projections, on their device and in their dtype; weights are copied."""
    # On meta nothing is drawn: a conversion leaves the generator of random numbers as it was.
    module = MultiHeadAttention(
        query.weight.shape[1],
        num_heads,
        kdim=key.weight.shape[1],
        vdim=value.weight.shape[1],
        d_out=output.weight.shape[0],
        bias=query.bias is not None,
        output_bias=output.bias is not None,
        device="meta",
        **options,
    )
    for name, made in (("query", query), ("key", key), ("value", value), ("output", output)):
        linear = getattr(module, name)
        linear.weight = _parameter(made.weight, made.trained[0])
        linear.bias = None if made.bias is None else _parameter(made.bias, made.trained[1])
    if module.sinks is not None:
        module.sinks = _parameter(query.weight.new_zeros(num_heads), trained=False)
    return module.train(training)


def _parameter(tensor: Tensor, trained: bool) -> nn.Parameter:
    return nn.Parameter(tensor.detach().clone(memory_format=torch.contiguous_format), trained)


def own_projections(caller: str, module: MultiHeadAttention) -> tuple[Projection, ...]:
    """The query, key, value and output projections of a module of ours, as they are."""
    names = ("query", "key", "value", "output")
    return tuple(own_projection(caller, name, getattr(module, name)) for name in names)


def full_projections(caller: str, module: MultiHeadAttention) -> tuple[Projection, ...]:
    """The same with shared key heads repeated, one for every query head: the same function."""
    query, key, value, output = own_projections(caller, module)
    key = _repeated(module, key, module.head_dim)
    value = _repeated(module, value, module.value_head_dim)
    return query, key, value, output


def _repeated(module: MultiHeadAttention, part: Projection, head_dim: int) -> Projection:
    group = module.num_heads // module.num_kv_heads
    if group == 1:
        return part
    # (kv head · feature, in) -> (kv head, feature, in) -> (query head · feature, in)
    weight = part.weight.reshape(module.num_kv_heads, head_dim, -1)
    weight = weight.repeat_interleave(group, 0).flatten(0, 1)
    bias = part.bias
    if bias is not None:
        bias = bias.reshape(module.num_kv_heads, head_dim).repeat_interleave(group, 0).flatten()
    return Projection(weight, bias, part.trained)


def lacking(
    module: Any,
    *,
    peer: str,
    scale: float,
    causal: bool = False,
    position: Any = None,
    zero_sinks: bool = False,
) -> list[str]:
    """What the module computes and the peer does not, each as a clause.

    Args:
        module: any of ours.
        peer: what its attention is called.
        scale: what the peer multiplies its scores by.
        causal: whether the peer is causal.
        position: what the peer rotates by.
        zero_sinks: whether the peer can have sinks fixed at 0.
    """
    found = []
    if causal and not isinstance(module.mask, Causal):
        found.append(f"{peer} is causal, and this module's mask is {module.mask!r}")
    if not causal and module.mask is not None:
        found.append(
            f"{peer} holds no mask, and this module's is {module.mask!r} (set module.mask = None, "
            "and pass the mask at each call)"
        )
    if module.position != position:
        has = "no positions" if position is None else f"{position!r}"
        found.append(f"{peer} has {has}, and this module position={module.position!r}")
    own = 1 / sqrt(module.head_dim) if module.scale is None else module.scale
    if not isclose(own, scale, rel_tol=1e-12):
        found.append(f"{peer} multiplies its scores by {scale:.6g}, this module by {own:.6g}")
    if module.softcap is not None:
        found.append(f"{peer} has no softcap, and this module {module.softcap}")
    if module.sinks is not None and not (
        zero_sinks and not module.sinks.requires_grad and not bool(module.sinks.any())
    ):
        found.append(
            f"{peer} can have sinks only fixed at 0 (add_zero_attn), and this module's are learned"
            if zero_sinks
            else f"{peer} has no sinks"
        )
    if module.qk_norm is not None:
        found.append(
            f"{peer} normalises no queries and keys, and this module qk_norm={module.qk_norm!r}"
        )
    if module.gate is not None:
        found.append(f"{peer} has no gate")
    return found


def other_sizes(
    module: MultiHeadAttention,
    *,
    peer: str,
    num_heads: int,
    num_kv_heads: int | None = None,
    head_dim: int | None = None,
    own_inputs: bool = False,
) -> list[str]:
    """Which sizes of the module the peer cannot have, each as a clause.

    Args:
        module: ours.
        peer: what its attention is called.
        num_heads: the peer's.
        num_kv_heads: the peer's; any, where None (they are repeated).
        head_dim: the peer's; where None, the heads share d_model.
        own_inputs: whether the peer's keys and values can come from inputs of other sizes.
    """
    m, found = module, []
    if m.num_heads != num_heads:
        found.append(f"{peer} has {num_heads} heads, and this module {m.num_heads}")
    if num_kv_heads is not None and m.num_kv_heads != num_kv_heads:
        found.append(f"{peer} has {num_kv_heads} key heads, and this module {m.num_kv_heads}")
    if head_dim is None and m.num_heads * m.head_dim != m.d_model:
        found.append(
            f"{peer}'s heads share d_model = {m.d_model}, and this module's {m.num_heads} heads "
            f"have {m.head_dim} features each"
        )
    if head_dim is not None and m.head_dim != head_dim:
        found.append(f"{peer}'s heads have {head_dim} features, and this module's {m.head_dim}")
    if m.value_head_dim != m.head_dim:
        found.append(
            f"{peer}'s values have as many features as its keys, and this module's "
            f"{m.value_head_dim} and {m.head_dim}"
        )
    if m.output.out_features != m.d_model:
        found.append(
            f"{peer}'s output has d_model = {m.d_model} features, and this module's "
            f"{m.output.out_features}"
        )
    if not own_inputs and not m.kdim == m.vdim == m.d_model:
        found.append(
            f"{peer}'s keys and values come from inputs of d_model = {m.d_model} features, and "
            f"this module's of {m.kdim} and {m.vdim}"
        )
    return found


def refuse(caller: str, reasons: list[str]) -> None:
    """Raise all reasons at once; nothing where there are none.

    Raises:
        InputError: with the reasons.
    """
    if reasons:
        raise InputError(
            f"{caller}: the result would not compute what this module does: {'; '.join(reasons)}."
        )


def check_ours(caller: str, module: Any) -> None:
    """Refuse what is no `MultiHeadAttention`.

    Raises:
        DTypeError: naming what came.
    """
    if not isinstance(module, MultiHeadAttention):
        raise DTypeError(
            f"{caller} converts an atento.nn.MultiHeadAttention; got {type(module).__name__}."
        )
