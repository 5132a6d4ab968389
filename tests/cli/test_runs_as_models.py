"""A run stands wherever a model is named: inspect, explain, serve."""

import json
import sys

import numpy as np
import pytest
import torch

import atento
from atento.lm import generate, load_model
from atento.server.torch_reader import TorchReader
from atento.server.work import Stop

pytestmark = pytest.mark.slow

TEXT = "to be or not to be, that is the question. " * 60


explain_cli = sys.modules["atento.cli.explain"]


@pytest.fixture
def trained(run, folder):
    (folder / "corpus.txt").write_text(TEXT, encoding="utf-8")
    options = ("--preset", "toy", "--batch", "4", "--seed", "3", "--quiet", "--steps", "6")
    assert run("train", "corpus.txt", "--out", "runs/x", *options).code == 0
    return folder / "runs/x"


def by_hand(folder, text):
    """The weights of layer 1 by the equation in float64."""
    model = load_model(folder).double()
    ids = model.tokenizer.encode(text)
    with torch.no_grad():
        x = model.token_embedding(torch.tensor([ids])) + model.position_embedding.table[: len(ids)]
        x = model.blocks[0](x)
        block = model.blocks[1]
        h = block.attention_norm(x)[0]
        q, k = (getattr(block.attention, role)(h).numpy() for role in ("query", "key"))
    made = []
    for head in range(2):
        own = slice(8 * head, 8 * head + 8)
        scores = q[:, own] @ k[:, own].T / np.sqrt(8)
        scores[np.triu_indices(len(ids), 1)] = -np.inf
        weights = np.exp(scores - scores.max(1, keepdims=True))
        made.append(weights / weights.sum(1, keepdims=True))
    return np.array(made)


def test_explain_shows_every_step_of_every_layer(run, trained, folder):
    text = "to be or not"
    expected = by_hand(trained, text)
    for head in (0, 1):
        place = ("--layer", "1", "--head", str(head))
        done = run("explain", text, "--model", "runs/x", "--json", *place)
        assert done.code == 0, done.err
        told = json.loads(done.out)
        assert (told["model"], told["tokens"]) == ("runs/x", list(text))
        steps = {step["name"]: step["value"] for step in told["steps"]}
        assert {"queries", "keys", "values", "scores", "masked", "output"} <= set(steps)
        np.testing.assert_allclose(steps["weights"], expected[head], atol=1e-6)
    assert np.abs(expected[0] - expected[1]).max() > 1e-4
    explained = explain_cli._by_model("runs/x", text, layer=None, head=None, cut=False)
    assert [layer.heads for layer in explained.layers] == [2, 2]
    assert explained.layers[0].trace["values"].value.shape == (2, len(text), 8)
    page = run("explain", text, "--model", "runs/x", "--out", "page.html")
    assert page.code == 0, page.err
    assert "runs/x" in page.out
    assert "runs/x" in (folder / "page.html").read_text(encoding="utf-8")


def test_inspect_and_serve_read_with_it(run, trained):
    done = run("inspect", "--text", "to be or not", "--model", "runs/x")
    assert done.code == 0, done.err
    assert "runs/x: 12 tokens, 2 layers, 4 heads in all" in done.out
    reader = TorchReader(str(trained))
    assert reader.name


def test_a_run_that_no_family_of_transformers_computes_is_read_as_well(run, folder):
    options = ("--steps", "2", "--quiet", "--seed", "5")
    assert run("train", "--preset", "induction", "--out", "runs/own", *options).code == 0
    text = "abcabcabc"
    read = run("inspect", "--text", text, "--model", "runs/own", "--save", "own.safetensors")
    assert read.code == 0, read.err
    told = run("explain", text, "--model", "runs/own", "--json", "--layer", "1", "--head", "0")
    assert told.code == 0, told.err
    steps = {step["name"]: step["value"] for step in json.loads(told.out)["steps"]}
    recording = atento.load_recording(folder / "own.safetensors")
    np.testing.assert_allclose(steps["weights"], recording[1].weights(head=0), atol=1e-6)

    model = load_model(folder / "runs/own").eval()
    ids = torch.tensor([model.tokenizer.encode(text)])
    with torch.no_grad():
        logits = model(ids)[0, -1].numpy()
    reader = TorchReader(str(folder / "runs/own"))
    _, seen = reader.read(text, (), Stop())
    np.testing.assert_array_equal(seen, logits)
    asked = {"tokens": 3, "temperature": 0.0, "top_k": 0, "top_p": 1.0, "seed": 0, "watch": (1, 0)}
    *_, last = reader.generate(text, (), asked, Stop())
    assert last["text"] == text + generate(model, text, max_tokens=3, temperature=0)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("explain", "to be", "--model", "nowhere/at/all"), "The folder nowhere/at/all does not"),
        (("explain", "o" * 26, "--model", "runs/x"), "at most 25 tokens and the text has 26"),
        (("explain", "o" * 26, "--model", "runs/x", "--lang", "es"), "como mucho 25 tokens"),
        (("explain", "to", "--model", "runs/x", "--layer", "2"), "--layer goes from 0 to 1"),
        (("explain", "to", "--model", "runs/x", "--head", "7"), "--head"),
        (("explain", "--query", "six.npy", "--key", "six.npy", "--value", "six.npy",
          "--model", "runs/x"), "--model reads a text"),
        (("explain", "to", "--model", "runs/x", "--causal"), "--causal"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(run, trained, command, said):
    done = run(*command)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert done.err.count("\n") == 1


def test_a_text_whose_steps_would_not_fit_is_refused(run, trained, monkeypatch):
    room = sys.modules["atento.explanation.explain"]  # the room's function has the file's name
    monkeypatch.setattr(room, "MOST_CELLS", 400)  # 4 heads × 10²
    assert run("explain", "to be or n", "--model", "runs/x", "--no-page").code == 0
    done = run("explain", "to be or no", "--model", "runs/x", "--no-page")
    assert "4 heads is kept: at most 10 tokens. Got 11" in done.err


def test_a_text_that_is_cut_says_the_beginning(run, trained):
    done = run("explain", "o" * 30, "--model", "runs/x", "--cut", "--json")
    assert len(json.loads(done.out)["tokens"]) == 25
