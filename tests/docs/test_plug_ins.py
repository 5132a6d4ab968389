"""The worked examples of the tour do what they say, held against oracles of their own."""

import sys
import threading

import numpy as np
import pytest
import torch

import atento
from atento.masks import Causal, Segments
from atento.statistics import registered
from docs.pages import ROOT
from docs.snippets import run_page

CODE = ROOT / "docs/code"


@pytest.fixture
def example(folder):
    """The names that a page leaves behind."""
    return lambda name: run_page(CODE / f"{name}.md", folder)


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("first", [0, 37])
def test_the_statistic_is_the_sum_over_the_weights(example, library, first):
    Near = example("statistic")["Near"]
    assert "near" in registered()
    rng = np.random.default_rng(5)
    query, key, value = (rng.standard_normal((3, n, 5)) for n in (613 - first, 613, 613))
    mask = Causal(align="end") & Segments([0] * (613 - first), [0] * 401 + [1] * 211 + [0])
    scores = query @ key.swapaxes(-1, -2) / 5**0.5
    i, j = np.arange(613 - first)[:, None] + first, np.arange(613)
    visible = (j <= i) & ((j < 401) | (j == 612))
    weights = np.where(visible, np.exp(scores), 0)
    total = weights.sum(-1, keepdims=True)
    weights = np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
    expected = np.where((i - j >= 0) & (i - j <= 7), weights, 0).sum(-1)
    if library == "torch":
        query, key, value = map(torch.from_numpy, (query, key, value))
    found = atento.survey(query, key, value, mask=mask, statistics=[Near(7)])["near"]
    np.testing.assert_allclose(np.asarray(found), expected, atol=1e-12)


def test_parts_of_the_statistic_merge(example):
    from atento.statistics import Block, Extent

    extent = Extent(1, 2, 2, 0, np, np.float64, "cpu")
    weights = np.array([[[1.0, 0.0], [0.25, 0.75]]])
    one, other = (example_of.start(extent) for example_of in [example("statistic")["Near"](0)] * 2)
    one.update(Block(extent, range(1), range(1), range(2), weights[:, :1]))
    other.update(Block(extent, range(1), range(1, 2), range(2), weights[:, 1:]))
    one.merge(other)
    assert one.result()["near"].tolist() == [[1.0, 0.75]]


@pytest.mark.parametrize("masked", [False, True])
def test_the_mechanism_is_its_formula(example, masked):
    module = example("mechanism")["CosineAttention"](7).double()
    x = torch.randn(3, 5, 7, dtype=torch.float64, requires_grad=True)
    cosine = torch.cosine_similarity(module.query(x)[:, :, None], module.key(x)[:, None], dim=-1)
    scores = module.gain * cosine
    mask = None
    if masked:
        mask = Causal()
        scores = scores.masked_fill(torch.ones(5, 5, dtype=torch.bool).triu(1), -torch.inf)
    expected = scores.softmax(-1) @ module.value(x)
    torch.testing.assert_close(module(x, mask=mask), expected, rtol=0, atol=1e-12)
    trace = module.trace(x, mask=mask)
    assert torch.equal(trace.output, module(x, mask=mask)) or torch.allclose(
        trace.output, expected, atol=1e-12
    )
    unit = trace["unit_keys"].value
    torch.testing.assert_close(unit.norm(dim=-1), torch.ones(3, 5, dtype=torch.float64))
    wanted = torch.autograd.grad(expected.sum(), module.gain)
    found = torch.autograd.grad(module(x, mask=mask).sum(), module.gain)
    torch.testing.assert_close(found, wanted)


def test_the_way_in_is_taken_back(example):
    names = example("way_in")
    original, model = names["_attend"], names["model"]
    tinylib = sys.modules["tinylib"]
    assert tinylib.attend is original
    with atento.capture(model) as recording:
        assert tinylib.attend is not original
        model(names["x"])
    assert tinylib.attend is original
    assert len(recording) == 1


def test_the_way_in_hears_its_own_thread_and_model_alone(example):
    names = example("way_in")
    model, x = names["model"], names["x"]
    other = names["TinyAttention"]().eval()
    with torch.no_grad(), atento.capture(model) as recording:
        thread = threading.Thread(target=lambda: model(x))
        thread.start()
        thread.join()
        other(x)
        model(x)
    assert len(recording) == 1
    scores_of = model.qkv(x).unflatten(-1, (3, 2, -1)).unbind(-3)
    query, key = (each.double() for each in scores_of[:2])
    scores = torch.einsum("bqhd,bkhd->bhqk", query, key) / 8**0.5
    hidden = torch.ones(11, 11, dtype=torch.bool).triu(1)
    expected = scores.masked_fill(hidden, -torch.inf).softmax(-1)[0]
    for head in range(2):
        found = torch.as_tensor(recording[0].weights(head=head)).double()
        torch.testing.assert_close(found, expected[head].detach(), rtol=0, atol=1e-6)


def test_the_view_is_drawn_from_any_door(example, folder):
    names = example("view")
    explanation = names["explanation"]
    axes = explanation.plot(kind="received", head=2, layer=0)
    weights = np.asarray(explanation.layers[0].trace["weights"].value)[2]
    heights = [bar.get_height() for bar in axes.patches]
    np.testing.assert_allclose(heights, weights.sum(0), atol=1e-6)
    for ending in ("png", "pdf", "svg"):
        atento.save(explanation, folder / f"received.{ending}", kind="received", head=2, layer=0)
        assert (folder / f"received.{ending}").stat().st_size > 1000
    assert ">mat</text>" in (folder / "received.svg").read_text("utf-8")


def test_what_pages_add_is_gone_afterwards():
    from atento.views.figures.drawing import KINDS

    assert "near" not in registered()
    assert "received" not in KINDS
    assert "tinylib" not in sys.modules
