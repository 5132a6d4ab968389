"""explain(): the attention of a text in the embedded model, or of arrays that are given."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atento._arrays import to_numpy
from atento._errors import InputError
from atento.equation import trace
from atento.explanation.telling import Telling, how_telling
from atento.masks import Causal
from atento.records import AttentionLayer, Explanation, Projection, Reason, Step, Trace

__all__ = ["MOST_CELLS", "explain", "explanation_of", "explanation_of_layers"]

# Every step of every head is kept: more cells than this no picture can show.
MOST_CELLS = 2**24
MODEL = "atento-mini"


def explain(
    text: str | None = None,
    *,
    query: Any = None,
    key: Any = None,
    value: Any = None,
    mask: Any = None,
    bias: Any = None,
    scale: float | None = None,
    softcap: float | None = None,
    sinks: Any = None,
    names: Sequence[str] | None = None,
    key_names: Sequence[str] | None = None,
    layer: int | None = None,
    head: int | None = None,
    cut: bool = False,
) -> Explanation:
    """Explains the attention of a text, or of your own queries, keys and values.

    A text is read by the small model inside the package, and every layer is traced. Arrays are
    traced as one layer. Without ``head``, the most telling head is chosen (see
    :func:`atento.explanation.how_telling`), and the reason is part of the answer.

    Args:
        text: what the model reads; or else give ``query``, ``key`` and ``value``.
        query: (query, feature), (head, query, feature) or (1, head, query, feature).
        key: (key, feature), or with axes as above; query heads are a multiple of its heads.
        value: (key, feature), or with axes as above.
        mask: who may look at whom, as for :func:`atento.trace`. This and the next four only with
            arrays: the model that reads a text has its own.
        bias: added to the scores.
        scale: multiplies the scores; default 1/√d.
        softcap: holds the scores softly within this bound.
        sinks: one number, or one per query head, in the softmax's denominator alone.
        names: a name for each query; with as many keys as queries, for the keys too. Only with
            arrays. Default: 1, 2, 3, ...
        key_names: a name for each key.
        layer: which layer to look at first, counted from 0.
        head: which head to look at first, counted from 0.
        cut: keep the beginning of a text that is longer than the model's context, instead of
            refusing it.

    Returns:
        The tokens, every layer's steps, the layer and head to look at first, and why.

    Raises:
        InputError: nothing to explain, too much of it, or a layer or head that isn't there.

    >>> import numpy as np
    >>> x = np.eye(3)
    >>> explanation = explain(query=x, key=x, value=x, names=["a", "b", "c"])
    >>> explanation.tokens, explanation.reason.kind
    (('a', 'b', 'c'), 'only')
    """
    arrays = {"query": query, "key": key, "value": value}
    missing = [name for name, array in arrays.items() if array is None]
    if text is not None:
        own = {"mask": mask, "bias": bias, "scale": scale, "softcap": softcap, "sinks": sinks}
        named = {"names": names, "key_names": key_names}
        extra = [k for k, v in (arrays | own | named).items() if v is not None]
        if extra:
            raise InputError(
                f"explain takes a text or arrays, not both. Got a text and {_listed(extra)}: the "
                "model that reads a text makes these itself. Leave out one of the two."
            )
        return _of_text(text, layer=layer, head=head, cut=cut)
    if len(missing) == 3:
        raise InputError(
            "explain needs a text, or query, key and value. Got neither: "
            'try explain("Your journey starts with one step").'
        )
    if missing:
        given = [name for name in arrays if name not in missing]
        raise InputError(
            f"explain needs query, key and value together. Got {_listed(given)} without "
            f"{_listed(missing)}."
        )
    q, k, v = (_with_heads(name, array) for name, array in arrays.items())
    _check_size(q, k)
    # a batch of one keeps its axis here, for a mask or a bias that has it too
    whole = [x[None] if np.ndim(query) == 4 else x for x in (q, k, v)]
    traced = trace(*whole, mask=mask, bias=bias, scale=scale, softcap=softcap, sinks=sinks)
    same = q.shape[-2] == k.shape[-2]
    tokens = _names("names", names, q.shape[-2], "queries")
    if key_names is None and same:
        key_tokens = tokens
    else:
        key_tokens = _names("key_names", key_names, k.shape[-2], "keys")
    return _choose((_layer_of(traced),), tokens, key_tokens, layer=layer, head=head, model=None)


def explanation_of(traced: Trace) -> Explanation:
    """The explanation of a trace that is there already: one layer, its most telling head first.

    Of a module's trace the steps of the equation are taken: what comes before queries, keys and
    values, and after the contexts of the heads, stands in the trace alone.

    Args:
        traced: with the axes (query, key), (head, query, key), or batch axes of size 1 before them.

    Raises:
        InputError: the trace holds several batch items.
    """
    one = _layer_of(traced)
    _, queries, keys = one.trace["weights"].value.shape
    tokens = _names("names", None, queries, "queries")
    key_tokens = tokens if queries == keys else _names("key_names", None, keys, "keys")
    return _choose((one,), tokens, key_tokens, layer=None, head=None, model=None)


def explanation_of_layers(
    traces: Sequence[Trace],
    tokens: Sequence[str],
    *,
    layer: int | None = None,
    head: int | None = None,
    model: str | None = None,
) -> Explanation:
    """The explanation of a text that some model has read: a trace for every layer.

    Args:
        traces: as for `explanation_of`, each of as many queries and keys as there are tokens.
        tokens: what they are called.
        layer: which layer to look at first, counted from 0.
        head: which head to look at first, counted from 0.
        model: what the model is called.

    Raises:
        InputError: for several batch items, or a layer or head that isn't there.
    """
    names = tuple(map(str, tokens))
    layers = tuple(_layer_of(one) for one in traces)
    return _choose(layers, names, names, layer=layer, head=head, model=model)


def _layer_of(traced: Trace) -> AttentionLayer:
    """A trace as a page shows it: the equation's steps alone, without batch axes."""
    steps = tuple(_with_head_axis(step) for step in _equation_steps(traced))
    parameters = {  # without the batch axes, as the steps are
        name: given[(0,) * (given.ndim - 3)] if getattr(given, "ndim", 0) > 3 else given
        for name, given in traced.parameters.items()
    }
    return AttentionLayer(trace=Trace(steps, parameters), input=None, projections={})


