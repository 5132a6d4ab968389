"""Which pages there are."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
READMES = [ROOT / "README.md", ROOT / "README.es.md"]
MADE = {"coverage.md"}  # by experiments.coverage, which has tests of its own
WRITTEN = sorted(
    path
    for path in (ROOT / "docs").rglob("*.md")
    if path.name not in MADE and "making" not in path.parts
)
PAGES = [*READMES, *WRITTEN]
