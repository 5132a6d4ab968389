"""A setting of training or generating, seen to be one that makes sense."""

from typing import Any

from atento._errors import InputError

__all__ = ["number", "within"]


def within(name: str, value: Any, fits: bool, wanted: str) -> None:
    """Refuse a value that does not fit.

    Args:
        name: of the setting.
        value: what came.
        fits: whether it may be so.
        wanted: what it must be, in words that the command line's languages have.

    Raises:
        InputError: what was wanted, and what came.
    """
    if not fits:
        raise InputError(
            f"{name} must be {wanted}; got {value!r}.",
            name="lm_setting",
            setting=name,
            wanted=wanted,
            came=repr(value),
        )


def number(value: Any) -> bool:
    """Whether it can be compared with one; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)
