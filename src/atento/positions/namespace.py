"""Which array library computes a position: an answer that PyTorch's tracing can follow."""

from types import ModuleType
from typing import Any

import numpy as np

from atento._arrays import FLOATS, HALVES, dtype_name, is_numpy, is_torch, torch_namespace
from atento._errors import DTypeError

__all__ = [
    "as_array",
    "as_float_array",
    "check_with_query",
    "library_of",
    "namespace_of",
    "table_dtype",
]


def namespace_of(array: Any) -> ModuleType:
    """The array API namespace of this array.

    `array_api_compat.array_namespace` answers from caches that ``torch.compile`` cannot look
    into; so the one library that traces its users is recognised here.
    """
    if is_numpy(array):
        return np
    if hasattr(array, "__array_namespace__"):
        speaks_for_itself: ModuleType = array.__array_namespace__()
        return speaks_for_itself
    if is_torch(array):
        return torch_namespace()
    import array_api_compat

    found: ModuleType = array_api_compat.array_namespace(array)
    return found


def library_of(xp: ModuleType) -> str:
    """The plain name of a namespace's library: ``"numpy"``, ``"jax"``, … for messages.

    >>> library_of(np)
    'numpy'
    """
    return xp.__name__.removeprefix("array_api_compat.").partition(".")[0]


def as_array(array: Any) -> Any:
    """The array itself, or the NumPy array that a nested list (or one number) stands for."""
    return array if hasattr(array, "dtype") and hasattr(array, "shape") else np.asarray(array)


def as_float_array(what: str, array: Any) -> Any:
    """The array, after a check that its elements are floating-point numbers."""
    array = as_array(array)
    if dtype_name(array) not in FLOATS:
        raise DTypeError(
            f"{what} must hold floating-point numbers; got {dtype_name(array)}. "
            "Convert it to float32 or float64 first."
        )
    return array


def check_with_query(what: str, array: Any, xp: ModuleType, device: Any) -> None:
    """See that an array can be computed with queries of this library, on this device.

    Raises:
        DTypeError: when it is of another library, or on another device.
    """
    own = library_of(namespace_of(array))
    if own != library_of(xp):
        raise DTypeError(
            f"{what} is a {own} array and query a {library_of(xp)} array: "
            "all must come from one library. Convert one of them."
        )
    if own != "numpy" and array.device != device:
        raise DTypeError(
            f"{what} is on {array.device} and query on {device}: "
            "all must be on one device. Move one of them."
        )


def table_dtype(xp: ModuleType, array: Any) -> Any:
    """What tables for this array are computed in: its own dtype, and float32 for half precision.

    bfloat16 knows no odd whole number above 256: a distance or an angle must not pass through it.
    """
    return xp.float32 if dtype_name(array) in HALVES else array.dtype
