"""To and from torch.nn.MultiheadAttention, and its masks, which say the opposite."""

from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn

from atento._arrays import dtype_name
from atento._errors import DTypeError, InputError, ShapeError
from atento.masks import Explicit, KeyPadding, Mask
from atento.nn.convert.projections import (
    Projection,
    built,
    check_ours,
    full_projections,
    is_trained,
    lacking,
    other_sizes,
    own_projection,
    own_projections,
    refuse,
)
from atento.nn.multi_head_attention import MultiHeadAttention

__all__ = ["from_torch", "mask_from_torch", "to_torch"]

PEER = "nn.MultiheadAttention"


def from_torch(module: nn.MultiheadAttention) -> MultiHeadAttention:
    """The `MultiHeadAttention` that computes what this nn.MultiheadAttention does.

    Weights are copied; device, dtype, dropout, training mode and which parameters are trained stay.
    Three things are said otherwise afterwards: inputs are batch first, (batch, token, feature),
    whatever ``batch_first`` was; masks are True where a query attends (`mask_from_torch`); the
    weights, of each head, come with ``return_weights=True``. ``add_zero_attn`` becomes sinks that
    are fixed at 0: both add exp(0) to the softmax's denominator and nothing to the output.

    Args:
        module: what is converted; it stays as it is.

    Raises:
        InputError: for bias_k and bias_v (``add_bias_kv=True``), which our module has not.
        DTypeError: for another module.

    >>> theirs = nn.MultiheadAttention(6, 2, batch_first=True)
    >>> x = torch.ones(1, 5, 6)
    >>> torch.allclose(from_torch(theirs)(x), theirs(x, x, x)[0], atol=1e-6)
    True
    """
    if getattr(type(module), "forward", None) is not nn.MultiheadAttention.forward:
        raise DTypeError(f"from_torch converts a torch.{PEER}; got {type(module).__name__}.")
    if module.bias_k is not None or module.bias_v is not None:
        raise InputError(
            f"from_torch: this {PEER} has bias_k and bias_v (add_bias_kv=True): a learned key and "
            "value that every query sees beside the tokens', and MultiHeadAttention sees tokens "
            "alone. Compute it with atento.attention, the two appended to key and value."
        )
    size, bias = module.embed_dim, module.in_proj_bias
    weights = (module.q_proj_weight, module.k_proj_weight, module.v_proj_weight)
    if module.in_proj_weight is not None:
        together = Projection(
            module.in_proj_weight.detach(),
            None if bias is None else bias.detach(),
            (is_trained(module.in_proj_weight), is_trained(bias)),
        )
        query, key, value = (together.rows(i * size, (i + 1) * size) for i in range(3))
    else:
        biases = [None] * 3 if bias is None else bias.detach().split(size)
        query, key, value = (
            Projection(weight.detach(), part, (is_trained(weight), is_trained(bias)))
            for weight, part in zip(weights, biases, strict=True)
        )
    return built(
        query,
        key,
        value,
        own_projection("from_torch", "out_proj", module.out_proj),
        num_heads=module.num_heads,
        dropout=module.dropout,
        sinks=module.add_zero_attn,
        training=module.training,
    )


def to_torch(module: MultiHeadAttention, *, batch_first: bool = True) -> nn.MultiheadAttention:
    """The nn.MultiheadAttention that computes what this module does.

    Weights are copied; device, dtype, dropout, training mode and which parameters are trained stay.
    Shared key heads are repeated, one for every query head: the same function until it is trained
    further. A bias that only some projections have is 0 in the others.

    Args:
        module: without what torch's has not: masks of its own, positions, softcap, learned sinks,
            normalised queries and keys, gates, another scale, heads that do not add up to d_model.
        batch_first: torch's argument.

    Raises:
        InputError: saying all that torch's module cannot compute.
        DTypeError: for another module.

    >>> ours = MultiHeadAttention(6, 2)
    >>> x = torch.ones(1, 5, 6)
    >>> torch.allclose(to_torch(ours)(x, x, x)[0], ours(x), atol=1e-6)
    True
    """
    check_ours("to_torch", module)
    reasons = lacking(module, peer=PEER, scale=1 / sqrt(module.head_dim), zero_sinks=True)
    reasons += other_sizes(module, peer=PEER, num_heads=module.num_heads, own_inputs=True)
    *inner, output = own_projections("to_torch", module)
    together = module.kdim == module.vdim == module.d_model
    flags = [p.trained[0] for p in inner] if together else []
    biases = [p.trained[1] for p in inner if p.bias is not None]
    if len(set(flags)) > 1 or len(set(biases)) > 1:
        reasons.append(
            f"{PEER} has one parameter for query, key and value, and of this module's only some "
            "are trained (requires_grad)"
        )
    refuse("to_torch", reasons)

    *inner, output = full_projections("to_torch", module)
    has_bias = any(part.bias is not None for part in (*inner, output))
    made = nn.MultiheadAttention(
        module.d_model,
        module.num_heads,
        dropout=module.dropout,
        bias=has_bias,
        add_zero_attn=module.sinks is not None,
        kdim=module.kdim,
        vdim=module.vdim,
        batch_first=batch_first,
        device="meta",  # nothing is drawn
    )
    if together:
        weight = torch.cat([part.weight for part in inner])
        made.in_proj_weight = nn.Parameter(weight, inner[0].trained[0])
    else:
        for name, part in zip(("q", "k", "v"), inner, strict=True):
            weight = nn.Parameter(part.weight.clone(), part.trained[0])
            setattr(made, f"{name}_proj_weight", weight)
    made.out_proj.weight = nn.Parameter(output.weight.clone(), output.trained[0])
    if has_bias:
        bias = torch.cat([part.bias_or_zeros() for part in inner])
        made.in_proj_bias = nn.Parameter(bias, all(biases))
        made.out_proj.bias = nn.Parameter(output.bias_or_zeros().clone(), output.trained[1])
    return made.train(module.training)


