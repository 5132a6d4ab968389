"""What each step of sampling drops, by numbers made by hand."""

import pytest
import torch
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from atento.lm.generating.sampling import Sampling, _penalised

CHANCES = torch.tensor([[0.4, 0.3, 0.15, 0.1, 0.05]])


def stays(**options):
    kept = Sampling(**options).kept(CHANCES.log())
    return torch.isfinite(kept)[0].nonzero().flatten().tolist()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"top_k": 2}, [0, 1]),
        ({"top_k": 9}, [0, 1, 2, 3, 4]),
        ({"top_p": 0.35}, [0]),
        ({"top_p": 0.6}, [0, 1]),
        ({"top_p": 0.72}, [0, 1, 2]),
        ({"top_p": 1e-9}, [0]),
        ({"min_p": 0.3}, [0, 1, 2]),
        ({"min_p": 1.0}, [0]),
        ({"top_k": 3, "top_p": 0.8}, [0, 1]),  # of 0.85: 0.4 and 0.3 are 0.82
    ],
)
def test_what_stays(options, expected):
    assert stays(**options) == expected


def test_the_penalty_makes_both_signs_smaller():
    scores = torch.tensor([[2.0, -2.0, 1.9]])
    chosen = Sampling(0, repetition_penalty=2.0).choose(scores, [[0, 1, 1]], None)
    assert chosen.tolist() == [2]
    assert scores.tolist() == [[2.0, -2.0, pytest.approx(1.9)]]  # the scores stay as they were
    assert Sampling(0).choose(scores, [[0]], None).tolist() == [0]
    lower = torch.tensor([[-1.0, -1.5]])
    assert Sampling(0, repetition_penalty=2.0).choose(lower, [[0]], None).tolist() == [1]


def test_draws_follow_the_chances():
    generator = torch.Generator().manual_seed(1)
    scores = CHANCES.log().expand(20_000, -1)
    drawn = Sampling().choose(scores, [[]] * 20_000, generator)
    shares = torch.bincount(drawn, minlength=5) / 20_000
    torch.testing.assert_close(shares, CHANCES[0], rtol=0, atol=0.015)
    drawn = Sampling(temperature=0.5).choose(scores, [[]] * 20_000, generator)
    squared = CHANCES[0] ** 2 / (CHANCES**2).sum()
    shares = torch.bincount(drawn, minlength=5) / 20_000
    torch.testing.assert_close(shares, squared, rtol=0, atol=0.015)


def test_the_coldest_temperature_takes_the_likeliest():
    scores = torch.tensor([[3e3, 2.9e3, -5.0]])
    for temperature in (1e-30, 1e-45):
        generator = torch.Generator().manual_seed(0)
        options = {"temperature": temperature, "top_k": 2, "top_p": 0.9, "min_p": 0.1}
        assert Sampling(**options).choose(scores, [[]], generator).tolist() == [0]


@pytest.mark.parametrize("seed", range(20))
def test_what_stays_is_what_theirs_leave(seed):
    """Against transformers' processors, in float64, with ties."""
    random = torch.Generator().manual_seed(seed)
    scores = (4 * torch.randn(3, 37, generator=random, dtype=torch.float64)).mul(4).round() / 4
    past = torch.randint(37, (3, 9), generator=random)
    expected = scores.clone()
    for step in (
        RepetitionPenaltyLogitsProcessor(1.3), TemperatureLogitsWarper(0.7), TopKLogitsWarper(20),
        TopPLogitsWarper(0.95), MinPLogitsWarper(0.02),
    ):  # fmt: skip
        expected = step(past, expected)
    found = Sampling(0.7, 20, 0.95, 0.02, 1.3).kept(_penalised(scores, past.tolist(), 1.3) / 0.7)
    assert torch.equal(torch.isinf(found), torch.isinf(expected))
    torch.testing.assert_close(found.softmax(-1), expected.softmax(-1), rtol=1e-12, atol=0)
