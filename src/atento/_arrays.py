"""Which array library an array belongs to, and what may be computed with it.

NumPy is always here; every other library is recognised by `array_api_compat`, which touches only
libraries that are already loaded.
"""

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from atento._errors import DTypeError, ShapeError

__all__ = [
    "array_device",
    "as_float_array",
    "common_namespace",
    "dtype_name",
    "fit_tensors",
    "is_numpy",
    "is_opaque",
    "is_torch",
    "is_traced",
    "to_numpy",
    "torch_namespace",
]

FLOATS = ("bfloat16", "float16", "float32", "float64")
HALVES = ("bfloat16", "float16")


def is_numpy(array: object) -> bool:
    """Whether this is a NumPy array (or one of its scalars)."""
    return isinstance(array, (np.ndarray, np.generic))  # a tuple: torch.compile reads it


def is_torch(array: object) -> bool:
    """Whether this is a PyTorch tensor; torch is not loaded to find out."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.Tensor)


def is_traced() -> bool:
    """Whether `torch.compile` or `torch.export` reads this call: values cannot be looked at."""
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.compiler.is_compiling())


def is_opaque(array: Any) -> bool:
    """Whether the numbers of this array cannot be looked at.

    So it is while a compiler traces the call, on torch's meta device, for its fake tensors, and
    within `torch.func.grad`, `vmap` and their like.
    """
    if not is_torch(array):
        return False
    if is_traced() or array.is_meta:
        return True
    torch = sys.modules["torch"]
    if type(array) not in (torch.Tensor, torch.nn.Parameter):
        return True
    return bool(torch._C._functorch.is_functorch_wrapped_tensor(array))


def dtype_name(array: Any) -> str:
    """The plain name of the element type: ``"float32"`` in every library.

    >>> dtype_name(np.zeros(3, ">f4"))
    'float32'
    """
    dtype = array.dtype
    if is_torch(array):  # asked for with every call
        return str(dtype)[6:]  # torch.float32
    return str(getattr(dtype, "name", dtype)).rsplit(".", 1)[-1]


def library_name(array: object) -> str:
    """The library an array comes from, for messages."""
    return type(array).__module__.partition(".")[0]


def as_array(name: str, array: Any) -> Any:
    """The array itself, or the NumPy array that a nested list (or a data frame) stands for."""
    if isinstance(array, np.ma.MaskedArray):
        raise DTypeError(
            f"{name} is a NumPy masked array, whose mask attention would lose. "
            "Pass its .data, and what may be seen as mask= (True = attends)."
        )
    if is_numpy(array):
        return np.asarray(array)
    if is_torch(array) or _is_foreign(array):
        return array
    if array is None or isinstance(array, str | bytes | dict | set):
        raise DTypeError(
            f"{name} must be an array or a nested list of numbers; got {type(array).__name__}."
        )
    try:
        return np.asarray(array)
    except ValueError:
        raise ShapeError(
            f"{name} is a ragged list: all rows of an array have the same length; got "
            f"{_ragged(array) or 'rows that differ'}. Pad the short rows, and hide the padding "
            "with mask=KeyPadding(...)."
        ) from None


def as_float_array(name: str, array: Any) -> Any:
    """The array, after a check that its elements are real floating-point numbers.

    Raises:
        DTypeError: for integers, booleans, complex numbers, objects and text, with what to do.
        ShapeError: for a ragged list.
    """
    if is_torch(array) and array.is_floating_point():  # the way of every module: kept short
        kind = dtype_name(array)
        if kind in FLOATS:
            return array
    array = as_array(name, array)
    kind = dtype_name(array)
    if kind in FLOATS:
        if is_numpy(array) and not array.dtype.isnative:
            return array.astype(array.dtype.newbyteorder("="))
        return array
    if kind.startswith(("int", "uint")):
        advice = "attention is not defined on integers: convert it to float first, " + (
            f"as in {name}.astype('float32')." if is_numpy(array) else "for instance to float32."
        )
    elif kind == "bool":
        advice = "a bool array belongs in mask= (True = attends)."
    elif kind.startswith("complex"):
        advice = "attention is defined on real numbers: choose its real part or its magnitude."
    elif kind == "object":
        advice = (
            "it holds Python objects: build it as numbers, as in np.array(rows, dtype='float32')."
        )
    else:
        advice = "convert it to float32 or float64."
    raise DTypeError(f"{name} must be a float16, float32 or float64 array; got {kind}: {advice}")


def fit_tensors(query: Any, key: Any, value: Any) -> bool:
    """Whether these are PyTorch tensors of one float dtype on one device.

    Most calls are such, and a module makes thousands: this answers without a detour.
    """
    torch = sys.modules.get("torch")
    return (
        torch is not None
        and isinstance(query, torch.Tensor)
        and isinstance(key, torch.Tensor)
        and isinstance(value, torch.Tensor)
        and query.dtype == key.dtype == value.dtype
        and query.device == key.device == value.device
        and query.dtype.is_floating_point
        and query.dtype.itemsize >= 2  # no float8
    )


def common_namespace(**arrays: Any) -> tuple[ModuleType, Any]:
    """The array namespace and the device that all these arrays share.

    Raises:
        DTypeError: when they come from different libraries or live on different devices.
    """
    first_name, first = next(iter(arrays.items()))
    if all(is_numpy(array) for array in arrays.values()):
        return np, "cpu"
    if all(is_torch(array) for array in arrays.values()):
        xp = torch_namespace()
        _check_devices(first_name, first, arrays, lambda array: array.device)
        return xp, first.device
    import array_api_compat

    for name, array in arrays.items():
        if is_numpy(array) != is_numpy(first) or library_name(array) != library_name(first):
            raise DTypeError(
                f"{first_name} is a {library_name(first)} array and {name} a "
                f"{library_name(array)} array: all must come from one library. Convert one of them."
            )
    xp = array_api_compat.array_namespace(*arrays.values())
    _check_devices(first_name, first, arrays, array_api_compat.device)
    return xp, array_api_compat.device(first)


def _check_devices(
    first_name: str, first: Any, arrays: dict[str, Any], device_of: Callable[[Any], Any]
) -> None:
    for name, array in arrays.items():
        if device_of(array) != device_of(first):
            raise DTypeError(
                f"{first_name} is on {device_of(first)} and {name} on {device_of(array)}: "
                "all must be on one device. Move one of them."
            )


_torch_namespace: ModuleType | None = None


def torch_namespace() -> ModuleType:
    """PyTorch in array API terms."""
    global _torch_namespace  # an import statement takes longer
    if _torch_namespace is None:
        import array_api_compat.torch

        _torch_namespace = array_api_compat.torch
    return _torch_namespace


def array_device(array: Any) -> Any:
    """The device of an array, as its library names it."""
    if is_numpy(array):
        return "cpu"
    if is_torch(array):
        return array.device
    import array_api_compat

    return array_api_compat.device(array)


def to_numpy(array: Any) -> npt.NDArray[Any]:
    """The same numbers as a NumPy array (a copy only where the library needs one)."""
    if is_numpy(array) or not _is_foreign(array):
        return np.asarray(array)
    if hasattr(array, "detach"):
        array = array.detach()
    if hasattr(array, "cpu"):
        array = array.cpu()
    if dtype_name(array) == "bfloat16" and hasattr(array, "float"):
        array = array.float()  # NumPy has no bfloat16
    try:
        return np.asarray(array)
    except (RuntimeError, TypeError):
        return np.from_dlpack(array)


def _is_foreign(array: object) -> bool:
    if isinstance(array, list | tuple | int | float | complex | bool):
        return False
    import array_api_compat

    return bool(array_api_compat.is_array_api_obj(array))


def _ragged(rows: Any) -> str | None:
    """Where a nested list first departs from its own shape, in words; None where it does not."""
    try:
        lengths = [len(row) for row in rows]
    except TypeError:
        mixed = any(hasattr(row, "__len__") for row in rows)
        return "numbers and rows mixed" if mixed else None
    for index, length in enumerate(lengths):
        if length != lengths[0]:
            return f"row 0 with {lengths[0]} entries and row {index} with {length}"
    return next(filter(None, map(_ragged, rows)), None)
