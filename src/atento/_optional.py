"""Optional libraries: loaded where they are needed, asked for in words where they are missing."""

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from atento._errors import MissingLibraryError

__all__ = ["require"]

EXTRAS = {
    "torch": "torch",
    "transformers": "models",
    "tokenizers": "models",
    "matplotlib": "plot",
    "anywidget": "notebook",
    "starlette": "serve",
    "uvicorn": "serve",
    "faiss": "search",
    "numba": "fast",
    "sklearn": "learn",
}
"""Which extra of this package brings which library."""


def require(library: str, purpose: str) -> ModuleType:
    """Import an optional library, or say what it was for and how to install it.

    Args:
        library: its import name.
        purpose: what it is needed for, to end the sentence "torch is needed …".

    Raises:
        MissingLibraryError: when it is not installed.

    >>> require("math", "to count").sqrt(4.0)
    2.0
    """
    if find_spec(library) is None:
        extra = EXTRAS.get(library)
        command = f'pip install "atento[{extra}]"' if extra else f"pip install {library}"
        raise MissingLibraryError(
            f"{library} is needed {purpose}, and it is not installed: {command}"
        )
    return import_module(library)
