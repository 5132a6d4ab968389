"""The front door: check the arguments once, pick an engine, compute."""

from typing import Any

import numpy as np

from atento._arrays import is_torch
from atento._errors import EngineError
from atento.equation.computed import Computed
from atento.equation.dense import dense, dense_bias, dense_mask, equation
from atento.equation.plan import Plan, choose, torch_engines
from atento.equation.request import Request, checked_request
from atento.records import Step, Trace

__all__ = ["attention", "plan", "trace"]

watcher: Any = None
"""While a model is captured: ``watcher(request, compute, *options)`` is called where otherwise
``compute(request, *options)`` is, and returns what that returns."""


def attention(
    query: Any,
    key: Any,
    value: Any,
    *,
    mask: Any = None,
    bias: Any = None,
    scale: float | None = None,
    softcap: float | None = None,
    sinks: Any = None,
    dropout: float = 0.0,
    seed: Any = None,
    engine: str = "auto",
    return_weights: bool = False,
    return_lse: bool = False,
) -> Any:
    """Exact attention.

    ``weights = softmax(mask(softcap(Q Kᵀ · scale) + bias))``, ``output = weights V``.

    Args:
        query: (..., Hq, Tq, d), or (Tq, d) without heads.
        key: (..., Hkv, Tk, d). Hq is a multiple of Hkv: consecutive query heads share a key head.
        value: (..., Hkv, Tk, dv).
        mask: who may look at whom, True = attends: a rule of `atento.masks`, or a bool array that
            broadcasts to (..., query, key). A query that may see no key gets output 0.
        bias: added to the scores; broadcasts to (..., query, key). Or a rule of
            `atento.positions` (`Alibi`, `RelativeBias`), which is never held as a matrix.
        scale: multiplies Q Kᵀ; 1/√d when left out.
        softcap: bounds the scaled scores smoothly: ``softcap · tanh(scores / softcap)``.
        sinks: one number, or one per query head: ``exp(sink)`` is added to the softmax's
            denominator, and nothing to the output.
        dropout: the probability with which a weight is set to 0; the others grow by
            ``1 / (1 − dropout)``.
        seed: for dropout, an int, a `numpy.random.Generator`, or with torch a `torch.Generator` or
            an integer tensor without axes; the same number drops the same weights on every
            engine. None: a fresh one each call (with torch from its global generator).
        engine: "auto", "dense" (the formula), "streaming" (block by block, O(T) memory) or
            "fused" (PyTorch's own attention). `plan` tells which one "auto" takes, and why.
        return_weights: also return the weights (before dropout), (..., Hq, Tq, Tk).
        return_lse: also return the logarithm of the softmax's denominator, (..., Hq, Tq): sinks
            included, −inf for a query that may see no key.

    Returns:
        (..., Hq, Tq, dv), in the library and dtype of the inputs. Half-precision inputs are
        accumulated in float32. With weights or log-sum-exp a tuple: output, then weights, then lse.

    Raises:
        ShapeError, DTypeError, InputError, EngineError: what was expected and what came.

    Source: Vaswani et al. 2017 (arXiv 1706.03762), section 3.2.1; the order of the steps is that
    of the ONNX operator ``Attention``.

    >>> x = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> attention(x, x, x).round(4)
    array([[0.6698, 0.3302],
           [0.3302, 0.6698]])
    """
    request = checked_request(
        query,
        key,
        value,
        mask=mask,
        bias=bias,
        scale=scale,
        softcap=softcap,
        sinks=sinks,
        dropout=dropout,
        seed=seed,
    )
    chosen, _ = choose(request, engine)
    if return_weights:
        if engine not in ("auto", "dense"):
            raise EngineError(
                f"the {engine} engine never holds the weights: with return_weights=True use "
                'engine="dense", or "auto".'
            )
        chosen = "dense"
    if watcher is None:
        computed = _compute(request, chosen, return_lse, return_weights)
    else:
        computed = watcher(request, _compute, chosen, return_lse, return_weights)
    if not (return_weights or return_lse):
        return computed.output
    asked = [(True, computed.output), (return_weights, computed.weights)]
    return tuple(value for wanted, value in [*asked, (return_lse, computed.lse)] if wanted)


def _compute(request: Request, engine: str, with_lse: bool, with_weights: bool) -> Computed:
    if is_torch(request.query):
        computed: Computed = torch_engines().compute(request, engine, with_lse, with_weights)
        return computed
    if engine == "dense":
        with np.errstate(all="ignore"):  # NaN and ∞ are passed on as numbers are, as streaming does
            return dense(request, with_lse, with_weights)
    from atento.equation.streaming import stream

    return stream(request)


def trace(
    query: Any,
    key: Any,
    value: Any,
    *,
    mask: Any = None,
    bias: Any = None,
    scale: float | None = None,
    softcap: float | None = None,
    sinks: Any = None,
    dropout: float = 0.0,
    seed: Any = None,
    engine: str = "auto",
) -> Trace:
    """`attention`, with every step kept: queries, keys, values, scores, scaled, … output.

    The arguments and errors are those of `attention`. All weights are held, so memory grows with
    Tq × Tk; the engine is always the dense one.

    >>> x = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> trace(x, x, x)["weights"].value.round(4)
    array([[0.6698, 0.3302],
           [0.3302, 0.6698]])
    """
    request = checked_request(
        query,
        key,
        value,
        mask=mask,
        bias=bias,
        scale=scale,
        softcap=softcap,
        sinks=sinks,
        dropout=dropout,
        seed=seed,
    )
    if choose(request, engine)[0] != "dense" and engine != "auto":
        raise EngineError(
            f'trace keeps every step, and the {engine} engine keeps none: use engine="dense", '
            'or "auto".'
        )
    steps = equation(request)
    if is_torch(request.query):
        with torch_engines().without_autocast(request.query.device.type):
            return Trace(tuple(steps), _parameters(request))
    with np.errstate(all="ignore"):
        return Trace(tuple(map(_frozen, steps)), _parameters(request))


def plan(query: Any, key: Any, value: Any, *, engine: str = "auto", **options: Any) -> Plan:
    """The engine that `attention` would use for these arguments, and why. Nothing is computed.

    >>> plan(np.ones((4, 2)), np.ones((4, 2)), np.ones((4, 2))).engine
    'dense'
    """
    defaults: dict[str, Any] = {
        "mask": None,
        "bias": None,
        "scale": None,
        "softcap": None,
        "sinks": None,
        "dropout": 0.0,
        "seed": None,
    }
    return Plan(*choose(checked_request(query, key, value, **(defaults | options)), engine))


def _frozen(step: Step) -> Step:
    """The step over an array that cannot be written to, where the library has such arrays."""
    if not isinstance(step.value, np.ndarray):
        return step
    view = step.value.view()
    view.flags.writeable = False
    return Step(step.name, step.formula, step.axes, view)


def _parameters(request: Request) -> dict[str, Any]:
    given = {
        "scale": request.scale,
        "softcap": request.softcap,
        "bias": None if request.bias is None else dense_bias(request),
        "mask": dense_mask(request),
        "sinks": request.sinks,
    }
    return {name: value for name, value in given.items() if value is not None}
