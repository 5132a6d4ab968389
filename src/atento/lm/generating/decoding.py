"""Decoding: rows of ids, one new token each at a time, computed once."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from atento.equation import front
from atento.lm.generating.drafts import DraftingStepper, Drafts
from atento.lm.generating.sampling import Sampling
from atento.lm.generating.stepping import Stepper
from atento.lm.plain import is_plain
from atento.lm.transformer import Transformer
from atento.nn import KVCache

__all__ = ["decoded"]


@torch.no_grad()
def decoded(
    model: Transformer,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    generator: torch.Generator | None = None,
    *,
    cached: bool = True,
) -> Iterator[list[int]]:
    """One new token for every row, again and again, without an end.

    Rows of unequal length are padded at their start. Where the context is full, its later half is
    read anew and goes on from there: what stood before it is forgotten.

    Args:
        model: in evaluation mode.
        prompts: the ids of each row, at least one.
        sampling: how each is chosen.
        generator: where chance comes from.
        cached: False computes every token again at each step, which gives the same.
    """
    rows = [list(prompt) for prompt in prompts]
    even = len(set(map(len, rows))) == 1
    context = model.config.context
    begun = 0  # rows are read from here on
    stepper: Stepper | DraftingStepper | None = None
    drafts = Drafts()
    caches = model.new_caches() if cached else None
    read = 0
    while True:
        longest = max(map(len, rows))
        anew = longest - begun > context
        if anew:
            begun = longest - max(1, context // 2)
        if anew or (stepper is not None and front.watcher is not None):
            stepper, read = None, 0
            caches = model.new_caches() if cached else None
        if stepper is not None:
            scores = stepper.step(rows)
        else:
            scores = _read(model, rows, begun, read if cached else 0, caches)
            if caches is not None and even and is_plain(model):
                stepper = Stepper(model, caches)
                stepper = DraftingStepper(stepper, drafts) if len(rows) == 1 else stepper
        read = longest - begun
        tokens = sampling.choose(scores, rows, generator).tolist()
        for row, token in zip(rows, tokens, strict=True):
            row.append(token)
        yield tokens


def _read(
    model: Transformer,
    rows: Sequence[Sequence[int]],
    begun: int,
    read: int,
    caches: Sequence[KVCache] | None,
) -> Tensor:
    """The scores (batch, vocabulary) after all tokens; those that caches hold are not read."""
    ids, padding = _padded(rows, model.token_embedding.weight.device)
    passed = (padding - begun).relu() if int(padding.max()) else None
    states = model.states(ids[:, begun + read :], caches, passed)
    return model.logits_of(states[:, -1])


def _padded(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """(batch, token), and how many at the start of each row are none."""
    longest = max(map(len, rows))
    padding = [longest - len(row) for row in rows]
    made = [[0] * more + list(row) for more, row in zip(padding, rows, strict=True)]
    return torch.tensor(made, device=device), torch.tensor(padding, device=device)
