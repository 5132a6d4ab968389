"""show and save: one door for every record."""

import json
import re

import numpy as np
import pytest

import atento
from atento.masks import Causal
from atento.reading.recording import Recording
from reading_records import record


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


def test_an_explanation_says_itself_in_one_short_line(qkv):
    said = repr(atento.explain(query=qkv[0], key=qkv[1, :, :3], value=qkv[2, :, :3]))
    assert re.fullmatch(
        r"Explanation\(layer=1, head=2, query=5, key=3; layer 0, head [01] first; "
        r"atento.show shows every step\)",
        said,
    )
    layer = atento.explain("a b").layers[0]
    assert repr(layer) == "AttentionLayer(4 heads, query=2, key=2)"
    assert repr(layer.projections["key"]) == "Projection(weight (128, 4, 32), bias (4, 32))"


def test_what_cannot_be_drawn_or_written_is_refused_in_words(qkv, tmp_path):
    trace = atento.trace(*(np.stack([x, x, x]) for x in qkv))
    with pytest.raises(atento.InputError, match=r"one batch item. Got a trace of \(3,\)"):
        atento.save(trace, tmp_path / "page.html")
    with pytest.raises(
        atento.DTypeError, match=r"atento.explain or atento.trace returned; got list"
    ):
        atento.show([1, 2])
    with pytest.raises(
        atento.DTypeError, match=r"path of a file, as in 'page\.html'; got NoneType"
    ):
        atento.save(trace, None)
    one, recording = atento.trace(*qkv), Recording([record("causal, end")[0]])
    for lang, said in (
        ("en", "save writes .html, .json, .svg, .png or .pdf. Got page.gif"),
        ("es", "save escribe .html, .json, .svg, .png o .pdf. Llegó page.gif"),
    ):
        for wrong in (one, atento.explain("a b"), recording):
            with pytest.raises(atento.InputError, match=said):
                atento.save(wrong, tmp_path / "page.gif", lang=lang)
    with pytest.raises(atento.InputError, match=r"recording.save\(path\) to keep"):
        atento.save(recording, tmp_path / "run.safetensors", lang="en")
    with pytest.raises(
        atento.InputError, match=r"the folder .* does not exist. Choose another place"
    ):
        atento.save(one, tmp_path / "nowhere" / "page.html", lang="en")
    assert not list(tmp_path.iterdir())
