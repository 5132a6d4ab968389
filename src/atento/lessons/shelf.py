"""Where the lessons stand, what they are called, and how a reader takes one home."""

import json
from dataclasses import dataclass
from pathlib import Path

from atento._errors import InputError
from atento._files import write_whole

__all__ = ["Lesson", "lessons", "take"]

LANGUAGES = ("en", "es")
BESIDE = Path(__file__).parent  # in an installed package
SOURCES = Path(__file__).parents[3] / "lessons"  # in a checkout


@dataclass(frozen=True)
class Lesson:
    """A notebook.

    Attributes:
        number: its place, from 1.
        title: its heading, in its own language.
        lang: "en" or "es".
        path: the notebook as it was delivered.

    >>> lesson = lessons("en")[0]
    >>> lesson.number, lesson.lang, lesson.home_name
    (1, 'en', '01_from_dictionary_to_attention.en.ipynb')
    """

    number: int
    title: str
    lang: str
    path: Path

    @property
    def home_name(self) -> str:
        """The name of a reader's copy; both languages may lie in one folder."""
        return f"{self.path.stem}.{self.lang}.ipynb"


def lessons(lang: str = "en") -> list[Lesson]:
    """All lessons of one language, in order.

    Args:
        lang: "en" or "es".

    Raises:
        InputError: for another language; or where this installation has no lessons.

    >>> lessons("es")[0].title
    'Del diccionario a la atención'
    """
    if lang not in LANGUAGES:
        raise InputError(
            f"lang must be one of {', '.join(LANGUAGES)}. Got {lang!r}: choose one of these."
        )
    folder = next((place / lang for place in (BESIDE, SOURCES) if (place / lang).is_dir()), None)
    if folder is None:
        raise InputError(
            "the lessons are not part of this installation: they should stand in "
            f"{BESIDE / lang}. Install atento again."
        )
    paths = sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    return [Lesson(int(path.name[:2]), _title(path), lang, path) for path in paths]


def take(number: int, folder: str | Path = ".", lang: str = "en") -> tuple[Path, bool]:
    """Copies a lesson's notebook into a folder; a copy that is there is left as it is.

    Args:
        number: which lesson, from 1.
        folder: where to put it.
        lang: "en" or "es".

    Returns:
        The reader's notebook, and whether it is new.

    Raises:
        InputError: for a lesson or a folder that does not exist, or cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as home:
    ...     path, new = take(1, home, lang="es")
    ...     path.name, new
    ('01_from_dictionary_to_attention.es.ipynb', True)
    """
    found = {lesson.number: lesson for lesson in lessons(lang)}
    if number not in found:
        raise InputError(f"lessons go from 1 to {max(found)}. Got {number}: choose one of these.")
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}. Make it first, or name another one.")
    copy = folder / found[number].home_name
    if copy.exists():
        return copy, False
    try:
        write_whole(copy, [found[number].path.read_bytes()])
    except OSError as error:
        raise InputError(f"the lesson cannot be written to {copy}: {error.strerror}.") from error
    return copy, True


def _title(path: Path) -> str:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    heading = "".join(notebook["cells"][0]["source"]).partition("\n")[0]
    return heading.lstrip("# ").partition("·")[2].strip()
