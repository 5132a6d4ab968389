"""The pages of the API: one for each public module, every public name in it."""

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec

__all__ = ["MODULES", "public_names", "reference_pages"]

MODULES = {
    "atento": "atento",
    "atento.masks": "masks",
    "atento.positions": "positions",
    "atento.nn": "nn",
    "atento.nn.convert": "convert",
    "atento.statistics": "statistics",
    "atento.retrieval": "retrieval",
    "atento.lm": "lm",
    "atento.lessons": "lessons",
}
"""Each public module, and the file of its page."""


def public_names(module: str) -> list[str]:
    """What the module offers, and what no page above it has shown already."""
    names = sorted(import_module(module).__all__, key=lambda name: (name.lower(), name))
    if module == "atento":
        return names
    shown = set(import_module("atento").__all__)
    return [name for name in names if name not in shown]


def reference_pages() -> Iterator[tuple[str, str]]:
    """The path of each page below the docs, and its Markdown."""
    for module, stem in MODULES.items():
        yield f"reference/{stem}.md", _page(module)


def _page(module: str) -> str:
    summary = (import_module(module).__doc__ or "").strip()
    lines = [f"# {module}", "", summary.replace("``", "`"), ""]
    for name in public_names(module):
        lines += _entry(module, name)
    return "\n".join(lines)


def _entry(module: str, name: str) -> list[str]:
    """The name, described where it is; or where it is made, if a file of its room is called so."""
    found = getattr(import_module(module), name)
    home = getattr(found, "__module__", "")
    room = home.rpartition(".")[0]
    if not room.startswith("atento") or find_spec(f"{room}.{name}") is None:
        return [f"::: {module}.{name}", ""]
    place = [f'<a id="{module}.{name}"></a>', "", f"::: {home}.{name}"]
    return [*place, "    options:", f"      heading: {name}", ""]
