"""A layer of transformers, live or as the tensors of a checkpoint: read and written by name."""

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from atento._errors import DTypeError, InputError, ShapeError
from atento.nn.convert.projections import Projection, is_trained, own_projection

__all__ = ["L", "Layer", "check_kind", "write"]

L = TypeVar("L", bound=nn.Module)
"""A layer that is written to, and returned."""


class Layer:
    """What a conversion reads from.

    Args:
        caller: the conversion, for messages.
        given: the live layer, or a state dict.
        config: the model's configuration (an object or a dict); a live layer brings its own.
        prefix: what the names of the state dict begin with.
        kinds: classes of transformers that are computed as we compute them.
        model_type: the same in a configuration.
        projections: names of the layer's projections.
        ignored: names in a state dict that are no part of the attention, by their first word.
    """

    def __init__(
        self,
        caller: str,
        given: Any,
        config: Any,
        prefix: str,
        *,
        kinds: tuple[str, ...],
        model_type: str,
        projections: tuple[str, ...],
        ignored: tuple[str, ...] = (),
    ) -> None:
        self.caller, self.given, self.prefix = caller, given, prefix
        self.live = isinstance(given, nn.Module)
        if self.live:
            check_kind(caller, given, kinds)
            # a BertAttention has none itself, but its halves have
            self.config = given.config if hasattr(given, "config") else given.self.config
        elif isinstance(given, Mapping):
            self.config = config
            if config is None:
                raise InputError(
                    f"{caller}: a state dict does not say how many heads there are: pass config= "
                    "too (the model's config, or its config.json as a dict)."
                )
            self._check_names(projections, ignored)
        else:
            raise DTypeError(
                f"{caller} reads {kinds[0]} (transformers) or its state dict; got "
                f"{type(given).__name__}."
            )
        came = self.setting("model_type", model_type)
        if came != model_type:
            raise InputError(
                f"{caller} reads the attention of {model_type} models; this config is of {came!r}."
            )

    def setting(self, name: str, default: Any = None) -> Any:
        """An entry of the configuration; the default where there is none, or None."""
        if isinstance(self.config, Mapping):
            value = self.config.get(name)
        else:
            value = getattr(self.config, name, None)
        return default if value is None else value

    def projection(self, name: str, *, transposed: bool = False) -> Projection:
        """A projection by its name; ``transposed``: a state dict holds its weight as (in, out)."""
        if self.live:
            linear = self.given
            for part in name.split("."):
                linear = getattr(linear, part)
            return own_projection(self.caller, name, linear)
        weight = self.given[f"{self.prefix}{name}.weight"]
        bias = self.given.get(f"{self.prefix}{name}.bias")
        return Projection(
            weight.detach().mT if transposed else weight.detach(),
            None if bias is None else bias.detach(),
            (is_trained(weight), is_trained(bias)),
        )

    def _check_names(self, projections: tuple[str, ...], ignored: tuple[str, ...]) -> None:
        wanted = [f"{self.prefix}{name}.weight" for name in projections]
        known = {*wanted, *(f"{self.prefix}{name}.bias" for name in projections)}
        missing = [name for name in wanted if name not in self.given]
        if missing:
            ends = [str(name) for name in self.given if str(name).endswith(f"{wanted[0]}")]
            hint = f" Say prefix={ends[0].removesuffix(wanted[0])!r}?" if ends else ""
            raise InputError(f"{self.caller}: the state dict has no {', '.join(missing)}.{hint}")
        more = [
            name
            for name in self.given
            if name.startswith(self.prefix)
            and name not in known
            and not name.removeprefix(self.prefix).startswith(ignored)
        ]
        if more:
            raise InputError(
                f"{self.caller}: the state dict also has {', '.join(more)}, of which this "
                "conversion knows nothing: it is the attention of another model, or more than one "
                "layer (say which with prefix=)."
            )


def check_kind(caller: str, layer: nn.Module, kinds: tuple[str, ...]) -> None:
    """Refuse a layer of another class: it may compute something else by the same names.

    Raises:
        DTypeError: naming the class that came.
    """
    kind = type(layer)
    if kind.__name__ not in kinds or not kind.__module__.startswith("transformers."):
        raise DTypeError(f"{caller} reads {kinds[0]} (transformers); got {kind.__name__}.")


def write(caller: str, layer: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy tensors into a layer's parameters, in its dtype and on its device; all, or none.

    Raises:
        ShapeError: naming the first parameter that has another shape.
    """
    targets = {name: layer.get_parameter(name) for name in tensors}
    for name, tensor in tensors.items():
        if targets[name].shape != tensor.shape:
            raise ShapeError(
                f"{caller}: the layer's {name} has shape {tuple(targets[name].shape)}, and this "
                f"module makes {tuple(tensor.shape)}."
            )
    with torch.no_grad():
        for name, tensor in tensors.items():
            targets[name].copy_(tensor)
