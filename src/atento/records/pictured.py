"""The one way up from a record: its picture is asked for by name, at the front door."""

from importlib import import_module
from typing import Any

__all__ = ["Pictured"]


class Pictured:
    """A record that can be drawn: ``record.plot()`` is ``atento.plot(record)``.

    As the last line of a notebook's cell it shows itself, as `atento.show` would.

    Records know nothing of the views that draw them, and import none. This file names the
    package's own front door, and only when somebody asks for a picture.
    """

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Any:  # noqa: ARG002
        """For notebooks: the kinds in which the record can be shown, or None for its repr."""
        return import_module("atento.views.notebook").cell_bundle(self)

    def plot(self, ax: Any = None, *, kind: str | None = None, **options: Any) -> Any:
        """Draw it with matplotlib: `atento.plot`, which describes kinds and options.

        Args:
            ax: matplotlib axes to draw into; left out, a figure is made.
            kind: "map", "grid", "arcs", "steps" or "curves".
            **options: of `atento.plot`: ``layer``, ``head``, ``width``, ``lang``, ...

        Returns:
            The axes; ``.figure`` is the whole.

        Raises:
            MissingLibraryError: matplotlib is not installed.
            InputError: an unknown kind, option, layer or head.
        """
        return import_module("atento").plot(self, kind, ax=ax, **options)
