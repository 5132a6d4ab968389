"""The way in for models that call torch's own attention.

`scaled_dot_product_attention` is computed by the very kernel that torch would choose; where that
is the CPU's flash kernel it is called directly, because it then returns the log-sum-exp too.
`multi_head_attention_forward` runs as torch wrote it, and what it calls within is seen.
"""

from dataclasses import dataclass, replace
from math import prod
from types import FunctionType
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from atento._errors import EngineError
from atento.equation.computed import Computed
from atento.masks import Causal, Mask
from atento.reading.call import AttentionCall
from atento.reading.layer_names import kind_of
from atento.reading.mask_tensors import both, first_query_of, read_mask
from atento.reading.watching import Place, Watch

__all__ = ["attend", "attend_in_heads", "causal_from_start", "in_autocast"]

FLASH = 1
"""`torch.nn.attention.SDPBackend.FLASH_ATTENTION`, as `_fused_sdp_choice` says it."""

_kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


@dataclass(frozen=True, eq=False)
class Arguments:
    """Those of `scaled_dot_product_attention`."""

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    attn_mask: torch.Tensor | None = None
    dropout_p: float = 0.0
    is_causal: bool = False
    scale: float | None = None
    enable_gqa: bool = False


def attend(watch: Watch, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
    """One call of `scaled_dot_product_attention`."""
    given = _cast(Arguments(*args, **kwargs))
    if watch.inner is not None:
        inner = watch.inner
        output, inner.lse = _output_and_lse(func, given)
        inner.calls += 1
        inner.key_length, inner.scale = given.key.shape[-2], given.scale
        inner.causal, inner.dtype = given.is_causal, given.query.dtype
        return output
    place = Place.here()
    if not watch.hears(place):
        return func(*args, **kwargs)  # type: ignore[no-any-return]
    output, lse = _output_and_lse(func, given)
    changed = _observed(watch, place, given, output, lse)
    return output if changed is None else changed


def attend_in_heads(watch: Watch, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """One call of `multi_head_attention_forward`: what it calls is seen as it runs."""
    if func is not functional.multi_head_attention_forward:
        return func(*args, **kwargs)
    with watch.mode:  # torch has taken the mode away while it asks it
        return _in_heads(*args, **kwargs)


def _seen_within(function: Any) -> Any:
    """The same function, that does not hand itself to a mode again."""
    unasked = {**function.__globals__, "has_torch_function": lambda _: False}
    made = FunctionType(
        function.__code__, unasked, function.__name__, function.__defaults__, function.__closure__
    )
    made.__kwdefaults__ = function.__kwdefaults__
    return made


_in_heads = _seen_within(functional.multi_head_attention_forward)


def in_autocast(tensor: torch.Tensor) -> torch.Tensor:
    """In the dtype of autocast, where that is on."""
    device = tensor.device.type
    if tensor.dtype not in (torch.float32, torch.float16) or not torch.is_autocast_enabled(device):
        return tensor
    return tensor.to(torch.get_autocast_dtype(device))


def _cast(given: Arguments) -> Arguments:
    """As autocast has it, which looks at torch's function and not at the kernel."""
    mask = given.attn_mask
    return replace(
        given,
        query=in_autocast(given.query),
        key=in_autocast(given.key),
        value=in_autocast(given.value),
        attn_mask=None if mask is None else in_autocast(mask),
    )


def _output_and_lse(func: Any, given: Arguments) -> tuple[torch.Tensor, torch.Tensor | None]:
    """What torch's function returns, to the bit; and the log-sum-exp where the kernel tells it."""
    if not _flash(given):
        return (
            func(
                given.query,
                given.key,
                given.value,
                attn_mask=given.attn_mask,
                dropout_p=given.dropout_p,
                is_causal=given.is_causal,
                scale=given.scale,
                enable_gqa=given.enable_gqa,
            ),
            None,
        )
    mask = given.attn_mask
    added = mask
    if mask is not None and mask.dtype == torch.bool:
        zero = torch.zeros((), dtype=given.query.dtype)
        added = torch.where(mask, zero, -torch.inf)
    output, lse = _kernel(
        given.query,
        given.key,
        given.value,
        given.dropout_p,
        given.is_causal,
        attn_mask=added,
        scale=given.scale,
    )
    return output, _lse_of_empty_rows(lse.detach(), mask)


def _flash(given: Arguments) -> bool:
    """Whether torch would take the CPU's flash kernel, and it tells the log-sum-exp."""
    query, key, value = given.query, given.key, given.value
    plain = all(type(each) in (torch.Tensor, torch.nn.Parameter) for each in (query, key, value))
    if not plain or query.device.type != "cpu" or query.is_nested or query.ndim != 4:
        return False
    if query.shape[0] != key.shape[0] or not query.numel() or not key.numel():
        return False
    chosen = torch._fused_sdp_choice(
        query,
        key,
        value,
        given.attn_mask,
        given.dropout_p,
        given.is_causal,
        scale=given.scale,
        enable_gqa=given.enable_gqa,
    )
    return int(chosen) == FLASH


def _lse_of_empty_rows(lse: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """−inf for a query that may see no key, where the kernel says 0."""
    if mask is None:
        return lse
    if mask.dtype == torch.bool:
        sees = mask.any(-1)
    else:
        sees = mask.detach().amax(-1) > torch.finfo(mask.dtype).min / 2
    return torch.where(sees, lse, -torch.inf)


def _observed(
    watch: Watch, place: Place, given: Arguments, output: torch.Tensor, lse: torch.Tensor | None
) -> torch.Tensor | None:
    if given.query.is_nested or given.key.is_nested:
        watch.refuse(
            place,
            EngineError(
                "a call of scaled_dot_product_attention on nested (ragged) tensors cannot be "
                "read: give the model padded tensors."
            ),
        )
        return None
    rule, bias, first = read_mask(watch, given.attn_mask)
    query, key, value = _four_axes(given)
    Tq, Tk = query.shape[-2], key.shape[-2]
    if given.is_causal:
        rule = both(rule, causal_from_start(Tq, Tk))
    heads = given.query.ndim > 3
    kind = kind_of(place)
    if first is None:
        first = 0 if given.is_causal else first_query_of(kind, Tq, Tk)
    call = AttentionCall(
        layer="",
        kind=kind,
        side=None,
        way="mha" if _is_in_heads(place) else "sdpa",
        query=query,
        key=key,
        value=value,
        mask=rule if heads else _without_heads(rule, given.attn_mask),
        bias=bias if heads or bias is None or bias.ndim < 3 else bias[:, None],
        scale=given.scale,
        dropout=given.dropout_p,
        first_query=first,
    )
    changed = watch.observe(call, place, Computed(_by_heads(output, call), lse))
    return None if changed is None else changed.output.reshape(output.shape)


def _four_axes(given: Arguments) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(batch, head, token, feature): (batch, token, feature) has one head."""
    arrays = (given.query, given.key, given.value)
    if given.query.ndim == 2:
        query, key, value = (array[None, None] for array in arrays)
        return query, key, value
    if given.query.ndim == 3:
        query, key, value = (array[:, None] for array in arrays)
        return query, key, value
    batch = np.broadcast_shapes(*(array.shape[:-3] for array in arrays))
    shared = np.broadcast_shapes(given.key.shape[-3:-2], given.value.shape[-3:-2])
    own = tuple(given.query.shape[-3:-2])
    if own == (1,):  # one head of queries asks all keys
        own = shared
    found = [
        array.expand(*batch, *heads, *array.shape[-2:]).reshape(
            prod(batch), *heads, *array.shape[-2:]
        )
        for array, heads in zip(arrays, (own, shared, shared), strict=True)
    ]
    return found[0], found[1], found[2]


def _by_heads(output: torch.Tensor, call: AttentionCall) -> torch.Tensor:
    """(batch, head, query, feature)."""
    return output.reshape(*call.query.shape[:-1], output.shape[-1])


def _without_heads(rule: Mask | None, mask: torch.Tensor | None) -> Mask | None:
    """A mask (batch, query, key) is for one head of each batch item."""
    from atento.masks import Explicit

    if rule is None or mask is None or mask.ndim < 3 or not isinstance(rule, Explicit):
        return rule
    array = rule.array
    return Explicit(array.reshape(-1, 1, *array.shape[-2:]))


def _is_in_heads(place: Place) -> bool:
    return bool(place.modules) and isinstance(place.modules[-1][0], torch.nn.MultiheadAttention)


def causal_from_start(queries: int, keys: int) -> Mask:
    """The rule that torch's ``is_causal`` stands for."""
    return Causal() if queries == keys else Causal(align="start")
