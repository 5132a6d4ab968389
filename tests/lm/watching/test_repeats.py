"""Runs of random characters, each written four times, and what a model learns of them."""

import re

import numpy as np
import pytest

from atento.lm import load_watch, train
from atento.lm.watching.repeats import (
    ALPHABET,
    LONGEST,
    SHORTEST,
    repeated_corpus,
    repeated_prompts,
)

STEPS = 300


def test_each_run_is_there_four_times():
    text = repeated_corpus(3, 5000)
    lengths = []
    while text:
        found = re.match(rf"(.{{{SHORTEST},{LONGEST}}}?)\1\1\1", text)
        assert found, text[:80]
        lengths.append(len(found[1]))
        text = text[found.end() :]
    assert set(lengths) == set(range(SHORTEST, LONGEST + 1))
    assert np.mean(lengths) == pytest.approx((SHORTEST + LONGEST) / 2, abs=1)


def test_the_seed_decides():
    assert repeated_corpus(1, 500) == repeated_corpus(1, 500) != repeated_corpus(2, 500)
    assert repeated_prompts(1) != repeated_prompts(2)
    assert len(set(ALPHABET)) == len(ALPHABET) == 64


def test_prompts_are_not_in_the_corpus():
    corpus = repeated_corpus(0)
    assert not any(prompt[:12] in corpus for prompt in repeated_prompts(0))


@pytest.mark.slow
def test_the_induction_head_appears_with_the_fall_of_the_loss(tmp_path):
    """Half of the preset's steps: in layer 1 a head that copies, in layer 0 one that looks back."""
    run = train(
        out=tmp_path,
        preset="induction",
        steps=STEPS,
        evaluate_every=STEPS,
        watch_every=25,
        progress=False,
    )
    watched = load_watch(run.folder)
    induction, previous = watched["induction"].max(2), watched["previous"].max(2)
    assert induction[0].max() < 0.15
    assert previous[0].max() < 0.15
    assert induction[-1, 1] >= 0.5 > induction[-1, 0]
    assert previous[-1, 0] >= 0.5 > previous[-1, 1]
    formed = [row["step"] for row in watched.formed() if row["role"] == "induction"]
    assert 0 < min(formed) < STEPS
    at = watched.steps.tolist().index(min(formed))
    before, after = watched.loss[:at].min(), watched.loss[at:].min()
    assert watched.loss[0] == pytest.approx(np.log(64), abs=0.3)
    assert before - after > 0.8  # nats, of a mean over all tokens
