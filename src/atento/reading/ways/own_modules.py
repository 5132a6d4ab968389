"""The way in for atento's own modules: the front door tells who watches about every request."""

from collections.abc import Callable
from typing import Any

from atento._arrays import is_torch
from atento._errors import EngineError
from atento.equation import front
from atento.equation.computed import Computed
from atento.equation.request import Request
from atento.masks.band import Band
from atento.reading.call import AttentionCall
from atento.reading.layer_names import kind_of
from atento.reading.mask_tensors import first_query_of
from atento.reading.watching import Place, current, patched

__all__: list[str] = []


@patched
def _watch_the_front_door() -> Callable[[], None]:
    front.watcher = _attend

    def undo() -> None:
        front.watcher = None

    return undo


def _attend(request: Request, compute: Callable[..., Computed], *options: Any) -> Computed:
    """What `attention` computes of a request, observed where this thread is watched."""
    watch = current()
    if watch is None or not is_torch(request.query) or request.opaque:
        return compute(request, *options)
    place = Place.here()
    if not watch.hears(place):
        return compute(request, *options)
    engine, with_lse, with_weights = options
    tells = engine in ("fused", "streaming")  # the log-sum-exp comes for nothing
    with watch.silence():
        computed = compute(request, engine, with_lse or tells, with_weights)
    if request.query.ndim > 4:
        error = EngineError(
            f"attention over {request.query.ndim - 2} leading axes is not read: a recording has "
            "(batch, head, query, feature)."
        )
        watch.refuse(place, error)
        return computed
    made = Computed(_four(computed.output, 4), _four(computed.lse, 3), _four(computed.weights, 4))
    changed = watch.observe(_call(request, place), place, made)
    if changed is None:
        return computed
    return Computed(
        changed.output.reshape(request.output_shape),
        None if changed.lse is None else changed.lse.reshape(request.output_shape[:-1]),
        None if changed.weights is None else changed.weights.reshape(request.weights_shape),
    )


def _call(request: Request, place: Place) -> AttentionCall:
    Tq, Tk = request.weights_shape[-2:]
    kind = kind_of(place)
    bias, mask = request.bias, request.mask
    first = first_query_of(kind, Tq, Tk)
    if isinstance(mask, Band) and mask.first is None and mask.last is not None:
        first = mask.last  # causal: the last key that query 0 sees stands under it
    return AttentionCall(
        layer="",
        kind=kind,
        side=None,
        way="atento",
        query=_four(request.query, 4),
        key=_four(request.key, 4),
        value=_four(request.value, 4),
        mask=mask,
        bias=bias.dense() if hasattr(bias, "dense") else bias,
        scale=request.scale,
        softcap=request.softcap,
        sinks=request.sinks,
        dropout=request.dropout,
        first_query=first,
    )


def _four(tensor: Any, axes: int) -> Any:
    """With axes of size 1 in front, for batch and head."""
    return tensor if tensor is None else tensor.reshape((1,) * (axes - tensor.ndim) + tensor.shape)
