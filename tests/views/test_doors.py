"""show and save: one door for every record."""

import json

import numpy as np
import pytest

import atento
from atento.masks import Causal


@pytest.fixture
def qkv():
    return np.random.default_rng(11).standard_normal((3, 2, 5, 7))


def test_a_trace_is_shown_with_its_most_telling_head(qkv, capsys):
    atento.show(atento.trace(*qkv, mask=Causal()), lang="en")
    shown = capsys.readouterr().out
    assert "Of 2 heads" in shown
    assert "weights = softmax(masked)" in shown


@pytest.mark.parametrize("leading", [(), (2,), (1, 2)])
def test_a_trace_of_any_axes_is_saved(qkv, leading, tmp_path):
    query, key, value = qkv if leading else qkv[:, 0]
    if len(leading) == 2:
        query, key, value = (x[None] for x in (query, key, value))
    mask = np.tri(5, dtype=bool)
    bias = np.ones((*leading, 5, 5))
    trace = atento.trace(query, key, value, mask=mask, bias=bias)
    for name in ("page.html", "numbers.json"):
        atento.save(trace, tmp_path / name)
    steps = json.loads((tmp_path / "numbers.json").read_text())["steps"]
    weights = next(step for step in steps if step["name"] == "weights")
    head = json.loads((tmp_path / "numbers.json").read_text())["head"]
    whole = trace["weights"].value.reshape(-1, 5, 5)
    np.testing.assert_allclose(weights["value"], whole[head])
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")


def test_a_trace_in_torch_is_saved_too(qkv, tmp_path):
    import torch

    tensors = [torch.from_numpy(x).requires_grad_() for x in qkv]
    atento.save(atento.trace(*tensors), tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size > 1000


def test_what_cannot_be_drawn_or_written_is_refused_in_words(qkv, tmp_path):
    trace = atento.trace(*(np.stack([x, x, x]) for x in qkv))
    with pytest.raises(atento.InputError, match=r"one batch item. Got a trace of \(3,\)"):
        atento.save(trace, tmp_path / "page.html")
    with pytest.raises(
        atento.DTypeError, match=r"atento.explain or atento.trace returned; got list"
    ):
        atento.show([1, 2])
    one = atento.trace(*qkv)
    with pytest.raises(atento.InputError, match=r"save writes .html, .json.*; got 'page.gif'"):
        atento.save(one, tmp_path / "page.gif")
    with pytest.raises(
        atento.InputError, match=r"the folder .* does not exist. Choose another place"
    ):
        atento.save(one, tmp_path / "nowhere" / "page.html", lang="en")
    assert not list(tmp_path.iterdir())
