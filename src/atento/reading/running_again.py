"""A captured model run again on what it was called with, changed or as it was."""

from collections.abc import Iterable
from typing import Any

import torch

from atento.reading.changing import Changing
from atento.reading.interventions.intervention import Intervention
from atento.reading.origin import Origin
from atento.reading.watching import only

__all__ = ["run_again"]


def run_again(
    origin: Origin,
    interventions: Any = (),
    there: Iterable[str] = (),
    call: tuple[tuple[Any, ...], dict[str, Any]] | None = None,
) -> Any:
    """The model's output, without gradients, under the autocast that it was captured under.

    Random numbers are those of each other run.

    Args:
        origin: the model, and what it was called with.
        interventions: what is changed.
        there: the layers that the model has, for messages.
        call: other positional and keyword arguments.

    Raises:
        InputError: when a layer, head or position that an intervention names never came.
    """
    changing = Changing(origin.root, interventions)
    changing.looked_at = _layers_of(changing.applying.interventions)
    args, kwargs = (origin.args, origin.kwargs) if call is None else call
    model = origin.module
    devices = {p.device.index for p in model.parameters() if p.device.type == "cuda"}
    as_it_was = origin.autocast()
    with torch.random.fork_rng(sorted(devices)), only(changing), as_it_was, torch.no_grad():
        output = model(*args, **kwargs)
    changing.applying.check_all_met(there or changing.seen)
    return output


def _layers_of(interventions: Iterable[Intervention]) -> set[str] | None:
    """The layers that are named in full; None where numbers or patterns are to be found out."""
    layers = [each.layer for each in interventions]
    if any(not isinstance(layer, str) or set("*?[") & set(layer) for layer in layers):
        return None
    return {str(layer) for layer in layers}
