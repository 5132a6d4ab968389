"""The house as a whole: what an import costs, which names are promised, what is shipped."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import atento

ROOT = Path(__file__).parent.parent
HEAVY = {"torch", "matplotlib", "transformers", "tokenizers", "jax", "rich", "typer", "safetensors"}


def loaded_after(code):
    """The top-level modules that a fresh interpreter has loaded after running the code."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys, json\nprint(json.dumps(list(sys.modules)))"],
        check=True,
        capture_output=True,
        text=True,
    )
    return {name.partition(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


def test_import_loads_nothing_at_all():
    assert not loaded_after("import atento") & (HEAVY | {"numpy", "array_api_compat"})


def test_attention_needs_numpy_alone():
    code = "import numpy as np, atento; x = np.ones((2, 3)); atento.attention(x, x, x)"
    assert not loaded_after(code) & (HEAVY | {"threadpoolctl"})


def test_every_public_name_is_there():
    for name in atento.__all__:
        assert getattr(atento, name) is not None
        assert name in dir(atento)
    for room in ("lessons", "lm", "masks", "nn", "positions", "records", "retrieval", "statistics"):
        assert getattr(atento, room).__name__ == f"atento.{room}"
        assert room in dir(atento)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        atento.nonsense  # noqa: B018


def test_promised_names_of_masks():
    from atento import masks

    promised = [
        "Causal",
        "Window",
        "KeyPadding",
        "Segments",
        "Prefix",
        "Explicit",
        "Rule",
        "ALL",
        "NONE",
    ]
    assert set(promised) <= set(masks.__all__)


def test_no_room_shadows_a_public_function():
    rooms = {path.stem for path in (ROOT / "src/atento").iterdir()}
    assert not rooms & {name for name in atento.__all__ if name[0].islower()}


def test_the_makefile_and_readme_name_the_same_commands():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    for readme in ("README.md", "README.es.md"):
        named = set(re.findall(r"^make ([a-z]+)", (ROOT / readme).read_text(), re.MULTILINE))
        assert {"explain", "test"} <= named <= targets
    assert "make test" in (ROOT / ".ci/run").read_text()


def test_the_wheel_holds_the_model_and_the_page(tmp_path):
    package = ROOT / "src/atento"
    shipped = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", str(package)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()  # what hatchling packs: everything in the package that git does not ignore
    for name in (
        "embedded/mini/model.safetensors",
        "embedded/mini/tokenizer.json",
        "embedded/mini/config.json",
        "views/assets/main.js",
        "views/assets/page.css",
        "views/locales/es.json",
        "py.typed",
    ):
        assert f"src/atento/{name}" in shipped
    assert sum(path.stat().st_size for path in (package / "embedded/mini").iterdir()) <= 4 * 2**20
