"""Request: the arguments of one attention call, checked once."""

from dataclasses import dataclass
from math import isfinite
from types import ModuleType
from typing import Any

import numpy as np

from atento._arrays import (
    HALVES,
    as_float_array,
    common_namespace,
    dtype_name,
    fit_tensors,
    is_opaque,
    is_torch,
    is_traced,
    torch_namespace,
)
from atento._errors import DTypeError, InputError, ShapeError
from atento.masks import Mask, as_mask

__all__ = ["Request", "checked_request"]


@dataclass(eq=False, slots=True)  # not frozen: that would triple the time it takes to make one
class Request:
    """What every engine reads: arrays that fit together, and options that make sense.

    Attributes:
        xp, device: the array namespace and device of all arrays.
        query, key, value: (..., Hq, Tq, d), (..., Hkv, Tk, d), (..., Hkv, Tk, dv), or without
            any leading axis.
        mask: bound to the weights' shape; None: everybody sees everybody.
        bias: broadcasts to the weights, or a `DistanceBias` for them; in the dtype that is
            computed in.
        sinks: () or (Hq,), in the dtype that is computed in.
        compute_dtype: float32 for half-precision inputs, otherwise their own.
        seed: for dropout; None exactly when there is no dropout. An int, or a torch integer while
            its value cannot be looked at.
        first_query: the position of query 0 when this is a part of a longer request (dropout asks).
        opaque: whether the numbers cannot be looked at (`is_opaque`), only computed with.
    """

    xp: ModuleType
    device: Any
    query: Any
    key: Any
    value: Any
    mask: Mask | None
    bias: Any
    scale: float
    softcap: float | None
    sinks: Any
    dropout: float
    seed: Any
    compute_dtype: Any
    opaque: bool = False
    first_query: int = 0

    @property
    def weights_shape(self) -> tuple[int, ...]:
        """(..., Hq, Tq, Tk)."""
        return (*self.query.shape[:-1], self.key.shape[-2])

    @property
    def output_shape(self) -> tuple[int, ...]:
        """(..., Hq, Tq, dv)."""
        return (*self.query.shape[:-1], self.value.shape[-1])

    @property
    def group(self) -> int:
        """How many consecutive query heads share one key head."""
        if self.query.ndim < 3 or self.key.shape[-3] == 0:
            return 1
        return int(self.query.shape[-3] // self.key.shape[-3])

    @property
    def leading_axes(self) -> tuple[str, ...]:
        """Names of the axes before query, key or feature."""
        count = self.query.ndim - 2
        if count == 0:
            return ()
        batches = ("batch",) if count == 2 else tuple(f"batch{i}" for i in range(count - 1))
        return (*batches, "head")


def checked_request(
    query: Any,
    key: Any,
    value: Any,
    *,
    mask: Any,
    bias: Any,
    scale: float | None,
    softcap: float | None,
    sinks: Any,
    dropout: float,
    seed: Any,
) -> Request:
    """Check every argument, once, for all engines.

    Raises:
        ShapeError, DTypeError, InputError: which argument, what was expected, what came.
    """
    xp: ModuleType
    if fit_tensors(query, key, value):
        xp, device = torch_namespace(), query.device
        compute_dtype = xp.float32 if query.dtype.itemsize == 2 else query.dtype
    else:
        query, key, value = (
            as_float_array(name, array)
            for name, array in (("query", query), ("key", key), ("value", value))
        )
        xp, device = common_namespace(query=query, key=key, value=value)
        _check_dtypes(query, key, value)
        compute_dtype = xp.float32 if dtype_name(query) in HALVES else query.dtype
    if not _shapes_fit(query.shape, key.shape, value.shape):
        _refuse_shapes(query, key, value)
    if mask is not None or bias is not None:
        shape = (*query.shape[:-1], key.shape[-2])
        if mask is not None:
            mask = as_mask(mask).bind(shape)
        if bias is not None:
            bias = _check_bias(bias, query, shape, xp, device, compute_dtype)
    if sinks is not None:
        sinks = _check_sinks(sinks, query, xp, device, compute_dtype)
    if dropout != 0.0 or type(dropout) is not float:
        dropout = _number("dropout", dropout)
        if not 0 <= dropout < 1:
            raise InputError(
                f"dropout must be a probability from 0 up to but not including 1; got {dropout}."
            )
    if softcap is not None:
        softcap = _number("softcap", softcap)
        if softcap <= 0:
            raise InputError(
                f"softcap must be positive, or None for no cap; got {softcap}. "
                "It bounds the scores: softcap · tanh(scores / softcap)."
            )
    return Request(
        xp=xp,
        device=device,
        query=query,
        key=key,
        value=value,
        mask=mask,
        bias=bias,
        scale=query.shape[-1] ** -0.5 if scale is None else _number("scale", scale),
        softcap=softcap,
        sinks=sinks,
        dropout=dropout,
        seed=_check_seed(seed, query) if dropout else None,
        compute_dtype=compute_dtype,
        opaque=is_opaque(query),
    )


def _check_dtypes(query: Any, key: Any, value: Any) -> None:
    kinds = [dtype_name(array) for array in (query, key, value)]
    if len(set(kinds)) > 1:
        raise DTypeError(
            f"query, key and value must have one dtype; got {kinds[0]}, {kinds[1]} and {kinds[2]}. "
            "Convert them to the most precise of these."
        )


def _shapes_fit(query: Any, key: Any, value: Any) -> bool:
    if query == key == value and len(query) >= 2:  # most calls are such
        return bool(query[-1])
    return (
        len(query) == len(key) == len(value) >= 2
        and query[-1] == key[-1] != 0
        and key[-2] == value[-2]
        and query[:-3] == key[:-3] == value[:-3]
        and (
            len(query) == 2
            or (
                key[-3] == value[-3]
                and (query[-3] == key[-3] or (key[-3] and query[-3] and not query[-3] % key[-3]))
            )
        )
    )


def _refuse_shapes(query: Any, key: Any, value: Any) -> None:
    """Say which of the shapes does not fit, and how.

    Raises:
        ShapeError: always, when `_shapes_fit` is not so.
    """
    shapes = f"query {_shape(query)}, key {_shape(key)}, value {_shape(value)}"
    for name, array, axes in (
        ("query", query, "(..., head, query, feature)"),
        ("key", key, "(..., head, key, feature)"),
        ("value", value, "(..., head, key, feature)"),
    ):
        if array.ndim < 2:
            raise ShapeError(
                f"{name} must have the axes {axes}, at least the last two; got shape "
                f"{_shape(array)}. One vector is one row: {name}[None, :]."
            )
    if not query.ndim == key.ndim == value.ndim:
        raise ShapeError(
            "query, key and value must have the same number of axes; "
            f"got {query.ndim}, {key.ndim} and {value.ndim} ({shapes})."
        )
    if query.shape[-1] == 0:
        raise ShapeError(f"the feature axis d must not be empty; got {shapes}.")
    if query.shape[-1] != key.shape[-1]:
        swapped = query.shape[-1] == key.shape[-2]
        raise ShapeError(
            f"query and key must have the same number of features on their last axis; got "
            f"{query.shape[-1]} and {key.shape[-1]} ({shapes})."
            + (" Is key transposed? attention transposes it itself." if swapped else "")
        )
    if key.shape[-2] != value.shape[-2]:
        raise ShapeError(
            f"key and value must have the same number of tokens on axis −2; got "
            f"{key.shape[-2]} and {value.shape[-2]} ({shapes})."
        )
    if query.ndim == 2:
        return
    if key.shape[-3] != value.shape[-3]:
        raise ShapeError(
            f"key and value must have the same number of heads on axis −3; got "
            f"{key.shape[-3]} and {value.shape[-3]} ({shapes})."
        )
    heads, kv_heads = query.shape[-3], key.shape[-3]
    if heads != kv_heads and (kv_heads == 0 or heads == 0 or heads % kv_heads):
        raise ShapeError(
            f"key has {kv_heads} heads and query {heads}: query heads must be a multiple of key "
            "heads." + (" Did you swap them?" if heads and kv_heads % heads == 0 else "")
        )
    if not query.shape[:-3] == key.shape[:-3] == value.shape[:-3]:
        raise ShapeError(
            f"the batch axes (before head) must be equal; got {tuple(query.shape[:-3])}, "
            f"{tuple(key.shape[:-3])} and {tuple(value.shape[:-3])} ({shapes})."
        )


def _check_bias(
    bias: Any, query: Any, shape: tuple[int, ...], xp: ModuleType, device: Any, dtype: Any
) -> Any:
    if hasattr(bias, "bind"):
        return bias.bind(shape, xp, device, dtype)
    bias = as_float_array("bias", bias)
    common_namespace(query=query, bias=bias)
    own = tuple(bias.shape)
    fits = len(own) <= len(shape) and all(
        size in (1, other) for size, other in zip(own[::-1], shape[::-1], strict=False)
    )
    if not fits:
        raise ShapeError(
            f"bias must broadcast to the weights' (..., head, query, key) = {shape}; got {own}."
        )
    return bias if bias.dtype == dtype else xp.astype(bias, dtype)


def _check_sinks(sinks: Any, query: Any, xp: ModuleType, device: Any, dtype: Any) -> Any:
    if isinstance(sinks, int | float) and not isinstance(sinks, bool):
        sinks = xp.asarray(float(sinks), dtype=dtype, device=device)
    else:
        sinks = as_float_array("sinks", sinks)
        common_namespace(query=query, sinks=sinks)
    heads = query.shape[-3] if query.ndim > 2 else 1
    if tuple(sinks.shape) not in ((), (heads,)):
        raise ShapeError(
            f"sinks must be one number, or one per query head: shape ({heads},); "
            f"got {tuple(sinks.shape)}."
        )
    if query.ndim == 2 and sinks.ndim:  # one head without an axis
        sinks = xp.reshape(sinks, ())
    return sinks if sinks.dtype == dtype else xp.astype(sinks, dtype)


def _check_seed(seed: Any, query: Any) -> Any:
    if is_torch(query) and (seed is None or not hasattr(seed, "__index__") or is_torch(seed)):
        from atento.equation.on_torch.seed import torch_seed

        return torch_seed(seed)
    if seed is None:
        return int(np.random.SeedSequence().generate_state(1, np.uint64)[0])
    if isinstance(seed, np.random.Generator):
        return int(seed.integers(2**63))
    if isinstance(seed, bool) or not hasattr(seed, "__index__"):
        raise InputError(
            f"seed must be a whole number, a numpy.random.Generator or None; got {seed!r}."
        )
    return int(seed) % 2**64


def _number(name: str, number: Any) -> float:
    try:
        value = float(number)
    except (TypeError, ValueError):
        raise InputError(f"{name} must be a number; got {type(number).__name__}.") from None
    if isinstance(number, (bool, str)) or not (is_traced() or isfinite(value)):
        raise InputError(f"{name} must be a finite number; got {number!r}.")
    return value


def _shape(array: Any) -> tuple[int, ...]:
    return tuple(array.shape)
