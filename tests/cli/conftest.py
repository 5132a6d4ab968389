"""A folder with arrays, and the program run in it as `main` runs it."""

from types import SimpleNamespace

import numpy as np
import pytest

from atento.cli import main
from six_tokens import SIX


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working folder but for six.npy, six.csv and names.txt; English, no colour."""
    monkeypatch.chdir(tmp_path)
    for name in ("ATENTO_LANG", "LC_ALL", "LC_MESSAGES", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANG", "C.UTF-8")
    np.save("six.npy", SIX)
    np.savetxt("six.csv", SIX, delimiter=",", fmt="%.2f")
    (tmp_path / "names.txt").write_text("Your\njourney\nstarts\nwith\none\nstep\n", "utf-8")
    return tmp_path


@pytest.fixture
def run(folder, capsys):
    """Runs `atento ...`: its exit code, its output, its errors."""

    def call(*arguments):
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return SimpleNamespace(code=code, out=captured.out, err=captured.err)

    return call


@pytest.fixture
def arrays():
    """The options for the six tokens."""
    return ("--query", "six.npy", "--key", "six.csv", "--value", "six.npy")
