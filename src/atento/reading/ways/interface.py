"""The way in for models of transformers that ask for their attention function by name.

While something is captured, the two places where names become functions answer with functions
that look on: `AttentionInterface.get_interface` and the look-up of `AttentionMaskInterface`. So no
name is registered, no configuration is changed, and the model's own function (kernel or eager)
computes the output. Other threads get the functions as they are.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from atento._errors import EngineError
from atento.equation.computed import Computed
from atento.masks import Mask
from atento.reading.call import AttentionCall
from atento.reading.layer_names import kind_of
from atento.reading.log_sum_exp import says_lse, says_weights
from atento.reading.mask_tensors import both, first_query_of, read_mask
from atento.reading.watching import Inner, Place, Watch, current, patched
from atento.reading.ways.functional import causal_from_start, in_autocast
from atento.reading.ways.transformers_masks import known_mask

__all__: list[str] = []

HIDDEN = ("flash", "flex", "paged", "kernels")
"""Parts of the names of functions whose kernels do not tell what they compute."""


@patched
def _watch_attention() -> Callable[[], None]:
    found = sys.modules.get("transformers.modeling_utils")
    if found is None:
        return lambda: None
    interface = found.AttentionInterface
    original = interface.__dict__["get_interface"]

    def get_interface(self: Any, attn_implementation: str, default: Any) -> Any:
        function = original(self, attn_implementation, default)
        if current() is None:
            return function
        return _watched(attn_implementation, function, function is default)

    interface.get_interface = get_interface

    def undo() -> None:
        interface.get_interface = original

    return undo


@patched
def _watch_masks() -> Callable[[], None]:
    found = sys.modules.get("transformers.masking_utils")
    if found is None:
        return lambda: None
    interface = found.AttentionMaskInterface
    original = interface.__getitem__
    own = "__getitem__" in interface.__dict__

    def getitem(self: Any, name: str) -> Any:
        function = original(self, name)
        if current() is None or function not in (found.sdpa_mask, found.eager_mask):
            return function
        return _noting(function)

    interface.__getitem__ = getitem

    def undo() -> None:
        if own:
            interface.__getitem__ = original
        else:
            del interface.__getitem__

    return undo


def _noting(function: Any) -> Any:
    """The mask function, noting for each tensor it makes which rule that is."""

    def make(*args: Any, **kwargs: Any) -> Any:
        made = function(*args, **kwargs)
        watch = current()
        if watch is not None and isinstance(made, torch.Tensor) and not args:
            with watch.silence():
                known = known_mask(made, kwargs)
            if known is not None:
                watch.masks[made] = known
        return made

    return make


def _watched(implementation: str | None, function: Any, eager: bool) -> Any:
    """The attention function, looked on."""

    def attend(
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        def run() -> Any:
            return function(module, query, key, value, attention_mask, *args, **kwargs)

        watch = current()
        if watch is None:
            return run()
        place = Place.here(module)
        if not watch.hears(place):
            return run()
        name = implementation or "eager"
        if any(part in name.lower() for part in HIDDEN):
            watch.refuse(place, _hidden(name))
            with watch.silence():  # it may call torch's attention in the end
                return run()
        if function is _sdpa():
            return _by_kernel(watch, place, (query, key, value, attention_mask), kwargs, run)
        if eager and not args:
            return _eager(watch, place, (query, key, value, attention_mask), kwargs, run)
        return run()  # what it calls is seen by the other ways

    return attend


def _sdpa() -> Any:
    module = sys.modules.get("transformers.integrations.sdpa_attention")
    return getattr(module, "sdpa_attention_forward", None)


def _hidden(name: str) -> EngineError:
    return EngineError(
        f"the attention implementation {name!r} cannot be read: its kernel does not tell what it "
        'masks and adds. Load the model with attn_implementation="sdpa" or "eager"; with '
        "strict=False its other layers are read."
    )


Tensors = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]


def _by_kernel(
    watch: Watch, place: Place, tensors: Tensors, kwargs: dict[str, Any], run: Callable[[], Any]
) -> Any:
    """The function of transformers that calls torch's own attention."""
    query, key, value, mask = tensors
    inner = Inner()
    with watch.within(inner):
        output, weights = run()
    if inner.calls != 1:
        watch.refuse(place, EngineError(f"torch's attention was called {inner.calls} times."))
        return output, weights
    key, value = key[:, :, : inner.key_length], value[:, :, : inner.key_length]
    Tq, Tk = query.shape[2], key.shape[2]
    rule, bias, first = read_mask(watch, mask)
    own_bias = kwargs.get("position_bias")
    causal = inner.causal or (own_bias is not None and _causal(place, kwargs, Tq, mask))
    if causal:
        rule, first = both(rule, causal_from_start(Tq, Tk)), 0
    if own_bias is not None:
        own_bias = own_bias[..., :Tk]
        bias = own_bias if bias is None else bias + own_bias
    query, key, value = (each.to(inner.dtype) for each in (query, key, value))  # autocast's
    bias = None if bias is None else bias.to(inner.dtype)
    call = _call(place, (query, key, value), rule, bias, inner.scale, first, kwargs)
    call = replace(call, sinks=None, softcap=None)  # torch's attention has neither
    lse = inner.lse
    if lse is not None:
        lse = lse.reshape(*call.query.shape[:-1])
        with watch.silence():
            if not says_lse(call, lse):
                watch.refuse(place, _unproven())
                return output, weights
    changed = watch.observe(call, place, Computed(output.transpose(1, 2), lse))
    return (output if changed is None else _as_output(changed.output)), weights


