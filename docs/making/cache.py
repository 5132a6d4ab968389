"""What takes minutes to make is kept, under the print of what it was made of."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

__all__ = ["CACHE", "PACKAGE", "kept", "watched_run"]

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".docs_cache"
PACKAGE = ROOT / "src/atento"


def kept(name: str, ending: str, *sources: Path) -> Path:
    """The place of what is called so and made of these files and folders of Python.

    What was made of others, under the same name, is thrown away.
    """
    made = hashlib.sha256()
    for source in sources:
        for file in sorted(source.rglob("*.py")) if source.is_dir() else [source]:
            made.update(file.read_bytes())
    path = CACHE / f"{name}.{made.hexdigest()[:16]}{ending}"
    for other in CACHE.glob(f"{name}.*{ending}"):
        if other != path:
            shutil.rmtree(other) if other.is_dir() else other.unlink()
    return path


def watched_run() -> Any:
    """How the heads of a small model learnt to copy: trained now, for half a minute, or before."""
    from atento.lm import load_watch, train

    folder = kept("induction", "", PACKAGE / "lm")
    if not folder.exists():
        print("training a model while its heads are watched")
        made = folder.with_name("making." + folder.name)
        shutil.rmtree(made, ignore_errors=True)
        train(preset="induction", out=made, progress=False)
        made.rename(folder)
    return load_watch(folder)
