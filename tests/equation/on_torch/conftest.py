"""Blocks so small that every loop over them turns, and both ways in which streaming computes."""

import pytest

MODULES = "atento.equation.on_torch"
SIZES = {
    f"{MODULES}.streaming.LOW": 3,
    f"{MODULES}.streaming.HIGH": 5,
    f"{MODULES}.streaming.MADE": 4,
    f"{MODULES}.streaming.SHORT": 0,
    f"{MODULES}.blocks.FORWARD": (2, 6),
    f"{MODULES}.blocks.BACKWARD": (3, 5),
    f"{MODULES}.by_rows.CELLS": 300,
    f"{MODULES}.weights.CELLS": 300,
    "atento.equation.schedule.WIDEST": 4,
}


@pytest.fixture
def small_blocks(monkeypatch):
    for name, size in SIZES.items():
        monkeypatch.setattr(name, size)


@pytest.fixture(params=["dense", "kernel", "blocks"])
def engine(request, monkeypatch, small_blocks):
    """The engine to ask for; streaming twice: with torch's CPU kernel, and without."""
    if request.param == "dense":
        return "dense"
    if request.param == "blocks":
        monkeypatch.setattr(f"{MODULES}.streaming.by_kernel", lambda asked: False)
    return "streaming"


@pytest.fixture(params=["kernel", "blocks"])
def streaming(request, monkeypatch, small_blocks):
    """Streaming alone, both ways."""
    if request.param == "blocks":
        monkeypatch.setattr(f"{MODULES}.streaming.by_kernel", lambda asked: False)
    return "streaming"
