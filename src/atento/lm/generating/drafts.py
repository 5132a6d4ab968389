"""Drafts: what may come next, read off the text so far, so that one pass may answer several tokens.

A pass over few tokens takes hardly longer than over one: all weights are read for either. So the
tokens that followed the text's last few tokens when they stood there before are read along with the
new one. Where the next token is then chosen as drafted, its scores are known already; where not,
what was read too far is forgotten. Nothing that is written depends on drafts but for rounding: each
token is chosen from its own scores, with its own chance. (Leviathan et al. 2023, arXiv 2211.17192,
with the text itself for the small model, as in Saxena's prompt lookup decoding, 2023.)
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from atento.lm.generating.stepping import Stepper

__all__ = ["DraftingStepper", "Drafts"]

ORDERS = (8, 5, 3)
"""So many last tokens are looked for, the most of them first."""

LONGEST = 11
"""So many tokens are drafted at most: beyond, a pass takes more time than it saves."""

WORTH = 0.25
"""Where fewer tokens of a draft than this are taken on average, none is made ..."""

AGAIN = 0.02
"""... until the average, which then rises by so much each time, is there again."""


class Drafts:
    """What followed the same tokens before, in one text as it grows."""

    def __init__(self) -> None:
        self._after: dict[int, dict[tuple[int, ...], int]] = {order: {} for order in ORDERS}
        self._known = 1
        self._taken = dict(zip(ORDERS, (6.0, 2.0, 1.0), strict=True))
        self._order = ORDERS[0]

    def make(self, text: Sequence[int], room: int) -> list[int]:
        """Tokens that may come after the text (token,), at most so many as there is room for."""
        for end in range(self._known, len(text)):
            for order, after in self._after.items():
                if end >= order:
                    after[tuple(text[end - order : end])] = end
        self._known = max(self._known, len(text))
        for order, after in self._after.items():
            begin = after.get(tuple(text[-order:]))
            if begin is not None:
                around = len(text) - begin  # where the text ends, it begins again from there
                wanted = range(self._length(order, room))
                return [text[begin + place % around] for place in wanted]
        return []

    def learn(self, taken: int) -> None:
        """How many tokens of the last draft were chosen."""
        self._taken[self._order] += (taken - self._taken[self._order]) / 4

    def _length(self, order: int, room: int) -> int:
        self._order = order
        if self._taken[order] < WORTH:
            self._taken[order] += AGAIN
            return 0
        return max(0, min(LONGEST, room, 1 + round(1.5 * self._taken[order])))


class DraftingStepper:
    """A `Stepper` of one row that reads drafts along.

    Args:
        stepper: of one row.
        drafts: of its text.
    """

    def __init__(self, stepper: Stepper, drafts: Drafts) -> None:
        self._stepper, self._drafts = stepper, drafts
        self._drafted = self._taken = 0
        self._ahead: list[tuple[int, Tensor]] = []  # drafted tokens, the logits after each

    def step(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """The logits (1, vocabulary) after the only row, which has grown by one token."""
        (text,) = rows
        if self._ahead and self._ahead[0][0] == text[-1]:
            self._taken += 1
            return self._ahead.pop(0)[1]
        if self._drafted:
            self._drafts.learn(self._taken)
            self._stepper.forget(self._drafted - self._taken)
        draft = self._drafts.make(text, self._stepper.room - 1)
        logits, *ahead = torch.split(self._stepper.read([text[-1], *draft]), 1)
        self._drafted, self._taken = len(draft), 0
        self._ahead = list(zip(draft, ahead, strict=True))
        return logits
