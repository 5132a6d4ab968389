"""The pages, a folder to try them in, and the site built once."""

import os
import subprocess
import sys
from importlib import import_module

import pytest
from filelock import FileLock

from docs.pages import PAGES, ROOT


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working folder and cache; English, a width, no colour."""
    monkeypatch.chdir(tmp_path)
    for name in ("ATENTO_LANG", "LC_ALL", "LC_MESSAGES", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (
        ("LANG", "C.UTF-8"),
        ("COLUMNS", "100"),
        ("ATENTO_CACHE", str(tmp_path / "cache")),
    ):
        monkeypatch.setenv(name, value)
    return tmp_path


@pytest.fixture(autouse=True)
def tidy(monkeypatch):
    """What pages add to atento goes when the page ends; what atento itself registers stays."""
    import_module("atento.reading.capturing")
    from atento.reading import watching
    from atento.statistics import statistic
    from atento.views.figures import drawing

    monkeypatch.setattr(statistic, "_registered", dict(statistic._registered))
    monkeypatch.setattr(watching, "_patches", list(watching._patches))
    monkeypatch.setattr(drawing, "KINDS", dict(drawing.KINDS))
    monkeypatch.delitem(sys.modules, "tinylib", raising=False)


@pytest.fixture(scope="session")
def site(tmp_path_factory, worker_id):
    """The site as `make docs` builds it, but for what takes minutes: lessons are not run.

    Workers of one run share it: the first builds, and the others wait.
    """
    shared = tmp_path_factory.getbasetemp()
    shared = shared if worker_id == "master" else shared.parent
    folder = shared / "atento-site"
    with FileLock(shared / "atento-site.lock"):
        if not folder.exists():
            _build(folder)
    return folder


def _build(folder):
    made = folder.with_suffix(".new")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(made)],
        cwd=ROOT,
        env={**os.environ, "ATENTO_DOCS_QUICK": "1", "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    made.rename(folder)


@pytest.fixture(
    params=PAGES,
    ids=lambda page: str(page.relative_to(ROOT)),
)
def page(request):
    """Each page that is written by hand."""
    return request.param
