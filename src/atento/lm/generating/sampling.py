"""Sampling: from the scores of the next token to the token."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from atento._errors import InputError
from atento.lm.setting import number, within

__all__ = ["Sampling"]

COLD = 1e-3
"""A temperature by which scores may be divided to more than float32 holds: the largest becomes 0
before, which changes no chance."""


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen, step by step in this order (that of transformers).

    Args:
        temperature: the scores are divided by it; 0 takes the largest score and no other step but
            the repetition penalty.
        top_k: only so many of the largest scores stay; 0: all.
        top_p: only the likeliest tokens stay, as few as have this probability together (Holtzman
            et al. 2020, arXiv 1904.09751).
        min_p: only tokens stay that are at least this times as likely as the likeliest (Nguyen et
            al. 2024, arXiv 2407.01082).
        repetition_penalty: scores of tokens that stand in the text already are divided by it where
            positive, multiplied where negative (Keskar et al. 2019, arXiv 1909.05858).

    Raises:
        InputError: for a value out of its range.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        heat, top_p, min_p = self.temperature, self.top_p, self.min_p
        within("temperature", heat, number(heat) and 0 <= heat < float("inf"), "≥ 0")
        whole = isinstance(self.top_k, int) and not isinstance(self.top_k, bool)
        within("top_k", self.top_k, whole and self.top_k >= 0, "a whole number ≥ 0 (0: all)")
        within("top_p", top_p, number(top_p) and 0 < top_p <= 1, "above 0 and at most 1")
        within("min_p", min_p, number(min_p) and 0 <= min_p <= 1, "from 0 to 1")
        penalty = self.repetition_penalty
        fits = number(penalty) and 0 < penalty < float("inf")
        within("repetition_penalty", penalty, fits, "above 0")

    def choose(
        self, scores: Tensor, past: Sequence[Sequence[int]], generator: torch.Generator | None
    ) -> Tensor:
        """The next token (batch,) of each row.

        Args:
            scores: (batch, vocabulary).
            past: the tokens of each row so far.
            generator: where chance comes from.
        """
        scores = scores.float()
        if self.repetition_penalty != 1:
            scores = _penalised(scores, past, self.repetition_penalty)
        if self.temperature == 0:
            return scores.argmax(-1)
        if self.temperature < COLD:
            scores = scores - scores.amax(-1, keepdim=True)
        chances = self.kept(scores / self.temperature).softmax(-1)
        try:
            return torch.multinomial(chances, 1, generator=generator)[:, 0]
        except RuntimeError:
            if bool(torch.isfinite(chances).all()):
                raise
            raise InputError(
                "the model's scores are no numbers: its weights are damaged, or repetition_penalty "
                f"({self.repetition_penalty}) is too far from 1.",
                name="lm_scores",
                penalty=self.repetition_penalty,
            ) from None

    def kept(self, scores: Tensor) -> Tensor:
        """The scores (batch, vocabulary) with −∞ for tokens that top_k, top_p or min_p drop."""
        if 0 < self.top_k < scores.shape[-1]:
            least = scores.topk(self.top_k, -1).values[:, -1:]
            scores = scores.masked_fill(scores < least, float("-inf"))
        if self.top_p < 1:
            ascending, order = scores.sort(-1)
            below = ascending.softmax(-1).cumsum(-1) <= 1 - self.top_p
            below[:, -1] = False  # the likeliest stays
            scores = scores.masked_fill(below.scatter(-1, order, below), float("-inf"))
        if self.min_p > 0:
            chances = scores.softmax(-1)
            least = self.min_p * chances.amax(-1, keepdim=True)
            scores = scores.masked_fill(chances < least, float("-inf"))
        return scores


def _penalised(scores: Tensor, past: Sequence[Sequence[int]], penalty: float) -> Tensor:
    scores = scores.clone()
    for row, tokens in zip(scores, past, strict=True):
        seen = torch.tensor(sorted(set(tokens)), dtype=torch.long, device=row.device)
        old = row[seen]
        row[seen] = torch.where(old < 0, old * penalty, old / penalty)
    return scores
