"""What each step of sampling drops, by numbers made by hand."""

import pytest
import torch

from atento.lm.generating.sampling import Sampling

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