def mask_from_torch(
    attn_mask: Tensor | None = None,
    key_padding_mask: Tensor | None = None,
    num_heads: int | None = None,
) -> tuple[Mask | None, Tensor | None]:
    """The masks of a call of nn.MultiheadAttention, as ``mask=`` and ``bias=`` of ours.

    A bool mask of torch's is True where a query may NOT look, and becomes its opposite; a float
    mask is added to the scores, and becomes a bias. (Where it hides all keys of a query by −inf,
    torch gives NaN and atento 0.)

    Args:
        attn_mask: (Tq, Tk), or (batch · num_heads, Tq, Tk).
        key_padding_mask: (batch, Tk), or (Tk,) for inputs without a batch.
        num_heads: of the module; needed for an attn_mask of three axes.

    Returns:
        (mask, bias): what to pass on, as in ``module(x, mask=mask, bias=bias)``; either may be
        None.

    Raises:
        ShapeError, DTypeError, InputError: which mask, what was expected, what came.

    >>> mask, bias = mask_from_torch(key_padding_mask=torch.tensor([False, False, True]))
    >>> mask.dense(2, 3).astype(int), bias
    (array([[1, 1, 0],
            [1, 1, 0]]), None)
    """
    masks: list[Mask] = []
    biases: list[Tensor] = []
    if attn_mask is not None:
        kind = _kind("attn_mask", attn_mask)
        if attn_mask.ndim == 3:
            attn_mask = _per_head(attn_mask, num_heads)
        elif attn_mask.ndim != 2:
            raise ShapeError(
                "attn_mask has the axes (query, key) or (batch · head, query, key); got shape "
                f"{tuple(attn_mask.shape)}."
            )
        if kind == "bool":
            masks.append(Explicit(~attn_mask))
        else:
            biases.append(attn_mask)
    if key_padding_mask is not None:
        kind = _kind("key_padding_mask", key_padding_mask)
        if key_padding_mask.ndim not in (1, 2):
            raise ShapeError(
                "key_padding_mask has the axes (batch, key) or (key,); got shape "
                f"{tuple(key_padding_mask.shape)}."
            )
        if kind == "bool":
            masks.append(KeyPadding(~key_padding_mask))
        else:
            # (batch, key) -> (batch, head, query, key)
            axes = (1, 1) if key_padding_mask.ndim == 2 else (1,)
            *batch, keys = key_padding_mask.shape
            biases.append(key_padding_mask.reshape(*batch, *axes, keys))
    mask = masks[0] if masks else None
    bias = biases[0] if biases else None
    if len(masks) == 2:
        mask = masks[0] & masks[1]
    if len(biases) == 2:
        bias = biases[0] + biases[1]
    return mask, bias


def _kind(name: str, mask: Any) -> str:
    """Bool or float, the two kinds of mask that torch knows."""
    if not isinstance(mask, Tensor):
        raise DTypeError(f"{name} must be a torch tensor; got {type(mask).__name__}.")
    if mask.dtype == torch.bool:
        return "bool"
    if mask.is_floating_point():
        return "float"
    raise DTypeError(
        f"{name} must be bool (True = may not look) or float (added to the scores), as torch has "
        f"it; got {dtype_name(mask)}."
    )


def _per_head(mask: Tensor, num_heads: int | None) -> Tensor:
    """(batch · head, query, key) -> (batch, head, query, key); (head, query, key) for one item."""
    if num_heads is None:
        raise InputError(
            f"attn_mask has three axes, (batch · head, query, key) = {tuple(mask.shape)}: say "
            "num_heads= too."
        )
    if mask.shape[0] % num_heads:
        raise ShapeError(
            f"attn_mask has the axes (batch · head, query, key), and its first axis, "
            f"{mask.shape[0]}, is no multiple of num_heads = {num_heads}."
        )
    if mask.shape[0] == num_heads:
        return mask
    return mask.reshape(-1, num_heads, *mask.shape[1:])
