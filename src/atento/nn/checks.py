"""What the modules check before they compute: sizes that fit, and words from other libraries."""

from typing import Any

import torch
from torch import Tensor

from atento._errors import DTypeError, InputError, ShapeError
from atento.equation.on_torch.autocast import autocast_is_on

__all__ = [
    "check_input",
    "check_keywords",
    "check_mask",
    "check_same_tokens",
    "head_size",
    "probability",
    "shared_heads",
    "whole",
]

FOREIGN = {
    "key_padding_mask": (
        "nn.MultiheadAttention's key_padding_mask is True where a key is NOT to be seen, and "
        "atento's masks are True where it is: pass mask=KeyPadding(~key_padding_mask) "
        "(atento.masks)."
    ),
    "attn_mask": (
        "nn.MultiheadAttention's bool attn_mask is True where NOT to look, and atento's masks are "
        "True where to look: pass mask=~attn_mask. A float attn_mask is added to the scores: pass "
        "it as bias=."
    ),
    "attention_mask": (
        "say what it means. Ones for real tokens: mask=KeyPadding(attention_mask != 0). Numbers "
        "to be added to the scores: bias=."
    ),
    "is_causal": "pass mask=Causal(), or make the module with it.",
    "need_weights": "the weights of all heads come with return_weights=True.",
    "average_attn_weights": (
        "return_weights=True gives the weights of every head; their average is weights.mean(-3)."
    ),
    "past_key_value": "pass cache=KVCache(), the same object at every call.",
    "past_key_values": "pass cache=KVCache(), the same object at every call.",
    "output_attentions": "the weights of all heads come with return_weights=True.",
}
"""Keywords of other libraries' attention, and what says the same here."""


def whole(owner: str, name: str, number: Any) -> int:
    """The number as an int of 1 or more.

    Raises:
        InputError: for anything else.
    """
    if isinstance(number, bool) or not hasattr(number, "__index__") or number < 1:
        raise InputError(f"{owner}: {name} must be a whole number from 1 on; got {number!r}.")
    return int(number)


def probability(owner: str, number: Any) -> float:
    """The dropout as a float in [0, 1).

    Raises:
        InputError: for anything else.
    """
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number < 1:
        raise InputError(
            f"{owner}: dropout must be a probability from 0 up to but not including 1; "
            f"got {number!r}."
        )
    return float(number)


def head_size(owner: str, d_model: int, num_heads: int) -> int:
    """Features per head, where the heads share d_model among them.

    Raises:
        ShapeError: when they cannot, with the head counts that can.
    """
    if d_model % num_heads:
        raise ShapeError(
            f"{owner}: d_model = {d_model} cannot be shared equally among {num_heads} heads. "
            f"{_divisors(d_model)} heads fit; or say how many features a head has, as in "
            f"head_dim={max(1, d_model // num_heads)}."
        )
    return d_model // num_heads


def shared_heads(owner: str, num_heads: int, num_kv_heads: int) -> int:
    """The number of key heads, each shared by as many query heads as every other.

    Raises:
        ShapeError: when the query heads cannot be shared out so.
    """
    if num_heads % num_kv_heads:
        swapped = " Did you swap them?" if num_kv_heads % num_heads == 0 else ""
        raise ShapeError(
            f"{owner}: {num_heads} query heads cannot share {num_kv_heads} key heads equally. "
            f"num_kv_heads can be {_divisors(num_heads)}.{swapped}"
        )
    return num_kv_heads


