"""Runs a lesson in a kernel, as a reader would."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

from nbclient import NotebookClient
from nbformat import NotebookNode

__all__ = ["run"]

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


def _environment(lang: str, folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "LC_ALL": LOCALES[lang],
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "IPYTHONDIR": str(folder / ".ipython"),  # the runner's own profile must not matter
    }
