"""The part of a call that some query heads are."""

from dataclasses import replace
from typing import Any

from atento._errors import EngineError
from atento.masks import Explicit, Mask
from atento.masks.mask import Both, Either, Not
from atento.positions.distance_bias import DistanceBias
from atento.reading.call import AttentionCall

__all__ = ["some_heads"]


def some_heads(call: AttentionCall, heads: list[int]) -> AttentionCall:
    """The call of some query heads, each with a key head of its own.

    Raises:
        EngineError: where the mask tells heads apart, and is not made of rules and arrays.
    """
    group = call.query.shape[1] // call.key.shape[1]
    shared = [head // group for head in heads]
    return replace(
        call,
        query=call.query[:, heads],
        key=call.key[:, shared],
        value=call.value[:, shared],
        mask=None if call.mask is None else _mask_of(call.mask, heads),
        bias=_bias_of(call.bias, heads),
        sinks=call.sinks if call.sinks is None or not call.sinks.ndim else call.sinks[heads],
    )


def _bias_of(bias: Any, heads: list[int]) -> Any:
    if isinstance(bias, DistanceBias):
        if bias.values.ndim > 1 and bias.values.shape[-2] != 1:
            return DistanceBias(bias.values[..., heads, :], bias.lengths)
        return bias
    if bias is not None and bias.ndim > 2 and bias.shape[-3] != 1:
        return bias[..., heads, :, :]
    return bias


def _mask_of(mask: Mask, heads: list[int]) -> Mask:
    if isinstance(mask, Both | Either):
        return type(mask)(_mask_of(mask.first, heads), _mask_of(mask.second, heads))
    if isinstance(mask, Not):
        return Not(_mask_of(mask.rule, heads))
    if not mask.leading or mask.leading[-1] == 1:
        return mask
    if isinstance(mask, Explicit):
        return Explicit(mask.array[..., heads, :, :])
    raise EngineError(f"heads= cannot take heads out of {mask!r}: leave heads out.")
