"""The sources of the lessons, and the notebooks made of them."""

import hashlib
from pathlib import Path

import jupytext
import nbformat
from nbformat import NotebookNode

__all__ = [
    "HERE",
    "LANGUAGES",
    "differences",
    "is_code",
    "is_question",
    "notebook",
    "pair",
    "solved",
    "source",
    "stems",
    "varies",
]

HERE = Path(__file__).parent
LANGUAGES = ("en", "es")


def stems() -> list[str]:
    """The names of all lessons that have a source in some language, in order."""
    return sorted({path.stem for lang in LANGUAGES for path in (HERE / lang).glob("[0-9]*_*.py")})


def source(lang: str, stem: str) -> Path:
    """The percent file of a lesson."""
    return HERE / lang / f"{stem}.py"


def notebook(lang: str, stem: str) -> NotebookNode:
    """The notebook of a lesson, without outputs; the same bytes each time."""
    made = jupytext.read(source(lang, stem))
    made.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    made.nbformat, made.nbformat_minor = 4, 5
    for place, cell in enumerate(made.cells):
        cell["id"] = hashlib.sha256(f"{stem} {place}".encode()).hexdigest()[:8]
    nbformat.validate(made)
    return made


def solved(lang: str, stem: str) -> NotebookNode:
    """The notebook with what a right reader would have written in the cells of questions.

    Raises:
        ValueError: there are not as many solutions as questions.
    """
    made = notebook(lang, stem)
    asked = [cell for cell in made.cells if is_question(cell)]
    answers = [
        cell for cell in jupytext.read(HERE / "solutions" / f"{stem}.py").cells if is_code(cell)
    ]
    for cell, answer in zip(asked, answers, strict=True):
        cell.source = answer.source
    return made


def pair() -> list[Path]:
    """Writes the notebook of every source; returns those that changed."""
    changed = []
    for lang in LANGUAGES:
        for stem in stems():
            if not source(lang, stem).exists():
                continue  # not written yet; a test says so
            path = source(lang, stem).with_suffix(".ipynb")
            text = nbformat.writes(notebook(lang, stem)) + "\n"
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                path.write_text(text, encoding="utf-8")
                changed.append(path)
    return changed


def differences(stem: str) -> list[str]:
    """Where the two languages of a lesson are not the same apart from their prose."""
    missing = [f"{stem}: not in {lang}" for lang in LANGUAGES if not source(lang, stem).exists()]
    if missing:
        return missing
    one, other = (notebook(lang, stem).cells for lang in LANGUAGES)
    found = []
    if len(one) != len(other):
        found.append(f"{stem}: {len(one)} cells in English, {len(other)} in Spanish")
    for place, (left, right) in enumerate(zip(one, other, strict=False)):
        if left.cell_type != right.cell_type:
            found.append(f"{stem}, cell {place}: {left.cell_type} and {right.cell_type}")
        elif is_code(left) and (left.source, _tags(left)) != (right.source, _tags(right)):
            found.append(f"{stem}, cell {place}: the code or its tags differ: {left.source!r}")
        elif is_code(left) and _untold(left, right):
            found.append(f"{stem}, cell {place}: alt= must be in both languages, or in none")
        elif not is_code(left) and _headings(left.source) != _headings(right.source):
            found.append(f"{stem}, cell {place}: headings of other levels")
    return found


def is_code(cell: NotebookNode) -> bool:
    """Whether a cell is run."""
    return bool(cell.cell_type == "code")


def is_question(cell: NotebookNode) -> bool:
    """Whether a reader writes here."""
    return is_code(cell) and "question" in _tags(cell)


def varies(cell: NotebookNode) -> bool:
    """Whether what a cell prints is another thing each time: times, memory, trained models."""
    return "varies" in _tags(cell)


def _tags(cell: NotebookNode) -> list[str]:
    return list(cell.metadata.get("tags", []))


def _untold(one: NotebookNode, other: NotebookNode) -> bool:
    """Whether the words for a picture are in one language alone, or the same in both."""
    told = one.metadata.get("alt"), other.metadata.get("alt")
    return told != (None, None) and (None in told or told[0] == told[1])


def _headings(text: str) -> list[int]:
    lines = (line for line in text.splitlines() if line.startswith("#"))
    return [len(line) - len(line.lstrip("#")) for line in lines]
