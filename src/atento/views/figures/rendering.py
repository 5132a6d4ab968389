"""A figure as the bytes of a file: the same bytes each time, and text as text."""

import io
from typing import TYPE_CHECKING

from atento.views.figures.pictures import DOTS
from atento.views.figures.style import description_of, figure_of, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["render_figure"]

UNDATED: dict[str, dict[str, str | None]] = {
    ".svg": {"Date": None},
    ".pdf": {"CreationDate": None},
    ".png": {},
}
DESCRIBED = {".svg": "Description", ".pdf": "Subject", ".png": "Description"}
"""What each format calls the words for those who cannot see it."""


def render_figure(axes: "Axes", ending: str, dots: int = DOTS) -> bytes:
    """The figure that the axes stand in, as an .svg, .png or .pdf file; it carries its description.

    Text is text: in .svg as ``<text>``, in .pdf in embedded TrueType fonts.

    Args:
        axes: what `plot` returned.
        ending: .svg, .png or .pdf.
        dots: per inch, of pixels in .png and of pictures inside the others.
    """
    file = io.BytesIO()
    metadata = {**UNDATED[ending], "Title": axes.get_title() or "atento"}
    metadata[DESCRIBED[ending]] = description_of(axes) or None
    with style():
        figure_of(axes).savefig(file, format=ending[1:], dpi=dots, metadata=metadata)
    return file.getvalue()
