"""Keys and values as JSON that comes back as what it was: numbers, arrays, lists, any depth.

Strict JSON knows no NaN, tuple or array. Such a thing is written as ``{"atento": [kind, …]}``.
"""

import base64
import binascii
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from atento._errors import InputError

__all__ = ["from_json", "from_json_lines", "to_json"]

MARK = "atento"


def to_json(value: Any) -> bytes:
    r"""The value as one line of JSON.

    Raises:
        InputError: it holds something that no file of an index can hold; says what.

    >>> to_json(["méxico", 7]), to_json((1, 2))
    (b'["m\xc3\xa9xico", 7]', b'{"atento": ["tuple", [1, 2]]}')
    """
    try:
        plain = _plain(value)
        try:
            return json.dumps(plain, ensure_ascii=False, allow_nan=False).encode("utf-8")
        except UnicodeEncodeError:  # a lone surrogate
            return json.dumps(plain, allow_nan=False).encode("ascii")
    except RecursionError:
        raise InputError(
            "a value of an index is nested too deeply, or within itself: give plainer values."
        ) from None


def from_json(line: bytes | memoryview) -> Any:
    """What `to_json` wrote.

    Raises:
        ValueError: it is something else.

    >>> from_json(to_json({"a": (1.5, None)}))
    {'a': (1.5, None)}
    """
    return json.loads(bytes(line), object_hook=_restored)


def from_json_lines(lines: bytes) -> list[Any]:
    r"""What `to_json` wrote, one behind the other, each with its newline.

    Raises:
        ValueError: it is something else.

    >>> from_json_lines(b'7\n"a"\n')
    [7, 'a']
    """
    # a newline in a text is written as \\n, so every one of these ends a line
    joined = b"[%b]" % lines.removesuffix(b"\n").replace(b"\n", b",")
    hook = _restored if b'"atento"' in lines else None  # a call for every dict takes its time
    found: list[Any] = json.loads(joined, object_hook=hook)
    return found


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool) or type(value) in (int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else _marked("number", repr(value))
    if type(value) is list:
        return [_plain(one) for one in value]
    if type(value) is tuple:
        return _marked("tuple", [_plain(one) for one in value])
    if type(value) is dict:
        if all(type(key) is str for key in value) and MARK not in value:
            return {key: _plain(one) for key, one in value.items()}
        return _marked("dict", [[_plain(key), _plain(one)] for key, one in value.items()])
    if isinstance(value, bytes):
        return _marked("bytes", base64.b64encode(value).decode("ascii"))
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufc":
        # .astype and not .newbyteorder: files are the same on every machine
        array = np.asarray(value).astype(value.dtype.newbyteorder("<"))
        kind = "array" if isinstance(value, np.ndarray) else "scalar"
        content = base64.b64encode(array.tobytes()).decode("ascii")
        return _marked(kind, [array.dtype.str, list(array.shape), content])
    raise InputError(
        f"a value of type {type(value).__module__}.{type(value).__qualname__} cannot be stored in "
        "an index: text, numbers, lists, dicts and arrays of numbers can. Store a path or an id."
    )


def _marked(kind: str, content: Any) -> dict[str, list[Any]]:
    return {MARK: [kind, content]}


def _restored(found: dict[str, Any]) -> Any:
    if MARK not in found:
        return found
    try:
        kind, content = found[MARK]
        return _RESTORE[kind](content)
    except (KeyError, TypeError, binascii.Error) as error:
        raise ValueError(f"unknown mark {found[MARK]!r:.60}") from error


def _array(content: list[Any]) -> Any:
    dtype, shape, text = content
    if np.dtype(dtype).kind not in "biufc":
        raise ValueError(f"unknown dtype {dtype!r:.60}")
    data = base64.b64decode(text, validate=True)
    array = np.frombuffer(data, dtype).reshape(shape)
    return array.astype(array.dtype.newbyteorder("="))


_RESTORE: dict[str, Callable[[Any], Any]] = {
    "number": float,
    "tuple": tuple,
    "dict": dict,
    "bytes": lambda text: base64.b64decode(text, validate=True),
    "array": _array,
    "scalar": lambda content: _array(content)[()],
}
