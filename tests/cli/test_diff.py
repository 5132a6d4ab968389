"""`atento diff`: what changed between two saved recordings."""

import json
import re

import numpy as np
import pytest

import atento

FIRST = "Your journey starts with one step and your journey starts with two steps"
SECOND = "Your journey starts with one step and your journey starts with one step"


@pytest.fixture
def both(run, folder):
    for name, text in (("a", FIRST), ("b", SECOND)):
        assert run("inspect", "--text", text, "--save", f"{name}.safetensors").code == 0
    return [atento.load_recording(folder / f"{name}.safetensors") for name in "ab"]


def rows(out):
    return [line.split() for line in out.split("\n") if re.match(r"\d+ +\d+ ", line)]


def test_the_head_that_changed_most_comes_first(run, both):
    got = run("diff", "a.safetensors", "b.safetensors")
    assert (got.code, got.err) == (0, "")
    assert got.out.startswith("Mean change of each head, the most changed first\n")
    assert all(len(line) <= 80 for line in got.out.split("\n"))
    shown = rows(got.out)
    assert len(shown) == 12
    # independently: the largest mean change of a share of the weight, head by head
    shares = ("previous", "induction", "first", "self", "duplicate", "max")
    change = {
        (layer, head): max(
            np.abs(
                one.statistics[name][0, head].astype(float) - other.statistics[name][0, head]
            ).mean()
            for name in shares
        )
        for layer, (one, other) in enumerate(zip(*both, strict=True))
        for head in range(4)
    }
    ordered = sorted(change, key=lambda at: -change[at])
    assert [(int(row[0]), int(row[1])) for row in shown] == ordered
    assert change[ordered[0]] > change[ordered[-1]] > 0


def test_where_each_statistic_changed_most(run, both):
    got = " ".join(run("diff", "a.safetensors", "b.safetensors").out.split())
    change = np.stack(
        [
            np.abs(one.statistics["entropy"][0] - other.statistics["entropy"][0])
            for one, other in zip(*both, strict=True)
        ]
    )
    layer, head, query = np.unravel_index(change.argmax(), change.shape)
    assert (
        f"entropy: {change.max():.4g} in layer transformer.h.{layer}.attn, head {head}, "
        f"at (0, {query}) (batch first)"
    ) in got


def test_top_and_roles(run, both):
    got = run("diff", "a.safetensors", "b.safetensors", "--top", "2", "--lang", "es")
    assert len(rows(got.out)) == 2
    assert "… 10 cabezas más; --top 0 las muestra todas" in got.out
    before, after = ({(r["layer"], r["head"]): r["role"] for r in one.summary()} for one in both)
    changed = [at for at in before if before[at] != after[at]]
    assert changed  # what this test needs to be so
    whole = run("diff", "a.safetensors", "b.safetensors", "--top", "0").out
    assert whole.count(" → ") == len(changed)


def test_a_recording_and_itself(run, both):
    got = run("diff", "a.safetensors", "a.safetensors")
    assert "entropy: the same everywhere" in got.out
    assert " → " not in got.out


def test_json(run, both):
    got = run("diff", "a.safetensors", "b.safetensors", "--json")
    assert json.loads(got.out)["rows"] == json.loads(json.dumps(list(both[0].compare(both[1]))))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a.safetensors", "short.safetensors"), "compare: layer 'transformer.h.0.attn' has "),
        (("a.safetensors", "one.safetensors"), "compare needs recordings of the same layers"),
        (("a.safetensors", "none.safetensors"), "none.safetensors does not exist."),
        (("six.npy", "a.safetensors"), "six.npy is not a recording that can be read: "),
        (("a.safetensors",), "B.safetensors is missing."),
        (("a.safetensors", "b.safetensors", "--top", "-1"), "--top must be a whole number"),
    ],
)
def test_mistakes_are_told_in_one_line(run, both, arguments, message):
    assert run("inspect", "--text", "one step", "--save", "short.safetensors").code == 0
    assert run("inspect", "--text", FIRST, "--layers", "1", "--save", "one.safetensors").code == 0
    got = run("diff", *arguments)
    assert (got.code, got.out) == (2, "")
    assert got.err.startswith(f"atento: {message}")
    assert got.err.count("\n") == 1
