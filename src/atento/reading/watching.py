"""What one thread's captures share: the mode that sees torch's functions, and where a call stands.

Nothing is hung on a model. Torch's functions are seen through a `TorchFunctionMode`, which belongs
to one thread; the module that calls is found on the stack of Python frames. What has to be changed
for all threads (`patched`) asks first whether the own thread is watching, and is put back when the
last capture of the process ends.
"""

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
import torch.utils.checkpoint
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from atento._errors import AtentoError
from atento.equation.computed import Computed
from atento.masks import Mask
from atento.reading.call import AttentionCall

__all__ = [
    "Inner",
    "KnownMask",
    "Listener",
    "Place",
    "Watch",
    "current",
    "only",
    "patched",
    "watching",
]

_of_thread = threading.local()
_lock = threading.RLock()
_patches: list[Callable[[], Callable[[], None]]] = []
_undo: list[Callable[[], None]] = []
_watchers = 0

CHECKPOINT = torch.utils.checkpoint.__file__
_CALLS = {torch.nn.Module._wrapped_call_impl.__code__, torch.nn.Module._call_impl.__code__}


class Listener(Protocol):
    """A capture, as the ways in see it.

    Attributes:
        records: whether it keeps what it observes, and needs the log-sum-exp for it.
    """

    records: bool

    def name_of(self, place: "Place") -> str | None:
        """The path of the innermost module of the captured model; None where none is called."""

    def intervene(self, calls: Sequence[AttentionCall], place: "Place") -> Sequence[AttentionCall]:
        """The calls, each of which stands for the same attention, with its interventions."""

    def observe(self, call: AttentionCall, place: "Place", lse: Any) -> None:
        """Keep the call, as all interventions left it."""

    def skip(self, layer: str, error: AtentoError) -> None:
        """A layer that cannot be read."""


@dataclass(frozen=True, eq=False)
class Place:
    """Where a call stands: the modules that are being called, outermost first.

    Attributes:
        modules: (module, its positional and its keyword arguments).
        checkpointed: whether the modules may run once more, in the backward pass.
    """

    modules: tuple[tuple[torch.nn.Module, tuple[Any, ...], dict[str, Any]], ...]
    checkpointed: bool = False

    @staticmethod
    def here(module: torch.nn.Module | None = None) -> "Place":
        """From the frames of this thread; with `module` within, where that is known already."""
        found: list[tuple[torch.nn.Module, tuple[Any, ...], dict[str, Any]]] = []
        checkpointed = False
        frame = sys._getframe(1)
        while frame is not None:
            if frame.f_code.co_filename == CHECKPOINT:
                checkpointed = True
            if frame.f_code in _CALLS:
                own = frame.f_locals
                if not found or found[-1][0] is not own["self"]:
                    found.append((own["self"], own["args"], own["kwargs"]))
            frame = frame.f_back  # type: ignore[assignment]
        if module is not None and not (found and found[0][0] is module):
            found.insert(0, (module, (), {}))
        return Place(tuple(reversed(found)), checkpointed)


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
    dtype: torch.dtype | None = None
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
        softmaxes: the latest module's call that took one, and (query, key) of each it took.
        inner: set while a function of transformers runs that will call the kernel.
        quiet: set while what runs is ours, or is recorded as a whole.
    """

    listeners: list[Listener] = field(default_factory=list)
    masks: Any = field(default_factory=WeakIdKeyDictionary)
    readings: Any = field(default_factory=WeakIdKeyDictionary)
    copies: Any = field(default_factory=WeakIdKeyDictionary)
    written: Any = field(default_factory=WeakIdKeyDictionary)
    softmaxes: tuple[Any, list[tuple[int, int]]] = (None, [])
    mode: Any = None
    inner: Inner | None = None
    quiet: bool = False

    def hears(self, place: Place) -> list[Listener]:
        """The captures whose model is being called there."""
        return [each for each in self.listeners if each.name_of(place) is not None]

    def observe(
        self,
        call: AttentionCall,
        place: Place,
        made: Computed,
        scores: AttentionCall | None = None,
    ) -> Computed | None:
        """Hand a call to every capture, the outermost first.

        Each may change it, and then each records what the model goes on with.

        Args:
            call: what the model's own function was called with.
            place: where.
            made: what that function made: output (batch, head, query, feature), or None where
                only weights are seen, log-sum-exp and weights, where they are known.
            scores: the same attention by the model's own scores, for what is made of it anew.

        Returns:
            What the model goes on with instead, where an intervention has changed something.
        """
        hearing = self.hears(place)
        with self.silence(), torch._C.DisableTorchFunction():
            calls: Sequence[AttentionCall] = [call] if scores is None else [call, scores]
            for each in hearing:
                calls = each.intervene(calls, place)
            changed = _changed(calls[-1], made)
            call = calls[0]
            lse = made.lse if changed is None else changed.lse
            with torch.no_grad():
                if lse is None and any(each.records for each in hearing):
                    lse = _log_sum_exp(call)
                for each in hearing:
                    each.observe(call, place, lse)
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


def _changed(call: AttentionCall, made: Computed) -> Computed | None:
    if not (call.changed or call.knocked_out):
        return None
    from atento.reading.interventions.recomputed import recomputed

    return recomputed(call, made)


def _log_sum_exp(call: AttentionCall) -> torch.Tensor:
    from atento.reading.log_sum_exp import log_sum_exp

    return log_sum_exp(call)


def current() -> Watch | None:
    """The watch of this thread, where one is on, and what runs is to be seen."""
    watch: Watch | None = getattr(_of_thread, "watch", None)
    if watch is None or watch.quiet:
        return None
    # In a backward pass: a checkpointed layer runs once more, and torch takes the mode away.
    return None if torch._C._current_graph_task_id() != -1 else watch


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


@contextmanager
def only(listener: Listener) -> Iterator[Watch]:
    """This thread is watched for the listener alone: captures that are on do not see what runs."""
    before: Watch | None = getattr(_of_thread, "watch", None)
    with nullcontext() if before is None else before.silence():
        _of_thread.watch = None
        try:
            with watching(listener) as watch:
                yield watch
        finally:
            _of_thread.watch = before


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
