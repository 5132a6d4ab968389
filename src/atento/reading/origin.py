"""Origin: what a captured model was called with, so that it can be run again."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch

from atento._errors import InputError

if TYPE_CHECKING:
    from atento.reading.call import AttentionCall
    from atento.reading.effect import Effect
    from atento.reading.recording import Recording
    from atento.reading.sweep import Sweep
    from atento.reading.watching import Place

__all__ = ["Origin", "noted"]

CACHES = ("past_key_values", "past_key_value", "layer_past", "kv_cache", "cache", "cache_params")
"""Arguments in which models are given a cache."""

GENERATED = (
    "the recording goes on from a cache, token by token, which cannot be run again: record the "
    "whole text in one call of the model."
)


class Origin:
    """The outermost call of a captured model.

    The model is held weakly. Where the call is pickled or copied, None is left of it.

    Args:
        root: the model that is captured.
        module: the one that was called, the root or a part of it.
        args, kwargs: what it was called with.
    """

    def __init__(
        self,
        root: torch.nn.Module,
        module: torch.nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self._root, self._module = weakref.ref(root), weakref.ref(module)
        self.latest: dict[str, Any] | None = kwargs
        self.has_cache = any(_is_cache(name, value) for name, value in _named(args, kwargs))
        self.args = tuple(None if _is_cache("", value) else value for value in args)
        self.kwargs = {k: v for k, v in kwargs.items() if not _is_cache(k, v)}
        self._versions = [(each, _version(each)) for each in _tensors((args, self.kwargs))]
        self.why_not: str | None = None
        kinds = {"cpu", *(each.device.type for each in root.parameters())}
        self._autocast = {kind: _autocast_dtype(kind) for kind in sorted(kinds)}

    @property
    def root(self) -> torch.nn.Module:
        """The captured model.

        Raises:
            InputError: when it is gone.
        """
        return _there(self._root)

    @property
    def module(self) -> torch.nn.Module:
        """The module that was called."""
        return _there(self._module)

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """Autocast as it was when the model was called: on, with its dtype, or off."""
        with ExitStack() as stack:
            for kind, dtype in self._autocast.items():
                on = dtype is not None
                if on or _autocast_dtype(kind) is not None:
                    stack.enter_context(torch.autocast(kind, dtype=dtype, enabled=on))
            yield

    def effect(self, recording: Recording, *asked: Any) -> Effect:
        """The effect of interventions; see `Recording.effect`."""
        from atento.reading.measuring import effect_of

        self.check()
        return effect_of(recording, self, *asked)

    def sweep(self, recording: Recording, *asked: Any) -> Sweep:
        """The effect of each head; see `Recording.sweep`."""
        from atento.reading.sweeping import sweep_of

        self.check()
        return sweep_of(recording, self, *asked)

    def check(self) -> None:
        """See that the call can be made again.

        Raises:
            InputError: why it cannot.
        """
        if self.why_not is not None:
            raise InputError(self.why_not)
        if any(_version(each) != version for each, version in self._versions):
            raise InputError(
                "what the model was called with has been written to since: capture it again."
            )
        name = _dropping(self.module)
        if name is not None:
            raise InputError(
                f"{name} drops at random, so that two runs differ by that too: call model.eval(), "
                "and capture again."
            )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()


def noted(
    origin: Origin | None,
    paths: Mapping[torch.nn.Module, str],
    place: Place,
    call: AttentionCall,
) -> Origin | None:
    """The origin of a recording, which its first call is, when another call of attention came.

    Args:
        origin: that noted so far.
        paths: the names of the captured model's modules.
        place: where attention is called.
        call: that attention.
    """
    outermost = next((each for each in place.modules if each[0] in paths), None)
    if outermost is None:
        return origin
    module, args, kwargs = outermost
    own = origin
    if own is None or own.latest is not kwargs:
        own = Origin(next(iter(paths)), module, args, kwargs)
        if origin is not None:
            origin.latest = kwargs
    if own.has_cache and call.kind == "self" and call.first_query > 0:
        (origin or own).why_not = GENERATED
    return origin or own


def _there(reference: Any) -> torch.nn.Module:
    module: torch.nn.Module | None = reference()
    if module is None:
        raise InputError("the model that was captured is gone: keep it to run it again.")
    return module


def _named(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from (("", value) for value in args)
    yield from kwargs.items()


def _is_cache(name: str, value: Any) -> bool:
    if value is None or isinstance(value, bool | torch.Tensor):
        return False
    return name in CACHES or hasattr(value, "get_seq_length")


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _tensors(list(value.values()))
    elif isinstance(value, Iterable) and not isinstance(value, str | bytes | Iterator):
        for each in value:
            if each is not value:
                yield from _tensors(each)


def _autocast_dtype(kind: str) -> torch.dtype | None:
    """What autocast makes of float32 on this kind of device; None where it is off."""
    on = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.get_autocast_dtype(kind) if on else None


def _version(tensor: torch.Tensor) -> int | None:
    """How often the tensor was written to; None where torch does not count it."""
    return None if tensor.is_inference() else tensor._version


def _dropping(model: torch.nn.Module) -> str | None:
    """A module in training with a probability of dropping, by its attributes."""
    for name, module in model.named_modules():
        if not module.training:
            continue
        for attribute, value in vars(module).items():
            said = "drop" in attribute or (attribute == "p" and "Dropout" in type(module).__name__)
            if said and isinstance(value, float) and value > 0:
                return name or type(model).__name__
    return None
