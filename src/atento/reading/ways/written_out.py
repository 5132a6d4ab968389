"""The way in for models that write the formula out: a product, and a softmax of it.

Each step on the way is followed (`scores.py`). At the softmax it is then known which queries, keys,
scale, bias and mask the scores were made of, and some rows are compared with the weights that the
model found. Where a step is not known, or the rows differ, the scores themselves are kept as a bias
(exact, but as large as the weights), if the module's class is named an attention.

The weights are the model's own: its memory is not ours to save.
"""

from dataclasses import replace
from math import prod
from typing import Any

import torch

from atento._errors import EngineError
from atento.equation.computed import Computed
from atento.reading.call import AttentionCall
from atento.reading.layer_names import kind_of, named_attention
from atento.reading.log_sum_exp import says_weights
from atento.reading.mask_tensors import both, first_query_of, read_mask
from atento.reading.watching import Place, Watch
from atento.reading.ways.scores import Scores

__all__ = ["normalise"]

HEADS = ("num_heads", "num_attention_heads", "num_attn_heads", "n_heads", "n_head", "nhead")
"""Attributes in which modules say their number of heads."""

DEEP = 64
"""Scores so far below 0 have lost digits that show in the weights."""


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
    if _by_landmarks(watch, place, shape[2:]):
        watch.refuse(place, _no_weights_of_its_own(watch.softmaxes[1]))
        return None
    if not _in_order(given.shape, place, proven=call is not None):
        watch.refuse(place, _out_of_order(given.shape))
        return None
    if call is None:
        call = _from_scores(watch, place, given.detach().reshape(shape))
    made = Computed(None, None, weights.reshape(shape))
    return watch.observe(call, place, made, _by_scores(given.reshape(shape), call))


def _by_landmarks(watch: Watch, place: Place, shape: tuple[int, int]) -> bool:
    """Whether a call of a module looks at landmarks, and from these at others.

    Its weights would be a product of softmaxes, (T, L) of one with (L, L) of another (and the last
    is (L, T)), as Nyström's method has it; none of them is attention to the tokens.
    """
    asked = place.modules[-1][2]  # a dict of its own for each call
    if watch.softmaxes[0] is not asked:
        watch.softmaxes = asked, []
    taken = watch.softmaxes[1]
    taken.append(shape)
    return any(Tq > L and shape == (L, L) for Tq, L in taken[:-1])


def _no_weights_of_its_own(taken: list[tuple[int, int]]) -> EngineError:
    return EngineError(
        f"one call takes softmaxes over scores of {', '.join(f'{q}×{k}' for q, k in taken)}: it "
        "looks at landmarks, means of some tokens each, and its weights are a product of these, "
        "which is no softmax that could be read. With strict=False other layers are read."
    )


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
    if bias is not None and _pushes_rows_down(bias):
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


def _pushes_rows_down(bias: torch.Tensor) -> bool:
    """Whether a row has no key that keeps its digits, as where −10000 hides all of them.

    In the model's precision such a row is what rounding leaves of it: the scores themselves say.
    """
    return bool(bias.shape[-1]) and bool((bias.detach().amax(-1) < -DEEP).any())


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
