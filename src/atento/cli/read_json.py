"""Nested lists of numbers from JSON; what doesn't fit is named by its place, ``[2][0]``."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atento.cli.read_text import read_text, shortened
from atento.views.words import Words, mistake

__all__ = ["read_json"]


def read_json(path: Path, word: Words) -> NDArray[np.float64]:
    """The array in a JSON file.

    Raises:
        InputError: not JSON, ragged lists, or something else in a number's place; says where.
    """
    try:
        content = json.loads(read_text(path, word))
    except json.JSONDecodeError as error:
        place = {"line": error.lineno, "column": error.colno}
        raise mistake(word, "json_syntax", path=path, why=error.msg, **place) from None
    except RecursionError:
        raise mistake(word, "json_limits", path=path) from None
    except ValueError as error:
        if "digit" not in str(error):  # Python refuses to convert whole numbers of 4,301 digits
            raise
        raise mistake(word, "json_limits", path=path) from None
    if not isinstance(content, list):
        came = word("error.json_object") if isinstance(content, dict) else shortened(content)
        raise mistake(word, "json_top", path=path, came=came)
    shape = _shape(content)
    if len(shape) > 4:
        raise mistake(word, "json_limits", path=path)
    _check(path, word, content, shape, ())
    try:
        return np.array(content, dtype=np.float64)
    except OverflowError:
        raise mistake(word, "json_limits", path=path) from None


def _shape(content: Any) -> tuple[int, ...]:
    """The shape that the first element of each list promises for all."""
    shape: list[int] = []
    while isinstance(content, list):
        shape.append(len(content))
        content = content[0] if content else None
    return tuple(shape)


def _check(
    path: Path, word: Words, content: Any, shape: tuple[int, ...], at: tuple[int, ...]
) -> None:
    where = "".join(f"[{index}]" for index in at) or word("error.top")
    is_list = isinstance(content, list)
    came = word("error.json_list", n=len(content)) if is_list else None
    if not shape:
        if is_list:
            raise mistake(word, "json_deep", path=path, where=where, came=came)
        # bool is an int in Python, but true is not a number in anyone's matrix
        if isinstance(content, bool) or not isinstance(content, int | float):
            came = shortened(content)
            raise mistake(word, "json_no_number", path=path, where=where, came=came)
        return
    if not is_list or len(content) != shape[0]:
        came = came or shortened(content)
        raise mistake(word, "json_ragged", path=path, where=where, expected=shape[0], came=came)
    for index, element in enumerate(content):
        _check(path, word, element, shape[1:], (*at, index))
