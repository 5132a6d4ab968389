"""What one thread's captures share: the mode that sees torch's functions, and where a call stands.

Nothing is hung on a model. Torch's functions are seen through a `TorchFunctionMode`, which belongs
to one thread; the module that calls is found on the stack of Python frames. What has to be changed
for all threads (`patched`) asks first whether the own thread is watching, and is put back when the
last capture of the process ends.
"""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from atento._errors import AtentoError
from atento.masks import Mask
from atento.reading.call import AttentionCall

__all__ = ["Inner", "KnownMask", "Place", "Watch", "current", "patched", "watching"]

_of_thread = threading.local()
_lock = threading.RLock()
_patches: list[Callable[[], Callable[[], None]]] = []
_undo: list[Callable[[], None]] = []
_watchers = 0

_CALLS = {torch.nn.Module._wrapped_call_impl.__code__, torch.nn.Module._call_impl.__code__}


class Listener(Protocol):
    """A capture, as the ways in see it."""

    def name_of(self, place: "Place") -> str | None:
        """The path of the innermost module of the captured model; None where none is called."""

    def observe(self, call: AttentionCall, place: "Place", lse: Any) -> torch.Tensor | None:
        """Keep the call; an output instead of the model's own, or None."""

    def skip(self, layer: str, error: AtentoError) -> None:
        """A layer that cannot be read."""


@dataclass(frozen=True, eq=False)
class Place:
    """Where a call stands: the modules that are being called, outermost first.

    Attributes:
        modules: (module, its positional and its keyword arguments).
    """

    modules: tuple[tuple[torch.nn.Module, tuple[Any, ...], dict[str, Any]], ...]

    @staticmethod
    def here(module: torch.nn.Module | None = None) -> "Place":
        """From the frames of this thread; with `module` within, where that is known already."""
        found: list[tuple[torch.nn.Module, tuple[Any, ...], dict[str, Any]]] = []
        frame = sys._getframe(1)
        while frame is not None:
            if frame.f_code in _CALLS:
                own = frame.f_locals
                if not found or found[-1][0] is not own["self"]:
                    found.append((own["self"], own["args"], own["kwargs"]))
            frame = frame.f_back  # type: ignore[assignment]
        if module is not None and not (found and found[0][0] is module):
            found.insert(0, (module, (), {}))
        return Place(tuple(reversed(found)))


@dataclass(frozen=True, eq=False)
class KnownMask:
    """The rule that a model's mask tensor was made from.

    Attributes:
        rule: None where everybody sees everybody.
        first_query: the position of query 0 on the keys' axis.
    """

    rule: Mask | None
    first_query: int


@dataclass(eq=False)
class Inner:
    """What the kernel was called with, within a function of transformers."""

    lse: torch.Tensor | None = None
    key_length: int = 0
    scale: float | None = None
    causal: bool = False
    calls: int = 0


@dataclass(eq=False)
class Watch:
    """What the captures of one thread share.

    Attributes:
        listeners: the captures, outermost first.
        masks: what is known of the mask tensors that transformers has made.
        readings: what other mask tensors were found to say, and at which version of the tensor.
        copies: NumPy copies of biases that several layers share.
        written: how scores that are being written out came to be.
        inner: set while a function of transformers runs that will call the kernel.
        quiet: set while what runs is ours, or is recorded as a whole.
    """

    listeners: list[Listener] = field(default_factory=list)
    masks: Any = field(default_factory=WeakIdKeyDictionary)
    readings: Any = field(default_factory=WeakIdKeyDictionary)
    copies: Any = field(default_factory=WeakIdKeyDictionary)
    written: Any = field(default_factory=WeakIdKeyDictionary)
    mode: Any = None
    inner: Inner | None = None
    quiet: bool = False

    def hears(self, place: Place) -> list[Listener]:
        """The captures whose model is being called there."""
        return [each for each in self.listeners if each.name_of(place) is not None]

    def observe(self, call: AttentionCall, place: Place, lse: Any = None) -> torch.Tensor | None:
        """Hand a call to every capture; an output instead of the model's own, or None."""
        from atento.reading.log_sum_exp import log_sum_exp

        changed = None
        hearing = self.hears(place)
        with self.silence(), torch.no_grad(), torch._C.DisableTorchFunction():
            if hearing and lse is None:
                lse = log_sum_exp(call)
            for each in hearing:
                made = each.observe(call, place, lse)
                changed = changed if made is None else made
        return changed

    def refuse(self, place: Place, error: AtentoError) -> None:
        """Tell every capture that what is called there cannot be read.

        Raises:
            AtentoError: the error, where a capture is strict.
        """
        for each in self.hears(place):
            each.skip(each.name_of(place) or "", error)

    @contextmanager
    def silence(self) -> Iterator[None]:
        """Nothing that runs within is observed."""
        before, self.quiet = self.quiet, True
        try:
            yield
        finally:
            self.quiet = before

    @contextmanager
    def within(self, inner: Inner) -> Iterator[None]:
        """What runs within is recorded as a whole, by whoever asks."""
        before, self.inner = self.inner, inner
        try:
            yield
        finally:
            self.inner = before


def current() -> Watch | None:
    """The watch of this thread, where one is on and not silenced."""
    watch: Watch | None = getattr(_of_thread, "watch", None)
    return None if watch is None or watch.quiet else watch


def patched(patch: Callable[[], Callable[[], None]]) -> Callable[[], Callable[[], None]]:
    """Register a change that is made while anything in the process is captured.

    The function makes the change, and returns the one that undoes it.
    """
    _patches.append(patch)
    return patch


@contextmanager
def watching(listener: Listener) -> Iterator[Watch]:
    """This thread is watched for the listener."""
    watch: Watch | None = getattr(_of_thread, "watch", None)
    outermost = watch is None
    if watch is None:
        watch = Watch()
        watch.mode = Mode(watch)
    _install()
    try:
        watch.listeners.append(listener)
        _of_thread.watch = watch
        if outermost:
            with watch.mode:
                yield watch
        else:
            yield watch
    finally:
        watch.listeners.remove(listener)
        if outermost:
            _of_thread.watch = None
        _uninstall()


def _install() -> None:
    global _watchers
    with _lock:
        _watchers += 1
        if _watchers == 1:
            _undo.extend(patch() for patch in _patches)


def _uninstall() -> None:
    global _watchers
    with _lock:
        _watchers -= 1
        if not _watchers:
            while _undo:
                _undo.pop()()


class Mode(TorchFunctionMode):
    """Sees the functions of torch that this thread calls."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self.watch = watch

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Hand the functions that the ways in know to them; call all others."""
        del types
        from atento.reading.ways.functions import WAYS

        way = None if self.watch.quiet else WAYS.get(getattr(func, "__name__", ""))
        if way is None:
            return func(*args, **(kwargs or {}))
        return way(self.watch, func, args, kwargs or {})
