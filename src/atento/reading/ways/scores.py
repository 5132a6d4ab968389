"""How scores that a model writes out came to be, followed step by step.

The product of two activations, what multiplies it, what is added to it, what is masked: each
function that may stand between the product and the softmax is one of `STEPS`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

import torch

from atento.reading.watching import Watch

__all__ = ["STEPS", "Scores", "write"]

COPIES = ("clone", "contiguous")
"""Functions after which a mask still says what it was made to say."""


@dataclass(frozen=True, eq=False)
class Scores:
    """How a tensor of scores was made: ``softcap(query keyᵀ · scale) + added``.

    Attributes:
        query: (..., query, feature).
        key: (..., key, feature).
        added: tensors that broadcast to the scores, in the shape the scores had then, each with
            the factor that has come upon it since; of bool: those that are False are hidden.
        bounded: whether tanh was taken, and the factor that makes it a softcap is still to come.
    """

    query: torch.Tensor
    key: torch.Tensor
    scale: float = 1.0
    added: tuple[tuple[torch.Tensor, float], ...] = ()
    softcap: float | None = None
    bounded: bool = False


def write(watch: Watch, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """One step: computed, and followed where scores are in it."""
    result = func(*args, **kwargs)
    if func.__name__ in COPIES and args and args[0] in watch.masks:
        watch.masks[result] = watch.masks[args[0]]
    if watch.inner is None and isinstance(result, torch.Tensor):
        try:
            scores = STEPS[func.__name__](watch.written, args, kwargs)
        except (IndexError, KeyError, TypeError, ValueError):  # not a form that is known
            scores = None
        if scores is not None:
            watch.written[result] = scores
        elif result in watch.written:  # written into, in a way that is not known
            del watch.written[result]
    return result


def _product(written: Any, args: Any, kwargs: Any) -> Scores | None:
    del written, kwargs
    return _scores(args[0], args[1].transpose(-1, -2))


def _product_and_bias(written: Any, args: tuple[Any, ...], kwargs: Any) -> Scores | None:
    del written
    names = ("input", "batch1", "batch2")
    given, first, second = [*args, *(kwargs[name] for name in names[len(args) :])]
    scores = _scores(first, second.transpose(-1, -2))
    if scores is None:
        return None
    beta, alpha = kwargs.get("beta", 1), kwargs.get("alpha", 1)
    added = () if beta == 0 else ((given, float(beta)),)
    return replace(scores, scale=float(alpha), added=added)


def _einsum(written: Any, args: Any, kwargs: Any) -> Scores | None:
    del written, kwargs
    equation, first, second = args
    left, _, made = equation.replace(" ", "").partition("->")
    one, two = left.split(",")
    shared = [letter for letter in one if letter in two and letter not in made]
    if len(shared) != 1 or len(set(made)) != len(made) or "." in left:
        return None
    feature, (of_query, of_key) = shared[0], made[-2:]
    if of_query in two and of_key in one:
        one, two, first, second = two, one, second, first
    if of_query in two or of_key in one:
        return None
    return _scores(
        _ordered(first, one, made[:-2] + of_query + feature),
        _ordered(second, two, made[:-2] + of_key + feature),
    )


def _ordered(tensor: torch.Tensor, names: str, wanted: str) -> torch.Tensor:
    """The tensor with its axes in the order wanted; those that it lacks have size 1."""
    present = [name for name in wanted if name in names]
    if len(present) != len(names):
        raise ValueError(names)
    tensor = tensor.permute(*(names.index(name) for name in present))
    return tensor[tuple(slice(None) if name in names else None for name in wanted)]


def _scores(query: torch.Tensor, key: torch.Tensor) -> Scores | None:
    """None for the product with a parameter, which is a projection."""
    if query.ndim < 2 or key.ndim < 2 or query.shape[-1] != key.shape[-1]:
        return None
    if any(isinstance(_base(each), torch.nn.Parameter) for each in (query, key)):
        return None
    return Scores(query.detach(), key.detach())


def _base(tensor: torch.Tensor) -> torch.Tensor:
    base = tensor._base if tensor._is_view() else None
    return tensor if base is None else base


def _times(written: Any, args: Any, kwargs: Any) -> Scores | None:
    del kwargs
    one, other = args[:2]
    if isinstance(other, torch.Tensor) and other in written:
        one, other = other, one
    scores = written.get(one)
    return None if scores is None else _scaled(scores, _number(other))


def _over(written: Any, args: Any, kwargs: Any) -> Scores | None:
    scores = written.get(args[0])
    if scores is None or kwargs.get("rounding_mode") is not None:
        return None
    return _scaled(scores, 1 / _number(args[1]))


def _scaled(scores: Scores, factor: float) -> Scores | None:
    if scores.bounded:  # c · tanh(s · QKᵀ) = softcap(QKᵀ · c s) with softcap = c
        if factor <= 0:
            return None
        return replace(scores, softcap=factor, scale=scores.scale * factor, bounded=False)
    if scores.softcap is not None or (scores.added and factor <= 0):  # what hides would not
        return None
    added = tuple((term, own * factor) for term, own in scores.added)
    return replace(scores, scale=scores.scale * factor, added=added)


def _number(value: Any) -> float:
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        value = value.item()
    if not isinstance(value, int | float) or not isfinite(value):
        raise TypeError(value)
    return float(value)


def _bounded(written: Any, args: Any, kwargs: Any) -> Scores | None:
    del kwargs
    scores: Scores | None = written.get(args[0])
    if scores is None or scores.added or scores.softcap is not None or scores.bounded:
        return None
    return replace(scores, bounded=True)


def _plus(written: Any, args: Any, kwargs: Any) -> Scores | None:
    one, other = args[0], args[1] if len(args) > 1 else kwargs["other"]
    if isinstance(other, torch.Tensor) and other in written and one not in written:
        one, other = other, one
    scores: Scores | None = written.get(one)
    if scores is None or kwargs.get("alpha", 1) != 1 or scores.bounded:
        return None
    if not isinstance(other, torch.Tensor):
        return None
    return replace(scores, added=(*scores.added, (other, 1.0)))  # itself: its rule may be known


def _masked(written: Any, args: Any, kwargs: Any) -> Scores | None:
    scores = written.get(args[0])
    if scores is None or scores.bounded:
        return None
    mask = args[1] if len(args) > 1 else kwargs["mask"]
    value = args[2] if len(args) > 2 else kwargs["value"]
    return _with_hidden(scores, mask, value, args[0].dtype)


def _where(written: Any, args: Any, kwargs: Any) -> Scores | None:
    del kwargs
    seen, scores, value = args
    if not isinstance(scores, torch.Tensor) or scores not in written:
        return None
    return _with_hidden(written[scores], ~seen, value, scores.dtype)


def _with_hidden(scores: Scores, hidden: torch.Tensor, value: Any, dtype: Any) -> Scores | None:
    number = value.item() if isinstance(value, torch.Tensor) else float(value)
    if number > torch.finfo(dtype).min / 2:
        # A number like −10000 hides no key for certain, and what was there is lost.
        return None
    return replace(scores, added=(*scores.added, ((~hidden).detach(), 1.0)))


def _same(written: Any, args: Any, kwargs: Any) -> Scores | None:
    del kwargs
    return written.get(args[0]) if isinstance(args[0], torch.Tensor) else None


STEPS: dict[str, Callable[[Any, Any, Any], Scores | None]] = {
    **dict.fromkeys(("bmm", "matmul"), _product),
    "baddbmm": _product_and_bias,
    "einsum": _einsum,
    **dict.fromkeys(("mul", "mul_", "multiply"), _times),
    **dict.fromkeys(("div", "div_", "true_divide", "divide"), _over),
    **dict.fromkeys(("add", "add_"), _plus),
    **dict.fromkeys(("tanh", "tanh_"), _bounded),
    **dict.fromkeys(("masked_fill", "masked_fill_"), _masked),
    "where": _where,
    **dict.fromkeys(("view", "reshape", "unflatten", "flatten", "contiguous", "clone"), _same),
    **dict.fromkeys(("unsqueeze", "squeeze", "float", "to", "type", "type_as"), _same),
}
"""What may happen to scores before the softmax, by the function's name."""