EQUATION = (
    "queries", "keys", "values", "scores", "scaled", "capped", "biased", "masked", "weights",
    "dropped",
)  # fmt: skip


def _equation_steps(traced: Trace) -> list[Step]:
    """The steps of the equation alone; what a module calls contexts is its output."""
    missing = [name for name in ("queries", "keys", "values", "weights") if name not in traced]
    if missing:
        raise InputError(
            "a picture of attention needs queries, keys, values and weights. Got a trace without "
            f"{_listed(missing)}: look at its steps one by one, as in "
            f"trace[{traced.steps[-1].name!r}].value."
        )
    last = traced["contexts" if "contexts" in traced else "output"]
    steps = [step for step in traced if step.name in EQUATION]
    return [*steps, Step("output", last.formula, last.axes, last.value)]


def _with_head_axis(step: Step) -> Step:
    """The step with the axes (head, …, …), as NumPy's."""
    value = to_numpy(step.value)
    if value.ndim == 2:
        return Step(step.name, step.formula, ("head", *step.axes), value[None])
    sizes = value.shape[:-3]
    if any(size != 1 for size in sizes):
        raise InputError(
            f"a picture shows one batch item. Got a trace of {sizes}: trace one of them, as in "
            "atento.trace(query[0], key[0], value[0])."
        )
    return Step(step.name, step.formula, step.axes[-3:], value[(0,) * len(sizes)])


def _of_text(text: str, *, layer: int | None, head: int | None, cut: bool) -> Explanation:
    from atento.embedded import load_mini

    _check_text(text)
    mini = load_mini()
    # not mini.encode, which refuses a text that is too long before it could be cut
    encoding = mini.tokenizer.encode(text)
    ids, tokens = encoding.ids, encoding.tokens
    if not ids:
        raise InputError(
            "the text has no character that the model can see. Got "
            f"{text[:40]!r}: write at least one word.",
            name="empty_text",
        )
    if len(ids) > mini.context:
        if not cut:
            raise InputError(
                f"the model reads at most {mini.context} tokens. Got {len(ids)}: shorten the text, "
                f"or keep its first {mini.context} tokens with cut=True (on the command line, "
                "--cut).",
                name="too_long",
                limit=mini.context,
                came=len(ids),
            )
        ids, tokens = ids[: mini.context], tokens[: mini.context]
    run = mini.run(ids)
    layers = tuple(_model_layer(ran) for ran in run.layers)
    return _choose(layers, tokens, tokens, layer=layer, head=head, model=MODEL)


def _model_layer(ran: Any) -> AttentionLayer:
    traced = trace(ran.query, ran.key, ran.value, mask=Causal())
    projections = {}
    for role in ("query", "key", "value"):
        heads, _, features = getattr(ran, role).shape
        weight = np.asarray(getattr(ran, f"{role}_weight"))
        bias = np.asarray(getattr(ran, f"{role}_bias"))
        projections[role] = Projection(
            weight=weight.reshape(-1, heads, features),  # columns h*features ... belong to head h
            bias=bias.reshape(heads, features),
        )
    return AttentionLayer(trace=traced, input=np.asarray(ran.input), projections=projections)


def _check_text(text: Any) -> None:
    if not isinstance(text, str):
        raise InputError(
            f"the text must be a str. Got {type(text).__name__}: for arrays, say "
            "explain(query=..., key=..., value=...)."
        )
    if not text.strip():
        came = "an empty text" if not text else "a text of nothing but blanks"
        raise InputError(f"explain needs at least one word. Got {came}: write a sentence.")


