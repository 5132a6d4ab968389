"""A figure that knows what it shows, and shows itself where a notebook's cell ends in it.

The figures that `plot` makes are not pyplot's, so no backend shows them. matplotlib stands at the
top of this file alone: who loads it has asked for a figure.
"""

from typing import Any

import matplotlib.axes
import matplotlib.figure

__all__ = ["Axes", "Figure"]


class Figure(matplotlib.figure.Figure):
    """matplotlib's figure, with what it shows.

    Attributes:
        description: in a sentence or two, for those who cannot see it; in files it stands among
            the metadata, in a notebook it is the picture's alternative text.
    """

    description: str = ""

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Any:  # noqa: ARG002
        """For notebooks: the picture and its alternative text, or None for the repr."""
        from atento.views.notebook import figure_bundle

        return figure_bundle(self, self)


class Axes(matplotlib.axes.Axes):
    """matplotlib's axes: shown, they show their whole figure."""

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Any:  # noqa: ARG002
        """For notebooks: that of the figure."""
        from atento.views.notebook import figure_bundle

        whole = self.figure and self.figure.get_figure(root=True)
        return figure_bundle(whole, self) if isinstance(whole, Figure) else None
