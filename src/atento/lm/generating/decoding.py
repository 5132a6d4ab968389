"""Decoding: rows of ids, one new token each at a time, computed once."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from atento.lm.generating.sampling import Sampling
from atento.lm.transformer import Transformer

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
    device = model.token_embedding.weight.device
    context = model.config.context
    begun = 0  # rows are read from here on
    caches = model.new_caches() if cached else None
    read = 0
    while True:
        longest = max(map(len, rows))
        if longest - begun > context:
            begun, read = longest - context // 2, 0
            caches = model.new_caches() if cached else None
        ids, padding = _padded(rows, device)
        passed = (padding - begun).relu() if int(padding.max()) else None
        ids = ids[:, begun + read :] if cached else ids[:, begun:]
        scores = model.logits_of(model.states(ids, caches, passed)[:, -1])
        read = longest - begun
        tokens = sampling.choose(scores, rows, generator).tolist()
        for row, token in zip(rows, tokens, strict=True):
            row.append(token)
        yield tokens


def _padded(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """(batch, token), and how many at the start of each row are none."""
    longest = max(map(len, rows))
    padding = [longest - len(row) for row in rows]
    made = [[0] * more + list(row) for more, row in zip(padding, rows, strict=True)]
    return torch.tensor(made, device=device), torch.tensor(padding, device=device)
