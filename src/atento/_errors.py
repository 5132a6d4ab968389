"""What atento raises: every message says what was expected, what came and what to do."""

__all__ = [
    "AtentoError",
    "DTypeError",
    "EngineError",
    "InputError",
    "MissingLibraryError",
    "ShapeError",
]


class AtentoError(Exception):
    """The root of all errors that atento raises on purpose.

    Args:
        message: the sentence: what was expected, what came, what to do.
        name: what happened, in one word, where the command line says it in other languages too.
        **facts: what the sentence in those languages is filled in with.

    Attributes:
        name: what happened, in one word, where the command line says it in other languages too.
        facts: what the sentence in those languages is filled in with.

    >>> error = AtentoError("a name is missing", name="no_name", place="names.txt")
    >>> str(error), error.name, error.facts
    ('a name is missing', 'no_name', {'place': 'names.txt'})
    """

    def __init__(self, message: str, *, name: str | None = None, **facts: object) -> None:
        super().__init__(message)
        self.name = name
        self.facts = facts


class InputError(AtentoError, ValueError):
    """An argument, text or file that cannot be used as it is.

    >>> import atento
    >>> atento.masks.Prefix(-1)
    Traceback (most recent call last):
        ...
    atento._errors.InputError: Prefix: n must be a whole number from 0 on; got -1.
    """


class ShapeError(InputError):
    """Arrays whose axes do not fit together.

    >>> import numpy as np, atento
    >>> atento.attention(np.ones((2, 3)), np.ones((2, 4)), np.ones((2, 4)))
    Traceback (most recent call last):
        ...
    atento._errors.ShapeError: ...
    """


class DTypeError(AtentoError, TypeError):
    """An array of a kind or element type that attention is not defined on.

    >>> import numpy as np, atento
    >>> atento.attention(np.ones((2, 3), int), np.ones((2, 3), int), np.ones((2, 3), int))
    Traceback (most recent call last):
        ...
    atento._errors.DTypeError: ...
    """


class EngineError(InputError):
    """The engine named cannot serve this request.

    >>> import numpy as np, atento
    >>> atento.plan(np.ones((2, 3)), np.ones((2, 3)), np.ones((2, 3)), engine="fused")
    Traceback (most recent call last):
        ...
    atento._errors.EngineError: ...
    """


class MissingLibraryError(AtentoError, ImportError):
    """An optional library that is not installed."""