def _with_heads(name: str, array: Any) -> NDArray[Any]:
    """The array as NumPy's, with the axes (head, token, feature)."""
    if hasattr(array, "detach"):  # a torch tensor: a picture needs no gradient
        array = array.detach().cpu()
    try:
        given = np.asarray(array)
    except ValueError as error:
        raise InputError(
            f"{name} must be a full block of numbers. Got a ragged list, whose rows differ in "
            "length: give every token as many features."
        ) from error
    if given.ndim == 4 and given.shape[0] == 1:
        given = given[0]  # (1, head, token, feature) -> (head, token, feature)
    elif given.ndim == 4:
        raise InputError(
            f"{name} must hold one sequence. Got a batch of {given.shape[0]}, shape "
            f"{given.shape}: pass one of them, {name}[0]."
        )
    if given.ndim == 2:
        given = given[None]  # (token, feature) -> (1, token, feature)
    if given.ndim != 3:
        raise InputError(
            f"{name} must have the axes (token, feature) or (head, token, feature). Got "
            f"{given.ndim} axes, shape {given.shape}."
        )
    if 0 in given.shape:
        raise InputError(
            f"{name} must hold at least one head, token and feature. Got shape {given.shape}: "
            "is the file or the slice empty?"
        )
    return given


def _check_size(query: NDArray[Any], key: NDArray[Any]) -> None:
    heads, queries, _ = query.shape
    keys = key.shape[-2]
    cells = heads * queries * keys
    if cells > MOST_CELLS:
        raise InputError(
            f"explain keeps every step of every head, at most {MOST_CELLS:,} weights. Got {heads} "
            f"heads × {queries} queries × {keys} keys = {cells:,}: pass fewer heads or tokens."
        )


def _names(argument: str, given: Sequence[str] | None, count: int, what: str) -> tuple[str, ...]:
    if given is None:
        return tuple(str(number) for number in range(1, count + 1))
    if isinstance(given, str):
        raise InputError(
            f"{argument} must be a list of names. Got one str, {given!r}: "
            f"say {argument}={given.split()!r}."
        )
    names = tuple(str(name) for name in given)
    if len(names) != count:
        raise InputError(
            f"{argument} must hold one name for each of the {count} {what}. Got {len(names)}.",
            name=f"{argument}_count",
            expected=count,
            came=len(names),
        )
    return names


def _choose(
    layers: tuple[AttentionLayer, ...],
    tokens: tuple[str, ...],
    key_tokens: tuple[str, ...],
    *,
    layer: int | None,
    head: int | None,
    model: str | None,
) -> Explanation:
    if layer is not None:
        _check_index("layer", layer, len(layers))
    if head is not None:
        # a head without a layer is looked for in every layer that has it
        _check_index("head", head, layers[layer or 0].heads)
    same = len(tokens) == len(key_tokens) and tokens == key_tokens
    compared: list[tuple[int, int, Telling]] = []
    for number, one in enumerate(layers):
        if layer is not None and number != layer:
            continue
        weights, visible = one.trace["weights"].value, _visible(one.trace)
        for which in range(one.heads):
            if head is None or which == head:
                seen = None if visible is None else visible[which]
                told = how_telling(weights[which], seen, same_tokens=same)
                compared.append((number, which, told))
    # max() keeps the first of equals
    at, which, told = max(compared, key=lambda one: one[2].score)
    total = sum(one.heads for one in layers)
    kind = "only" if total == 1 else "asked" if len(compared) == 1 else "telling"
    reason = Reason(
        kind=kind,
        among=len(compared),
        score=told.score,
        query=told.query,
        key=told.key,
        weight=told.weight,
    )
    return Explanation(
        tokens=tokens,
        key_tokens=key_tokens,
        layers=layers,
        layer=at,
        head=which,
        reason=reason,
        model=model,
    )


def _visible(traced: Trace) -> NDArray[np.bool_] | None:
    """(head, query, key), True where a query may look; None when it may look everywhere.

    Read from what went into the softmax: a mask or a bias of −inf both close a place.
    """
    steps = list(traced)
    at = next(i for i, step in enumerate(steps) if step.name == "weights")
    if steps[at - 1].name in ("scores", "scaled", "capped"):
        return None
    before: NDArray[np.bool_] = np.asarray(steps[at - 1].value) != -np.inf
    return before


def _check_index(what: str, index: Any, count: int) -> None:
    if isinstance(index, bool) or not isinstance(index, int | np.integer):
        raise InputError(f"{what} must be a whole number. Got {index!r}.")
    if not 0 <= index < count:
        have = "0, the only one" if count == 1 else f"from 0 to {count - 1}"
        raise InputError(
            f"{what} must be {have}. Got {index}.", name=f"{what}_range", last=count - 1, came=index
        )


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
