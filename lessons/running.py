"""Runs a lesson in a kernel, as a reader would."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook

__all__ = ["run", "run_in_turn"]

LOCALES = {"en": "C.UTF-8", "es": "es_ES.UTF-8"}
LIMIT = 300  # seconds for one cell


def run(notebook: NotebookNode, lang: str = "en") -> NotebookNode:
    """Runs all cells in an empty folder and keeps what they print in the notebook.

    Args:
        notebook: is changed.
        lang: what atento speaks in the kernel.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    with TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook, timeout=LIMIT, kernel_name="python3", resources={"metadata": {"path": folder}}
        )
        client.execute(env=_environment(lang, Path(folder)))
    return notebook


def run_in_turn(*notebooks: NotebookNode, lang: str = "en") -> None:
    """As `run` one notebook after another, in one kernel that forgets all names in between.

    Libraries are loaded once, which takes as long as most lessons.
    """
    cells: list[NotebookNode] = []
    for notebook in notebooks:
        cells += [new_code_cell("%reset -f"), *notebook.cells]
    for place, cell in enumerate(cells):
        cell["id"] = f"cell-{place}"  # both languages of a lesson have the same
    run(new_notebook(cells=cells), lang)


def _environment(lang: str, folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "LC_ALL": LOCALES[lang],
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "IPYTHONDIR": str(folder / ".ipython"),  # the runner's own profile must not matter
    }
