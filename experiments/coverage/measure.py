"""One family captured: is the output the model's own, and are the weights those it computed?"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

import atento
from atento import AtentoError, Recording
from experiments.coverage.families import Family

EXACT = 1e-5
"""Single precision, computed twice in another order: weights within this are the same."""

TOLD_APART = 1e-3
"""By so much some weights of a layer must differ from even ones, or nothing was compared."""


@dataclass
class Reading:
    """What a capture of one model under one implementation of attention gave.

    Attributes:
        implementation: "sdpa", "eager", or "own" where the model has no such choice.
        ways: the ways in that saw its layers.
        kinds: "self", "cross", with the side in front where there are two.
        layers: how many records. heads: how many heads each, without repetition.
        outputs: the largest difference from the model left alone; 0.0 is the same bits.
        weights: the largest difference from the model's own weights; None where it tells none.
        source: who told the model's own weights: "eager" or "functions".
        result: "exact", or what came instead, in words.
    """

    implementation: str
    ways: list[str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    layers: int = 0
    heads: list[int] = field(default_factory=list)
    outputs: float | None = None
    weights: float | None = None
    source: str = ""
    result: str = ""


class Weights(TorchFunctionMode):
    """All weights that a model computes, seen at torch's functions and nowhere in atento."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[torch.Tensor] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Keep the result of a softmax over the last axis, and what a kernel's would be."""
        del types
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        made = func(*args, **kwargs)
        if name == "softmax" and made.ndim >= 3:
            axis = args[1] if len(args) > 1 else kwargs.get("dim")
            if axis is not None and axis % made.ndim == made.ndim - 1:
                self.found.append(made.detach())
        elif name == "scaled_dot_product_attention":
            self.found.append(_kernel_weights(*args, **kwargs))
        elif name == "multi_head_attention_forward":
            told = {**kwargs, "need_weights": True, "average_attn_weights": False}
            self.found.append(func(*args, **told)[1].detach())
        return made


def _kernel_weights(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """The formula of torch's documentation, in float64."""
    del value, dropout_p
    query, key = query.detach().double(), key.detach().double()
    if enable_gqa:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
    scores = query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        scores = scores.masked_fill(~torch.ones(scores.shape[-2:]).tril().bool(), -torch.inf)
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, -torch.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask.detach().double()
    return scores.softmax(-1)


def readings(family: Family) -> Iterator[Reading]:
    """The family under every implementation that it has."""
    for implementation in family.implementations:
        reading = Reading(implementation)
        try:
            model, inputs = family.make("eager" if implementation == "eager" else None)
            run(model, inputs)
        except Exception as error:
            reading.result = f"does not run: {said(error)}"
        else:
            read(reading, model, inputs, family)
        yield reading


def run(model: Any, inputs: dict[str, Any], **more: Any) -> Any:
    """One forward pass, as it always is: the same seed, no gradients."""
    torch.manual_seed(0)
    args = inputs.get("args", ())
    named = {name: value for name, value in inputs.items() if name != "args"}
    with torch.no_grad():
        return model(*args, **named, **more)


def read(reading: Reading, model: Any, inputs: dict[str, Any], family: Family) -> None:
    """Capture the model, and fill in what was seen."""
    plain = tensors(run(model, inputs))
    try:
        with atento.capture(model, statistics=()) as recording:
            captured = tensors(run(model, inputs))
    except AtentoError as error:
        reading.result = f"refused: {said(error)}"
        return
    except Exception as error:
        reading.result = f"FAILS: {said(error)}"
        return
    reading.outputs = max((_apart(a, b) for a, b in zip(plain, captured, strict=True)), default=0.0)
    describe(reading, recording)
    try:
        compare(reading, recording, model, inputs, family)
    except Exception as error:
        reading.result = f"FAILS: {said(error)}"


def describe(reading: Reading, recording: Recording) -> None:
    """What was read: ways, kinds, layers, heads."""
    records = recording.records
    reading.ways = sorted({record.way for record in records})
    reading.kinds = _unique(
        " ".join(filter(None, (record.side, record.kind))) for record in records
    )
    reading.layers = len(records)
    reading.heads = _unique(record.heads for record in records)


def compare(
    reading: Reading, recording: Recording, model: Any, inputs: dict[str, Any], family: Family
) -> None:
    """The weights recorded against the model's own, each of which must be found once.

    Its own are those that a model set to eager returns. What it does not return is looked for
    among the softmaxes and kernel calls of the same model, left alone.
    """
    returned = eager_weights(family) if family.compared == "eager" else []
    computed = computed_weights(model, inputs)
    if family.told is not None:
        returned = family.told(model, inputs)
    missing, others = (returned, computed) if returned else (computed, [])
    missing, others, worst = list(missing), list(others), 0.0
    elsewhere: list[Any] = []
    for record in recording.records:
        apart = _taken(record, missing, strict=bool(returned))
        if apart is None:
            elsewhere.append(record.shape)
            apart = _taken(record, others, strict=False)
        worst = max(worst, np.inf if apart is None else apart)
    reading.weights = worst
    reading.source = "eager" if returned else "functions"
    unread = ran(model, inputs, [name for name, _ in recording.skipped])
    reading.result = _verdict(reading, unread, missing, elsewhere)
    even = any(_contrast(each) < TOLD_APART for each in returned or computed)
    if even and reading.result.startswith("exact"):
        reading.result = "UNTOLD: a layer has even weights"


