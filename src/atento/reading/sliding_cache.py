"""Keys that a sliding cache has let go: a call is put on the axis of all keys that ever were."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from atento._arrays import to_numpy
from atento._errors import EngineError
from atento.masks import Causal, Explicit, KeyPadding, Mask, Prefix, Rule, Window
from atento.masks.mask import Both
from atento.reading.call import AttentionCall
from atento.reading.key_prints import came_from, latest_prints, prints_of

__all__ = ["SlidingCaches"]


class SlidingCaches:
    """How far each layer has come, and its last key: enough to see that a call continues it.

    A cache that holds only the last keys (a window) hands on fewer than there were. Where the key
    before a call's new ones is, to the bit, the last one that the layer has seen, and fewer keys
    come than have passed, those missing are put in front again, hidden. Batch items may have
    changed places: what the cache still holds tells from which one each goes on.
    """

    def __init__(self) -> None:
        self.reached: dict[str, _Reached] = {}

    def whole(self, call: AttentionCall, keys: Callable[[], Any]) -> AttentionCall:
        """The call with as many keys as have passed.

        Args:
            call: its ``layer`` says whose.
            keys: makes the layer's keys so far, as NumPy's (batch, head, key, feature), or None.

        Raises:
            EngineError: where the mask cannot be put on the longer axis.
        """
        if call.kind != "self":
            return call
        if call.whole:  # a capture around this one, or its interventions, have seen to it
            return call
        known = self._gone_on_from(call)
        if known is not None:
            call = _with_keys_in_front(call, known.count - call.first_query, keys(), known.places)
        call = replace(call, whole=True)
        last = call.first_query + call.query.shape[2]
        if 0 < last <= call.key.shape[2]:
            prints = prints_of(call.key[:, :, :last])
            if known is not None:
                prints = latest_prints(known.prints, prints)
            self.reached[call.layer] = _Reached(
                last, call.key[:, :, last - 1].detach().clone(), prints
            )
        return call

    def _gone_on_from(self, call: AttentionCall) -> "_Reached | None":
        """What the layer had seen before, its items in the call's places; None: no key is gone."""
        known, before = self.reached.get(call.layer), call.first_query
        if known is None or not before or before >= known.count:
            return None
        held = call.key[:, :, before - 1]
        if held.shape != known.last.shape or held.dtype != known.last.dtype:
            return None
        alike = (held[:, None] == known.last).flatten(2).all(-1)  # (batch, batch of before)
        if not alike.any(-1).all():
            return None
        return known.moved(prints_of(call.key[:, :, :before]), to_numpy(alike))


@dataclass(frozen=True, eq=False)
class _Reached:
    """What a layer has seen.

    Attributes:
        count: of keys.
        last: the last of them, (batch, key head, feature).
        prints: of all of them.
        places: which item's keys these were; None: each its own.
    """

    count: int
    last: torch.Tensor
    prints: npt.NDArray[Any]
    places: list[int] | None = None

    def moved(self, held: npt.NDArray[Any], alike: npt.NDArray[Any]) -> "_Reached":
        """The same with its items where those of a cache are: `came_from` by the keys it holds."""
        places = came_from(self.prints[:, self.count - held.shape[1] :], held, alike)
        if places is None:
            return self
        return _Reached(self.count, self.last[places], self.prints[places], places)


def _with_keys_in_front(
    call: AttentionCall, missing: int, known: Any, places: list[int] | None
) -> AttentionCall:
    batch, heads, _, features = call.key.shape
    front = call.key.new_zeros(batch, heads, missing, features)
    if known is not None and known.shape[1] == heads:
        # A boost may have added features behind.
        known = known if places is None else known[places]
        front = torch.from_numpy(np.array(known[:, :, :missing, :features])).to(call.key)
    unused = call.value.new_zeros(*call.value.shape[:2], missing, call.value.shape[3])
    bias = call.bias
    if bias is not None and bias.shape[-1] > 1:
        bias = torch.nn.functional.pad(bias, (missing, 0))
    hidden = ~Prefix(missing)
    own = None if call.mask is None else _moved(call.mask, missing)
    return replace(
        call,
        key=torch.cat([front, call.key], dim=2),
        value=torch.cat([unused, call.value], dim=2),
        mask=hidden if own is None else own & hidden,
        bias=bias,
        first_query=call.first_query + missing,
    )


def _moved(mask: Mask, missing: int) -> Mask:
    """The mask where so many keys stand in front; what it says of those does not count."""
    if isinstance(mask, Both):
        return _moved(mask.first, missing) & _moved(mask.second, missing)
    if isinstance(mask, Causal | Window) and mask.align == "end":
        return mask
    if isinstance(mask, KeyPadding):
        keep = to_numpy(mask.keep)
        return KeyPadding(np.pad(keep, [(0, 0)] * (keep.ndim - 1) + [(missing, 0)]))
    if isinstance(mask, Explicit):
        array = to_numpy(mask.array)
        if array.shape[-1] == 1:
            return mask
        return Explicit(np.pad(array, [(0, 0)] * (array.ndim - 1) + [(missing, 0)]))
    if isinstance(mask, Rule):
        own = mask.f

        def attends(batch: Any, head: Any, query: Any, key: Any) -> Any:
            return (key >= missing) & own(batch, head, query, np.maximum(key - missing, 0))

        return Rule(attends)
    raise EngineError(
        f"a cache that holds only the last keys cannot be read under the mask {mask!r}: run the "
        "model with use_cache=False, or in one pass."
    )
