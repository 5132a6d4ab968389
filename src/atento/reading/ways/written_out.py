"""The way in for models that write the formula out: a product, and a softmax of it.

Each step on the way is followed: the product of two activations, what multiplies it, what is added
to it, what is masked. At the softmax it is then known which queries, keys, scale, bias and mask
the scores were made of, and some rows are compared with the weights that the model found. Where a
step is not known, or the rows differ, the scores themselves are kept as a bias (exact, but as
large as the weights), if the module's class is named an attention.

The weights are the model's own: its memory is not ours to save.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import isfinite, prod
from typing import Any

import torch

from atento._errors import EngineError
from atento.equation.computed import Computed
from atento.reading.call import AttentionCall
from atento.reading.layer_names import kind_of, named_attention
from atento.reading.log_sum_exp import says_weights
from atento.reading.mask_tensors import both, first_query_of, read_mask
from atento.reading.watching import Place, Watch

__all__ = ["STEPS", "normalise", "write"]

HEADS = ("num_heads", "num_attention_heads", "num_attn_heads", "n_heads", "n_head", "nhead")
"""Attributes in which modules say their number of heads."""

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


def normalise(
    watch: Watch, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> torch.Tensor:
    """One softmax: the model's own, and observed where it is that of attention."""
    weights: torch.Tensor = func(*args, **kwargs)
    given = args[0] if args else kwargs.get("input")
    axis = args[1] if len(args) > 1 else kwargs.get("dim")
    if watch.inner is not None or not isinstance(given, torch.Tensor) or given.ndim < 2:
        return weights
    if axis is None or axis % given.ndim != given.ndim - 1:
        return weights
    scores: Scores | None = watch.written.get(given)
    place = _around(Place.here())
    if not watch.hears(place):
        return weights
    changed = _observed(watch, place, given, scores, weights)
    return weights if changed is None else changed.weights.reshape(weights.shape)


def _around(place: Place) -> Place:
    """The place where a softmax that is a module of its own is called."""
    modules = place.modules
    if len(modules) > 1 and isinstance(modules[-1][0], torch.nn.Softmax):
        modules = modules[:-1]
    return replace(place, modules=modules)


def _observed(
    watch: Watch,
    place: Place,
    given: torch.Tensor,
    scores: Scores | None,
    weights: torch.Tensor,
) -> Computed | None:
    shape = _four_axes(given.shape, place)
    found = weights.detach().reshape(shape)
    call = None if scores is None else _call(watch, place, given.shape, shape, scores)
    with watch.silence():
        if call is not None and not says_weights(call, found):
            call = None
    if call is None and (given.ndim < 3 or not named_attention(place.modules[-1][0])):
        return None
    if not _in_order(given.shape, place, proven=call is not None):
        watch.refuse(place, _out_of_order(given.shape))
        return None
    if call is None:
        call = _from_scores(watch, place, given.detach().reshape(shape))
    made = Computed(None, None, weights.reshape(shape))
    return watch.observe(call, place, made, _by_scores(given.reshape(shape), call))


def _four_axes(shape: torch.Size, place: Place) -> tuple[int, int, int, int]:
    """(batch, head, query, key) of scores; two axes are those of one head.

    (batch · head, query, key) where the module says its number of heads and it fits, else one head.
    """
    *leading, Tq, Tk = shape
    if len(leading) == 1:
        heads = _heads_said(place) or 1
        if heads < 1 or leading[0] % heads:
            heads = 1
        return leading[0] // heads, heads, Tq, Tk
    return (leading[0] if leading else 1), prod(leading[1:]), Tq, Tk


def _heads_said(place: Place) -> int | None:
    """The number of heads that the module says it has."""
    said = (getattr(place.modules[-1][0], name, None) for name in HEADS)
    numbers = (each for each in said if isinstance(each, int) and not isinstance(each, bool))
    return next(numbers, None)


def _in_order(shape: torch.Size, place: Place, proven: bool) -> bool:
    """Whether scores are (batch, head, query, key), with heads in two axes if they have groups.

    Attention in blocks or windows has other axes, or these in another order.

    Args:
        shape: of the scores.
        place: its module may say the number of heads.
        proven: whether the scores are known to be products of queries and keys.
    """
    heads, leading = _heads_said(place), shape[1:-2]
    if len(leading) < 2:
        if not leading or heads is None:
            return True
        queries, keys = shape[-2:]
        mistakable = not proven and 1 < heads == queries != keys
        return leading[0] == heads and not mistakable
    return len(leading) == 2 and 1 not in leading and prod(leading) == heads


