"""`python -m docs.making.picture` draws docs/attention.svg, for the README and home."""

from pathlib import Path

import atento

__all__ = ["PICTURE", "TEXT", "draw"]

PICTURE = Path(__file__).parents[1] / "attention.svg"
TEXT = "the cat sat on the mat because it was tired"


def draw(path: Path) -> None:
    """Every step of the head that is most telling for the text."""
    atento.save(atento.explain(TEXT), path, kind="steps", lang="en", title="")


if __name__ == "__main__":
    draw(PICTURE)
