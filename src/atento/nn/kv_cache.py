"""KVCache: the keys and values of the tokens that have passed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from atento._errors import DTypeError, InputError, ShapeError
from atento.nn.checks import whole

__all__ = ["KVCache"]


class KVCache:
    """Keys and values of earlier tokens, so that a decoder computes each of them once.

    One cache belongs to one attention layer and one batch of sequences. It never changes a result:
    token by token, or in chunks of any size, a causal module gives what one pass over the whole
    sequence gives. Keys are kept as the module scores them (normalised, rotated).

    Args:
        window: how many of the last tokens are kept; every query then sees its own token and at
            most ``window − 1`` before it, as with ``Window(left=window − 1)``. None: all are kept.
        max_length: how many tokens may pass in all; room for them is made at once. None: no limit,
            and room doubles when it runs out, so that an append costs only what it brings.

    Shapes: keys (batch, key head, token, feature), values the same with features of their own.

    What `append` has given out is never written to again. While gradients are recorded, appending
    copies what is kept (a graph may still need the old arrays); decode under ``torch.no_grad()``.

    Attributes:
        num_tokens: how many tokens have passed in all; the position of the next one.
        length: how many of them are kept.

    >>> cache = KVCache()
    >>> keys, values = cache.append(torch.zeros(2, 3, 5, 7), torch.zeros(2, 3, 5, 11))
    >>> keys, values = cache.append(torch.ones(2, 3, 1, 7), torch.ones(2, 3, 1, 11))
    >>> keys.shape, cache.num_tokens
    (torch.Size([2, 3, 6, 7]), 6)
    """

    def __init__(self, window: int | None = None, max_length: int | None = None) -> None:
        self.window = None if window is None else whole("KVCache", "window", window)
        self.max_length = None if max_length is None else whole("KVCache", "max_length", max_length)
        self.reset()

    def reset(self) -> None:
        """Forget everything: the next token is the first of new sequences."""
        self.num_tokens = 0
        # Tokens start … stop of the buffers (..., head, room, feature) are the ones kept.
        self._buffers: tuple[Tensor, Tensor] | None = None
        self._start = self._stop = 0

    @property
    def length(self) -> int:
        """How many tokens are kept."""
        return self._stop - self._start

    @property
    def keys(self) -> Tensor:
        """The keys kept: (..., head, token, feature)."""
        return self._kept()[0]

    @property
    def values(self) -> Tensor:
        """The values kept: (..., head, token, feature)."""
        return self._kept()[1]

    def append(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Add the keys and values of new tokens.

        Args:
            key: (..., head, token, feature).
            value: the same, with its own number of features.

        Returns:
            keys and values of all tokens kept so far and of the new ones; of a window, those that
            any of the new tokens may see.

        Raises:
            ShapeError: when the batch, the heads or the features are others than before.
            DTypeError: when the dtype or the device is.
            InputError: when more than max_length tokens would have passed.
        """
        self._check(key, value)
        new = key.shape[-2]
        if self._buffers is None:
            # Empty, and of the right kind: what follows needs no special case.
            self._buffers = (key[..., :0, :].detach(), value[..., :0, :].detach())
        if torch.is_grad_enabled():
            # A graph may hold what was given out, and would notice a write beside it.
            self._buffers = (
                torch.cat((self._kept()[0], key), -2),
                torch.cat((self._kept()[1], value), -2),
            )
            self._start, self._stop = 0, self.length
        else:
            self._make_room(new)
            for buffer, array in zip(self._buffers, (key, value), strict=True):
                buffer[..., self._stop : self._stop + new, :] = array
        self._stop += new
        self.num_tokens += new
        if self.window is None:
            return self._kept()
        self._start = max(self._start, self._stop - (self.window - 1 + new))
        in_sight = self._kept()
        self._start = max(self._start, self._stop - self.window)
        return in_sight

    def reorder(self, indices: Any) -> None:
        """Let each sequence of the batch go on from another: ``new[b] = old[indices[b]]``.

        For beam search. There may be more or fewer indices than sequences: one prompt, read once,
        becomes the start of all its beams by ``reorder([0] * beams)``.

        Args:
            indices: (batch,) whole numbers.

        Raises:
            InputError: when the cache is empty or holds no batch.
            ShapeError, DTypeError: when indices are not such numbers.
        """
        if self._buffers is None:
            raise InputError("KVCache: nothing to reorder: no token has passed yet.")
        batch = self._buffers[0].shape[0]
        if self._buffers[0].ndim < 4:
            raise InputError(
                "KVCache: reorder chooses among the sequences of a batch, and this cache holds one "
                "sequence without a batch axis: pass (batch, token, feature) to the module."
            )
        chosen = torch.as_tensor(indices, device=self._buffers[0].device)
        if chosen.is_floating_point() or chosen.is_complex() or chosen.dtype == torch.bool:
            raise DTypeError(
                f"KVCache: reorder takes whole numbers, one per sequence; got {chosen.dtype}."
            )
        if chosen.ndim != 1:
            raise ShapeError(
                f"KVCache: reorder takes the axis (batch,); got shape {tuple(chosen.shape)}."
            )
        if bool(((chosen < 0) | (chosen >= batch)).any()):
            raise ShapeError(
                f"KVCache: reorder takes numbers from 0 to {batch - 1}, for the {batch} sequences "
                f"of the cache; got {chosen.tolist()}."
            )
        keys, values = self._kept()
        self._buffers = (keys.index_select(0, chosen), values.index_select(0, chosen))
        self._start, self._stop = 0, self.length

    @contextmanager
    def undone_on_error(self) -> Iterator[None]:
        """Within, an error takes back what was appended: a call can be corrected and repeated."""
        before = (self.num_tokens, self._buffers, self._start, self._stop)
        try:
            yield
        except BaseException:
            self.num_tokens, self._buffers, self._start, self._stop = before
            raise

    def _kept(self) -> tuple[Tensor, Tensor]:
        if self._buffers is None:
            raise InputError("KVCache: it is empty: no token has passed yet.")
        keys, values = (buffer[..., self._start : self._stop, :] for buffer in self._buffers)
        return keys, values

    def _make_room(self, new: int) -> None:
        """Buffers with room for ``new`` more tokens; nothing given out is moved or overwritten."""
        assert self._buffers is not None  # noqa: S101 - for mypy: append has made them
        needed = self.length + new
        usable = torch.is_inference_mode_enabled() or not self._buffers[0].is_inference()
        if usable and self._stop + new <= self._buffers[0].shape[-2]:
            return
        room = 2 * needed
        if self.max_length is not None:
            left = self.max_length - self.num_tokens  # as many tokens may still come
            room = self.length + left if self.window is None else min(room, self.length + left)
        grown = []
        for kept, buffer in zip(self._kept(), self._buffers, strict=True):
            larger = buffer.new_empty((*buffer.shape[:-2], room, buffer.shape[-1]))
            larger[..., : self.length, :] = kept
            grown.append(larger)
        self._buffers = (grown[0], grown[1])
        self._start, self._stop = 0, self.length

    def _check(self, key: Tensor, value: Tensor) -> None:
        if key.ndim < 3 or key.shape[:-1] != value.shape[:-1]:
            raise ShapeError(
                "KVCache: key and value have the axes (..., head, token, feature), of the same "
                f"heads and tokens; got {tuple(key.shape)} and {tuple(value.shape)}."
            )
        new = key.shape[-2]
        if self.max_length is not None and self.num_tokens + new > self.max_length:
            raise InputError(
                f"KVCache: at most max_length = {self.max_length} tokens may pass; "
                f"{self.num_tokens} have, and {new} more came. Make it longer, or reset() it."
            )
        if self._buffers is None:
            return
        for name, array, buffer in zip(
            ("keys", "values"), (key, value), self._buffers, strict=True
        ):
            then, now = _sizes(buffer), _sizes(array)
            if then != now:
                raise ShapeError(
                    f"KVCache: it holds {name} of {then}; {name} of {now} came. One "
                    "cache belongs to one layer and one batch of sequences: reset() it for new "
                    "ones, or reorder() it to choose among them."
                )
            for what, before, came in (
                ("dtype", buffer.dtype, array.dtype),
                ("device", buffer.device, array.device),
            ):
                if before != came:
                    raise DTypeError(
                        f"KVCache: it holds {name} of {what} {before}; {name} of {what} {came} "
                        f"came. Stay with one {what}, or reset() it."
                    )

    def __repr__(self) -> str:
        said = [f"{self.length} of {self.num_tokens} tokens"]
        said += [] if self.window is None else [f"window={self.window}"]
        said += [] if self.max_length is None else [f"max_length={self.max_length}"]
        return f"KVCache({', '.join(said)})"


def _sizes(array: Tensor) -> str:
    """What must stay, in words: every size but the tokens'."""
    *batch, heads, _, features = array.shape
    leading = f"batch {', '.join(map(str, batch))}" if batch else "no batch axis"
    return f"{leading}, {heads} heads, {features} features"