def _causal(place: Place, kwargs: dict[str, Any], queries: int, mask: Any) -> bool:
    """Whether transformers adds a causal mask to a bias: as in its function."""
    said = kwargs.get("is_causal")
    if said is None:
        said = getattr(place.modules[-1][0], "is_causal", True)
    return bool(queries > 1 and mask is None and said)


def _eager(
    watch: Watch, place: Place, tensors: Tensors, kwargs: dict[str, Any], run: Callable[[], Any]
) -> Any:
    """A function of the model's file that writes the formula out, and returns its weights."""
    query, key, value, mask = tensors
    with watch.within(Inner()):
        output, weights = run()
    if weights is None:
        watch.refuse(place, EngineError("its eager attention returns no weights to check by."))
        return output, weights
    module = place.modules[-1][0]
    if mask is not None and mask.shape[-1] > key.shape[2]:
        mask = mask[..., : key.shape[2]]
    rule, bias, first = read_mask(watch, mask)
    own_bias = kwargs.get("position_bias")
    if own_bias is not None:
        bias = own_bias if bias is None else bias + own_bias
    scale = kwargs.get("scaling")
    if scale is None and isinstance(getattr(module, "scaling", None), float):
        scale = module.scaling
    query, key, value = (in_autocast(each) for each in (query, key, value))  # as products are
    call = _call(place, (query, key, value), rule, bias, scale, first, kwargs)
    with watch.silence():
        if not call.dropout and not says_weights(call, weights):
            watch.refuse(place, _unproven())
            return output, weights
    changed = watch.observe(call, place, Computed(output.transpose(1, 2), None, weights))
    return (output, weights) if changed is None else (_as_output(changed.output), changed.weights)


def _unproven() -> EngineError:
    return EngineError(
        "its attention computes something else than what it was asked in the interface's terms "
        "(query, key, mask, bias, scale, softcap, sinks), so that it cannot be read exactly."
    )


def _call(
    place: Place,
    tensors: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    rule: Mask | None,
    bias: torch.Tensor | None,
    scale: Any,
    first: int | None,
    kwargs: dict[str, Any],
) -> AttentionCall:
    query, key, value = tensors
    if query.shape[0] != key.shape[0]:  # learned queries
        query = query.expand(key.shape[0], *query.shape[1:])
    Tq, Tk = query.shape[2], key.shape[2]
    kind = kind_of(place)
    sinks = kwargs.get("s_aux")
    if sinks is None:
        sinks = getattr(place.modules[-1][0], "sinks", None)
    return AttentionCall(
        layer="",
        kind=kind,
        side=None,
        way="interface",
        query=query,
        key=key,
        value=value,
        mask=rule,
        bias=bias,
        scale=None if scale is None else float(scale),
        softcap=kwargs.get("softcap"),
        sinks=sinks if isinstance(sinks, torch.Tensor) else None,
        dropout=float(kwargs.get("dropout", 0.0)),
        first_query=first_query_of(kind, Tq, Tk) if first is None else first,
    )


def _as_output(changed: torch.Tensor) -> torch.Tensor:
    """(batch, head, query, feature) as the interface returns it: (batch, query, head, feature)."""
    return changed.transpose(1, 2).contiguous()
