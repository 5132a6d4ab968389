"""The folder that the site is built from: pages that are written and pages that are made."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from docs.making.benchmarks_page import benchmarks_page
from docs.making.commands_page import commands_page
from docs.making.gallery_page import gallery_page
from docs.making.lesson_pages import lesson_pages
from docs.making.reference_pages import reference_pages

__all__ = ["assemble"]

ROOT = Path(__file__).parents[2]
QUICK = "ATENTO_DOCS_QUICK"
"""Where this environment variable is set, no lesson is run and no picture is made."""


def assemble(folder: Path) -> None:
    """Fill the folder with all pages and their pictures."""
    shutil.copytree(
        ROOT / "docs",
        folder,
        dirs_exist_ok=True,
        ignore=shutil.ignore_patterns("making", "words.txt", "__pycache__"),
    )
    shutil.copyfile(
        folder / "attention.svg", folder / "attention.es.svg"
    )  # each language has its own
    for path, content in _made(folder, quick=bool(os.environ.get(QUICK))):
        page = folder / path
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(content, encoding="utf-8")


def _made(folder: Path, *, quick: bool) -> Iterator[tuple[str, str]]:
    yield "code/architecture.md", (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    yield "gallery.md", gallery_page(folder, quick=quick)
    yield "reference/benchmarks.md", benchmarks_page()
    yield "reference/commands.md", commands_page()
    yield "reference/index.md", REFERENCE
    yield from lesson_pages(folder, quick=quick)
    yield from reference_pages()


REFERENCE = """# Reference

- [Commands](commands.md): every command and every option.
- Every public name, by module: [atento](atento.md), [masks](masks.md),
  [positions](positions.md), [nn](nn.md), [nn.convert](convert.md), [statistics](statistics.md),
  [retrieval](retrieval.md), [lm](lm.md), [lessons](lessons.md).
- [Model families](../coverage.md): which models `capture` reads, and how exactly.
- [Benchmarks](benchmarks.md): what was measured, and on which machine.
"""
