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

    Attributes:
        name: what happened, in one word, where the command line says it in other languages too.
        facts: what the sentence in those languages is filled in with.
    """

    def __init__(self, message: str, *, name: str | None = None, **facts: object) -> None:
        super().__init__(message)
        self.name = name
        self.facts = facts


class InputError(AtentoError, ValueError):
    """An argument, text or file that cannot be used as it is."""


class ShapeError(InputError):
    """Arrays whose axes do not fit together."""


class DTypeError(AtentoError, TypeError):
    """An array of a kind or element type that attention is not defined on."""


class EngineError(InputError):
    """The engine named cannot serve this request."""


class MissingLibraryError(AtentoError, ImportError):
    """An optional library that is not installed."""