def _out_of_order(shape: torch.Size) -> EngineError:
    return EngineError(
        f"its softmax is over scores of {'×'.join(map(str, shape))}, which are not for certain "
        "(batch, head, query, key) with the number of heads that the module has: attention in "
        "blocks or windows cannot be read. With strict=False other layers are read."
    )


def _call(
    watch: Watch, place: Place, own: torch.Size, shape: tuple[int, int, int, int], scores: Scores
) -> AttentionCall | None:
    """The call, or None where the parts do not fit the scores."""
    Tq, Tk = shape[2:]
    rule, bias, first = None, None, None
    try:
        features = scores.query.shape[-1]
        query = _spread(scores.query, own, shape, (Tq, features))
        key = _spread(scores.key, own, shape, (Tk, features))
        with torch._C.DisableTorchFunction():
            for term, factor in scores.added:
                more, added, offset = read_mask(watch, _fitted(term, own, shape))
                rule = both(rule, more)
                first = offset if first is None else first
                if added is not None:
                    added = added if factor == 1 else added * factor
                    bias = added if bias is None else bias + added
    except (RuntimeError, ValueError):
        return None
    kind = kind_of(place)
    return AttentionCall(
        layer="",
        kind=kind,
        side=None,
        way="mha" if isinstance(place.modules[-1][0], torch.nn.MultiheadAttention) else "softmax",
        query=query,
        key=key,
        value=key,  # weights are all that is seen here
        mask=rule,
        bias=bias,
        scale=scores.scale,
        softcap=scores.softcap,
        first_query=first_query_of(kind, Tq, Tk) if first is None else first,
    )


def _spread(
    tensor: torch.Tensor, own: torch.Size, shape: tuple[int, ...], last: tuple[int, int]
) -> torch.Tensor:
    """(..., token, feature) as (batch, head, token, feature)."""
    leading = own[:-2]
    if prod(tensor.shape[:-2]) != prod(leading):
        tensor = tensor.expand(*leading, *last)
    return tensor.reshape(*shape[:2], *last)


def _fitted(term: torch.Tensor, own: torch.Size, shape: tuple[int, ...]) -> torch.Tensor:
    """What was added, on four axes; the tensor itself where it has them."""
    if term.ndim == 4 and len(own) == 4:
        return term
    batch, heads = shape[:2]
    if term.ndim == 3 and len(own) != 3 and term.shape[0] == batch * heads:
        return term.reshape(batch, heads, *term.shape[1:])
    if term.ndim == 3 and len(own) == 3:  # (batch · head, query, key)
        if term.shape[0] == 1:
            return term[None]
        return term.reshape(batch, heads, *term.shape[1:])
    if term.ndim <= 2:
        return term
    term = term[(None,) * (len(own) - term.ndim)]
    leading = own[:-2]
    return term.expand(*leading, *term.shape[-2:]).reshape(batch, heads, *term.shape[-2:])


def _from_scores(watch: Watch, place: Place, scores: torch.Tensor) -> AttentionCall:
    """Scores of which nothing is known, as a bias over products that are 0.

    Less the largest of each row, so that the log-sum-exp has digits also in rows that a large
    negative number hides as a whole: there a model's weights are even.
    """
    if scores.dtype not in (torch.float32, torch.float64):
        scores = scores.float()
    if scores.shape[-1]:
        largest = scores.amax(-1, keepdim=True)
        scores = scores - largest.where(largest.abs() < torch.finfo(scores.dtype).max / 2, 0)
    kind = kind_of(place)
    rule, bias, _ = read_mask(watch, scores)
    return AttentionCall(
        layer="",
        kind=kind,
        side=None,
        way="softmax",
        query=_zeros(scores, 2),
        key=_zeros(scores, 3),
        value=_zeros(scores, 3),
        mask=rule,
        bias=bias,
        scale=1.0,
        first_query=first_query_of(kind, *scores.shape[2:]),
    )


def _zeros(scores: torch.Tensor, axis: int) -> torch.Tensor:
    """One feature that is 0, (batch, head, token, 1), for the tokens of that axis."""
    batch, heads = scores.shape[:2]
    return scores.new_zeros(batch, heads, 1, 1).expand(batch, heads, scores.shape[axis], 1)


def _by_scores(scores: torch.Tensor, call: AttentionCall) -> AttentionCall:
    """The same attention with the model's own scores, and their gradients, as a bias."""
    if scores.dtype not in (torch.float32, torch.float64):
        scores = scores.float()
    return replace(
        call,
        query=_zeros(scores, 2),
        key=_zeros(scores, 3),
        value=_zeros(scores, 3),
        bias=scores,
        scale=1.0,
        softcap=None,
        sinks=None,
    )