def check_input(owner: str, name: str, x: Any, size: int, projection: Any) -> None:
    """Refuse what is not (batch, token, size) or (token, size) of the module's own dtype.

    Raises:
        DTypeError: for what is no tensor of floating-point numbers, or one of another dtype.
        ShapeError: for other axes or another last size.
    """
    role = name.removesuffix("_in")
    if not isinstance(x, Tensor):
        raise DTypeError(
            f"{owner}: {name} must be a torch tensor; got {type(x).__module__}."
            f"{type(x).__name__}. For arrays of other libraries there is atento.attention."
        )
    if x.ndim not in (2, 3):
        raise ShapeError(
            f"{owner}: {name} must have the axes (batch, token, feature) or (token, feature); got "
            f"shape {tuple(x.shape)}." + (" One vector is one token: x[None]." * (x.ndim == 1))
        )
    if x.shape[-1] != size:
        turned = " Is it transposed?" if x.shape[-2] == size else ""
        raise ShapeError(
            f"{owner}: the {role} projection takes {size} features on the last axis of {name}; got "
            f"{x.shape[-1]} (shape {tuple(x.shape)}).{turned}"
        )
    if not x.is_floating_point():
        raise DTypeError(
            f"{owner}: {name} must hold floating-point vectors; got {x.dtype}."
            " Token ids become vectors by an nn.Embedding first."
        )
    # Whatever stands in a Linear's place (an adapter, a quantised layer) may have no such weight.
    weight = getattr(projection, "weight", None)
    if (
        isinstance(weight, Tensor)
        and weight.is_floating_point()
        and weight.dtype != x.dtype
        and not autocast_is_on(x.device.type)
    ):
        raise DTypeError(
            f"{owner}: {name} is {x.dtype} and the {role} projection {weight.dtype}. Convert one "
            f"of them, as in {name}.to({weight.dtype}) or module.to({x.dtype})."
        )


def check_same_tokens(owner: str, query_in: Tensor, key_in: Tensor, value_in: Tensor) -> None:
    """Refuse inputs of different batches, or keys and values that are not of the same tokens.

    Raises:
        ShapeError: with the shapes that came.
    """
    shapes = (
        f"(query_in {tuple(query_in.shape)}, key_in {tuple(key_in.shape)}, "
        f"value_in {tuple(value_in.shape)})"
    )
    if not query_in.shape[:-2] == key_in.shape[:-2] == value_in.shape[:-2]:
        raise ShapeError(f"{owner}: all inputs must have the same batch; got {shapes}.")
    if key_in.shape[-2] != value_in.shape[-2]:
        raise ShapeError(
            f"{owner}: key_in and value_in must be of the same tokens; got {key_in.shape[-2]} and "
            f"{value_in.shape[-2]} {shapes}."
        )


def check_keywords(owner: str, given: dict[str, Any]) -> None:
    """Refuse keywords that the module does not know, with what to write instead of common ones.

    Raises:
        InputError: naming the first of them.
    """
    for name in given:
        advice = FOREIGN.get(
            name, "it takes query_in, key_in, value_in, mask, bias, cache and return_weights."
        )
        raise InputError(f"{owner} knows no {name}=: {advice}")


def check_mask(owner: str, mask: Any) -> None:
    """Refuse an array that is True exactly where a key lies ahead: torch's way round.

    Raises:
        InputError: with what to write instead.
    """
    if (
        isinstance(mask, Tensor)
        and mask.dtype == torch.bool
        and not torch.compiler.is_compiling()  # it looks into the array
        and mask.device.type != "meta"
        and mask.ndim >= 2
        and mask.shape[-2] == mask.shape[-1] > 1
        and torch.equal(mask, torch.ones_like(mask).triu(1))
    ):
        raise InputError(
            f"{owner}: this mask is True exactly where the key lies ahead of its query, as an "
            "attn_mask of nn.MultiheadAttention that says where NOT to look. In atento True = "
            "attends: pass mask=~attn_mask, or mask=Causal(). If the keys ahead alone are meant, "
            "say mask=~Causal()."
        )


def _divisors(number: int) -> str:
    fit = [str(size) for size in range(1, number + 1) if number % size == 0]
    if len(fit) > 12:
        fit = [*fit[:8], "…", *fit[-2:]]
    return fit[0] if len(fit) == 1 else f"{', '.join(fit[:-1])} or {fit[-1]}"
