"""What a layer puts out after interventions: changed heads anew, all others as they were."""

from dataclasses import replace
from typing import Any

import torch

from atento._errors import EngineError
from atento.equation import attention
from atento.equation.computed import Computed
from atento.reading.call import AttentionCall, KnockedOut
from atento.reading.some_heads import some_heads

__all__ = ["recomputed"]


def recomputed(call: AttentionCall, made: Computed) -> Computed:
    """The output, log-sum-exp and weights of a changed call.

    Args:
        call: as interventions left it.
        made: what the model's own function made of the call as it was: output (batch, head, query,
            feature), or None where weights are all that is seen; log-sum-exp and weights, or None.
    """
    heads = sorted(call.changed)
    if heads:
        made = _with_changed_weights(call, heads, made)
    for each in call.knocked_out:
        if made.output is None:  # the model makes its output of the weights
            made = Computed(None, made.lse, _knocked_out(made.weights, each))
        else:
            made = Computed(_knocked_out(made.output, each), made.lse, made.weights)
    return made


def _with_changed_weights(call: AttentionCall, heads: list[int], made: Computed) -> Computed:
    fresh = _computed(call, heads, made)
    return Computed(
        _written(made.output, heads, fresh.output),
        _written(made.lse, heads, fresh.lse),
        _written(made.weights, heads, fresh.weights),
    )


def _computed(call: AttentionCall, heads: list[int], made: Computed) -> Computed:
    """The heads by the equation, as much of it as the model's own function has left."""
    chosen: Any = slice(None)
    if len(heads) < call.query.shape[1]:
        try:
            call = some_heads(_bound(call), heads)
        except EngineError:  # their mask cannot be taken apart
            chosen = heads
    found = attention(
        call.query,
        call.key,
        call.value.to(call.query.dtype),
        mask=call.mask,
        bias=call.bias,
        scale=call.scale,
        softcap=call.softcap,
        sinks=call.sinks,
        dropout=call.dropout,
        return_lse=True,
        return_weights=made.weights is not None,
    )
    output, lse = found[0][:, chosen], found[-1][:, chosen]
    return Computed(output, lse, found[1][:, chosen] if made.weights is not None else None)


def _bound(call: AttentionCall) -> AttentionCall:
    """With a mask that knows how many heads there are."""
    if call.mask is None:
        return call
    shape = (*call.query.shape[:-1], call.key.shape[2])
    return replace(call, mask=call.mask.bind(shape))


def _written(whole: Any, heads: list[int], part: Any) -> Any:
    """A copy of ``whole`` (batch, head, ...) with some heads replaced."""
    if whole is None:
        return None
    index = torch.tensor(heads, device=whole.device)
    return whole.index_copy(1, index, part.to(whole.dtype))


def _knocked_out(output: torch.Tensor, out: KnockedOut) -> torch.Tensor:
    """With heads that are 0, or their mean over the queries."""
    items = slice(None) if out.item is None else slice(out.item, out.item + 1)
    made = output.clone()
    heads = list(out.heads)
    if out.by == "zero":
        made[items, heads] = 0
    else:
        own = output[items, heads]
        made[items, heads] = (
            own.mean(2, keepdim=True, dtype=_sums(own)).to(own.dtype).expand_as(own)
        )
    return made


def _sums(tensor: torch.Tensor) -> torch.dtype:
    half = tensor.dtype in (torch.float16, torch.bfloat16)
    return torch.float32 if half else tensor.dtype
