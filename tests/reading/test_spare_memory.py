"""Memory goes back to the system where that pays, and nowhere is it an error."""

import sys

import pytest
import torch

from atento import capture
from atento.reading import spare_memory


class Layer(torch.nn.Module):
    def forward(self, x):
        return torch.nn.functional.scaled_dot_product_attention(x, x, x)


@pytest.mark.parametrize(("tokens", "times"), [(64, 0), (2047, 0), (2048, 1)])
def test_it_goes_back_once_after_a_large_layer(monkeypatch, tokens, times):
    calls = []
    monkeypatch.setattr("atento.reading.capturing.give_back", lambda: calls.append(1))
    layer = Layer()
    with torch.no_grad(), capture(layer, statistics="entropy"):
        layer(torch.ones(1, 1, tokens, 2))
    assert len(calls) == times


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_giving_back_is_no_error_on_any_system(monkeypatch, platform):
    monkeypatch.setattr(sys, "platform", platform)
    spare_memory._trim.cache_clear()
    assert spare_memory.give_back() is None
    assert (spare_memory._trim() is None) or platform == "linux"
    spare_memory._trim.cache_clear()
