"""Autocast: projections may run in half precision, the equation itself never does."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

__all__ = ["autocast_is_on", "without_autocast"]


def autocast_is_on(device: str) -> bool:
    """Whether ``torch.autocast`` changes dtypes on this kind of device now."""
    known = device == "cpu" or torch.amp.is_autocast_available(device)
    return known and torch.is_autocast_enabled(device)


def without_autocast(device: str) -> AbstractContextManager[Any]:
    """Within, nothing is cast: the inputs' own dtype is the one asked for."""
    return torch.autocast(device, enabled=False) if autocast_is_on(device) else nullcontext()
