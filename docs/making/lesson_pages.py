"""The lessons as pages: each is run once, and its outputs kept by what it was made of."""

import base64
import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from textwrap import indent
from typing import Any

import nbformat
from docs.making.cache import PACKAGE, kept
from docs.making.formulas import with_mathml
from lessons.running import run
from lessons.sources import LANGUAGES, notebook, source, stems

__all__ = ["lesson_pages", "titles", "told_of"]

TAKE = {
    "en": "[The notebook](notebooks/{name}) runs as it is in Jupyter, VS Code and Colab; "
    "`atento lessons {number}` copies it into your folder.",
    "es": "[El cuaderno](notebooks/{name}) funciona tal cual en Jupyter, VS Code y Colab; "
    "`atento lessons {number} --lang es` lo copia en tu carpeta.",
}
SETUP = {"en": "Install what is missing", "es": "Instalar lo que falte"}
INDEX = {
    "en": "# Lessons\n\nEight notebooks of 10 to 25 minutes each, with questions that check your "
    "answer. The code is the same in English and Spanish.\n\n",
    "es": "# Lecciones\n\nOcho cuadernos de entre 10 y 25 minutos, con preguntas que comprueban tu "
    "respuesta. El código es el mismo en español y en inglés.\n\n",
}


def titles(lang: str) -> dict[str, str]:
    """The title of each lesson that is written, by its file's stem."""
    return {stem: _title(notebook(lang, stem)) for stem in stems() if source(lang, stem).exists()}


def lesson_pages(folder: Path, *, quick: bool) -> Iterator[tuple[str, str]]:
    """The path of each page below the docs, and its Markdown; pictures and notebooks are written.

    Args:
        folder: where the pages will lie.
        quick: whether lessons are shown without what they print.
    """
    for lang in LANGUAGES:
        ending = ".md" if lang == "en" else f".{lang}.md"
        listed = [f"{INDEX[lang]}"]
        for stem, title in titles(lang).items():
            plain = notebook(lang, stem)
            name = f"{stem}.ipynb"
            _write(folder / f"lessons/notebooks/{stem}.{lang}.ipynb", nbformat.writes(plain) + "\n")
            shown = plain if quick else _run(lang, stem)
            pictures = _Pictures(folder / "lessons/pictures", stem, lang)
            take = TAKE[lang].format(name=name, number=int(stem[:2]))
            yield f"lessons/{stem}{ending}", _page(shown, take, pictures)
            listed.append(f"- [{title}]({stem}.md)\n")
        yield f"lessons/index{ending}", "".join(listed)


def _run(lang: str, stem: str) -> Any:
    """The notebook with its outputs: from the cache, or run now."""
    path = kept(f"{stem}.{lang}", ".ipynb", source(lang, stem), PACKAGE)
    if not path.exists():
        print(f"running lesson {stem} ({lang})")
        _write(path, nbformat.writes(run(notebook(lang, stem), lang)))
    return nbformat.read(path, as_version=4)


def _title(made: Any) -> str:
    return str(made.cells[0].source).partition("\n")[0].lstrip("# ")


class _Pictures:
    """The pictures of one page: files with a number."""

    def __init__(self, folder: Path, stem: str, lang: str) -> None:
        self.folder, self.stem, self.lang, self.count = folder, stem, lang, 0

    def add(self, data: str, told: str) -> str:
        self.count += 1
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"{self.stem}-{self.count}"
        (self.folder / f"{name}.{self.lang}.png").write_bytes(base64.b64decode(data))
        return f"![{_escaped(told)}](pictures/{name}.png)"


def _page(made: Any, take: str, pictures: _Pictures) -> str:
    parts = []
    for place, cell in enumerate(made.cells):
        if cell.cell_type == "markdown":
            parts.append(with_mathml(cell.source))
        else:
            parts.append(_code(cell, pictures.lang))
            parts += [_output(one, cell, pictures) for one in cell.get("outputs", [])]
        if place == 0:
            parts.append(take)
    return "\n\n".join(part for part in parts if part) + "\n"


def _code(cell: Any, lang: str) -> str:
    """The cell's code; what only installs is folded away."""
    fenced = f"```python\n{cell.source}\n```"
    if "setup" not in cell.get("metadata", {}).get("tags", []):
        return fenced
    return f'??? note "{SETUP[lang]}"\n\n{indent(fenced, "    ")}'


def told_of(output: Any, cell: Any) -> str:
    """The alternative text of a picture, where nbconvert looks for it, too.

    Args:
        output: of which atento itself may say what it shows.
        cell: that made it, of which the lesson's author may.

    Raises:
        ValueError: neither does.
    """
    own = output.get("metadata", {}).get("image/png", {}).get("alt")
    told = str(own or cell.get("metadata", {}).get("alt") or "")
    if not told:
        raise ValueError(
            "a picture of a lesson needs words for those who cannot see it, and this cell's has "
            f'none: write # %% alt="..." above it in both languages.\n{cell.source}'
        )
    return told


def _escaped(told: str) -> str:
    """Words that Markdown takes for nothing else."""
    return re.sub(r"([\\\[\]*_`])", r"\\\1", escape(told))


def _output(output: Any, cell: Any, pictures: _Pictures) -> str:
    if output.output_type == "stream":
        return f"```text\n{output.text.rstrip()}\n```" if output.name == "stdout" else ""
    data = output.get("data", {})
    if "image/png" in data:
        return pictures.add(data["image/png"], told_of(output, cell))
    text = data.get("text/plain", "")
    return f"```text\n{text.rstrip()}\n```" if text else ""


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
