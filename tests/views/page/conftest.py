"""What the page of an explanation is tested with."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def samples() -> ModuleType:
    """tests/views/page/samples.py: with importlib mode, test folders are no packages."""
    path = Path(__file__).with_name("samples.py")
    spec = importlib.util.spec_from_file_location("page_samples", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
