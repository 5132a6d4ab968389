"""The lessons as pages: each is run once, and its outputs kept by what it was made of."""

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from docs.making.formulas import with_mathml
from lessons.running import run
from lessons.sources import LANGUAGES, notebook, source, stems

__all__ = ["CACHE", "lesson_pages", "titles"]

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".docs_cache"
TAKE = {
    "en": "[The notebook](notebooks/{name}) runs as it is in Jupyter, VS Code and Colab; "
    "`atento lessons {number}` copies it into your folder.",
    "es": "[El cuaderno](notebooks/{name}) funciona tal cual en Jupyter, VS Code y Colab; "
    "`atento lessons {number} --lang es` lo copia en tu carpeta.",
}
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
    path = CACHE / f"{stem}.{lang}.{_print_of(source(lang, stem))}.ipynb"
    if not path.exists():
        print(f"running lesson {stem} ({lang})")
        _write(path, nbformat.writes(run(notebook(lang, stem), lang)))
    return nbformat.read(path, as_version=4)


def _print_of(path: Path) -> str:
    """Of the lesson's source and of the package that it runs."""
    made = hashlib.sha256(path.read_bytes())
    for file in sorted((ROOT / "src/atento").rglob("*.py")):
        made.update(file.read_bytes())
    return made.hexdigest()[:16]


def _title(made: Any) -> str:
    return str(made.cells[0].source).partition("\n")[0].lstrip("# ")


class _Pictures:
    """The pictures of one page: files with a number."""

    def __init__(self, folder: Path, stem: str, lang: str) -> None:
        self.folder, self.stem, self.lang, self.count = folder, stem, lang, 0

    def add(self, data: str) -> str:
        self.count += 1
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"{self.stem}-{self.count}"
        (self.folder / f"{name}.{self.lang}.png").write_bytes(base64.b64decode(data))
        return f"![{self.count}](pictures/{name}.png)"


def _page(made: Any, take: str, pictures: _Pictures) -> str:
    parts = []
    for place, cell in enumerate(made.cells):
        if cell.cell_type == "markdown":
            parts.append(with_mathml(cell.source))
        else:
            parts.append(f"```python\n{cell.source}\n```")
            parts += [_output(one, pictures) for one in cell.get("outputs", [])]
        if place == 0:
            parts.append(take)
    return "\n\n".join(part for part in parts if part) + "\n"


def _output(output: Any, pictures: _Pictures) -> str:
    if output.output_type == "stream":
        return f"```text\n{output.text.rstrip()}\n```" if output.name == "stdout" else ""
    data = output.get("data", {})
    if "image/png" in data:
        return pictures.add(data["image/png"])
    text = data.get("text/plain", "")
    return f"```text\n{text.rstrip()}\n```" if text else ""


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