def _taken(record: Any, own: list[torch.Tensor], strict: bool) -> float | None:
    """The difference from the nearest of the model's weights, which is taken from the list.

    None where no weights have this shape; without `strict`, leading axes may be joined.
    """
    found = np.array(
        [[record.weights(h, batch=b) for h in range(record.heads)] for b in range(record.batch)]
    )
    visible = np.isfinite(record.lse)
    apart = [
        np.inf
        if strict and each.ndim != 3 and each.shape != found.shape  # 3: batch · head
        else _weights_apart(found, visible, each)
        for each in own
    ]
    best = int(np.argmin(apart)) if apart else -1
    if best < 0 or apart[best] == np.inf:
        return None
    del own[best]
    return apart[best]


def _verdict(reading: Reading, unread: list[str], missing: list[Any], elsewhere: list[Any]) -> str:
    if missing and elsewhere:
        shapes = sorted({tuple(each.shape) for each in missing})
        return f"WRONG: recorded as {_shapes(set(elsewhere))}, the model has {_shapes(shapes)}"
    if not (reading.weights or 0.0) <= EXACT:
        return f"WRONG: weights differ by {reading.weights:.0e}"
    if missing:
        return f"PARTLY: {reading.layers} layers read, {len(missing)} not"
    if reading.outputs:
        return (
            "READ; outputs differ in rounding"
            if reading.outputs <= EXACT
            else "WRONG: outputs differ"
        )
    return f"exact; {', '.join(unread)}: no softmax" if unread else "exact"


def _contrast(weights: torch.Tensor) -> float:
    """How far the weights of some row are from even ones."""
    seen = weights > 0
    even = 1 / seen.sum(-1, keepdim=True).clamp(min=1)
    return float(((weights - even) * seen).abs().max())


def _shapes(shapes: Any) -> str:
    return " and ".join("×".join(map(str, shape)) for shape in sorted(shapes))


def ran(model: Any, inputs: dict[str, Any], names: list[str]) -> list[str]:
    """The classes of those modules that are called in a forward pass."""
    called: list[str] = []
    modules = dict(model.named_modules())
    handles = [
        modules[name].register_forward_pre_hook(
            lambda module, _: called.append(type(module).__name__)
        )
        for name in names
    ]
    try:
        run(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return _unique(called)


def eager_weights(family: Family) -> list[torch.Tensor]:
    """(batch, head, query, key) of every layer that an eager model returns."""
    try:
        model, inputs = family.make(None if family.build else "eager")
        return told(run(model, inputs, output_attentions=True))
    except Exception:  # it returns none
        return []


def computed_weights(model: Any, inputs: dict[str, Any]) -> list[torch.Tensor]:
    """Those of every softmax over the last axis and every kernel call."""
    seen = Weights()
    with seen:
        run(model, inputs)
    return seen.found


def told(made: Any) -> list[torch.Tensor]:
    """All tensors under keys named attentions."""
    found: list[torch.Tensor] = []
    if isinstance(made, dict):
        for name, value in made.items():
            found += tensors(value) if "attentions" in name else told(value)
    return found


def _weights_apart(found: Any, visible: Any, own: torch.Tensor) -> float:
    """The largest difference; ∞ where shapes are not alike.

    A row that sees no key is 0 in a recording. The model spreads its weight evenly over the keys
    that it hides, or it is NaN; anything else is a difference.
    """
    if own.numel() != found.size or own.shape[-2:] != found.shape[-2:]:
        return float(np.inf)
    own = own.double().reshape(found.shape)
    rows = np.abs(found - own.numpy()).max(-1)
    hidden = own[torch.from_numpy(~visible)].nan_to_num()
    wrongly = _contrast(hidden) if hidden.numel() else 0.0
    return max(float(rows[visible].max(initial=0.0)), wrongly if wrongly > TOLD_APART else 0.0)


def tensors(outputs: Any) -> list[torch.Tensor]:
    """All tensors of a model's output, in order."""
    if isinstance(outputs, torch.Tensor):
        return [outputs]
    if isinstance(outputs, dict):
        outputs = list(outputs.values())
    if isinstance(outputs, list | tuple):
        return [tensor for part in outputs for tensor in tensors(part)]
    return []


def _apart(one: torch.Tensor, other: torch.Tensor) -> float:
    if torch.equal(one, other) or one.shape != other.shape:
        return 0.0 if one.shape == other.shape else float("inf")
    if torch.equal(one.isnan(), other.isnan()) and torch.equal(
        one.nan_to_num(), other.nan_to_num()
    ):
        return 0.0
    return float((one.double() - other.double()).abs().nan_to_num().max())


def said(error: BaseException) -> str:
    """The error in one line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, AtentoError) else f"{type(error).__name__}: {text}"


def _unique(things: Any) -> list[Any]:
    return list(dict.fromkeys(things))
